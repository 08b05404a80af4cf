"""Features files: read back as written, whole or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesearch.errors import FeaturesError
from imagesearch.library.features import FeaturesFiles, FeaturesWriter, read_features
from imagesearch.records import Fingerprint


def fingerprint(dim: int = 4, revision: str = "1") -> Fingerprint:
    return Fingerprint("toy", revision, "cls", (8, 8), dim=dim)


def vectors(rows: int, dim: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)


def write(prefix: str | Path, paths: list[str], dim: int = 4, seed: int = 0) -> FeaturesFiles:
    with FeaturesWriter(prefix, fingerprint(dim)) as writer:
        writer.append(vectors(len(paths), dim, seed), paths)
        return writer.commit()


@given(
    paths=st.lists(st.binary(min_size=1, max_size=30).map(os.fsdecode), min_size=1, max_size=12),
    dim=st.integers(1, 6),
    batch=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path: Path, paths: list[str], dim: int, batch: int) -> None:
    """Whatever bytes the names are made of, and however the rows arrived."""
    rows = vectors(len(paths), dim)
    with FeaturesWriter(tmp_path / "x", fingerprint(dim)) as writer:
        for start in range(0, len(paths), batch):
            writer.append(rows[start : start + batch], paths[start : start + batch])
        files = writer.commit()
    read = read_features(files)
    assert np.array_equal(read.vectors, rows)
    assert read.paths == paths
    assert read.fingerprint == fingerprint(dim)
    assert sorted(os.listdir(tmp_path))[-3:] == ["x_features.npy", "x_manifest.json", "x_paths.txt"]


@pytest.mark.parametrize("rows", [1, 9, 10, 99_999, 1_000_000])
@pytest.mark.parametrize("dim", [1, 7])
def test_any_program_with_numpy_can_read_the_vectors(tmp_path: Path, rows: int, dim: int) -> None:
    """The header is written before the number of rows is known, and has to fit whatever it becomes."""
    with FeaturesWriter(tmp_path / "x", fingerprint(dim)) as writer:
        writer.append(np.ones((rows, dim), np.float32), ["p"] * rows)
        files = writer.commit()
    loaded = np.load(files.features)
    assert (loaded.shape, loaded.dtype) == ((rows, dim), np.float32)
    assert loaded.min() == loaded.max() == 1


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("pets", "pets_features.npy"),
        ("pets_", "pets_features.npy"),
        ("out/pets", "out/pets_features.npy"),
        ("out/", "out/features.npy"),
        ("a b'\"🐱", "a b'\"🐱_features.npy"),
    ],
)
def test_names_without_doubled_underscore(prefix: str, name: str) -> None:
    files = write(prefix, ["a.jpg"])
    assert files.features == Path(name)
    assert files.features.is_file()
    assert "__" not in files.features.name
    assert FeaturesFiles.of_features(files.features, files.paths) == files


def test_names_of_no_file() -> None:
    for name in ("", ".", "/"):
        with pytest.raises(FeaturesError, match="is not a whole"):
            read_features(FeaturesFiles.of_features(name, name))


def test_other_programs_files_are_read(tmp_path: Path) -> None:
    """As the original wrote them: float32 rows, one path a line, no manifest."""
    rows = vectors(3, 768)
    np.save(tmp_path / "old_features.npy", rows)
    lines = "data/raw/a.jpg\ndata/raw/b c.jpg\r\n\n/abs/ü.jpg"
    (tmp_path / "old_paths.txt").write_bytes(lines.encode("utf-8-sig"))
    read = read_features(FeaturesFiles.of_features(tmp_path / "old_features.npy", tmp_path / "old_paths.txt"))
    assert read.paths == ["data/raw/a.jpg", "data/raw/b c.jpg", "/abs/ü.jpg"]
    assert np.array_equal(read.vectors, rows)
    assert read.fingerprint is None


def test_odd_line_separators_of_other_programs_are_part_of_a_name(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", vectors(2))
    (tmp_path / "p.txt").write_text("a\u2028b.jpg\nc\x0cd.jpg\n", encoding="utf-8")
    files = FeaturesFiles.of_features(tmp_path / "f.npy", tmp_path / "p.txt")
    assert read_features(files).paths == ["a\u2028b.jpg", "c\x0cd.jpg"]


class TestRefused:
    def files(self, folder: Path, rows: np.ndarray, paths: str) -> FeaturesFiles:
        np.save(folder / "f.npy", rows)
        (folder / "p.txt").write_text(paths)
        return FeaturesFiles.of_features(folder / "f.npy", folder / "p.txt")

    def test_different_lengths(self, tmp_path: Path) -> None:
        with pytest.raises(FeaturesError, match=r"f\.npy' has 3 vectors, but .*p\.txt' has 2 paths"):
            read_features(self.files(tmp_path, vectors(3), "a\nb\n"))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path: Path, value: float) -> None:
        rows = vectors(20_001)
        rows[20_000, 2] = value
        with pytest.raises(FeaturesError, match=r"f\.npy': row 20000 is not finite"):
            read_features(self.files(tmp_path, rows, "a\n" * 20_001))

    def test_beyond_single_precision(self, tmp_path: Path) -> None:
        rows = vectors(3).astype(np.float64)
        rows[1, 2] = 1e200
        with pytest.raises(FeaturesError, match=r"f\.npy': row 1 is not finite .* in single precision"):
            read_features(self.files(tmp_path, rows, "a\nb\nc\n"))

    @pytest.mark.parametrize(
        "rows", [np.zeros(4, np.float32), np.zeros((2, 2), int), np.zeros((0, 4), np.float32), np.array([["a"]])]
    )
    def test_no_matrix_of_floats(self, tmp_path: Path, rows: np.ndarray) -> None:
        with pytest.raises(FeaturesError, match=r"expected floats of shape \(pictures, dimension\)"):
            read_features(self.files(tmp_path, rows, "a\n" * len(rows)))

    @pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
    def test_no_npy_file(self, tmp_path: Path, content: bytes) -> None:
        files = self.files(tmp_path, vectors(1), "a\n")
        files.features.write_bytes(content)
        with pytest.raises(FeaturesError, match=r"f\.npy"):
            read_features(files)

    def test_truncated(self, tmp_path: Path) -> None:
        files = write(tmp_path / "x", ["a", "b", "c"])
        os.truncate(files.features, files.features.stat().st_size - 4)
        with pytest.raises(FeaturesError, match=r"not a whole \.npy file"):
            read_features(files)

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        files = self.files(tmp_path, vectors(1), "a\n")
        np.save(files.features, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(FeaturesError):
            read_features(files)

    def test_missing_files(self, tmp_path: Path) -> None:
        files = write(tmp_path / "x", ["a"])
        files.paths.unlink()
        with pytest.raises(FeaturesError, match=r"cannot read .*x_paths\.txt': no such file"):
            read_features(files)
        files.features.unlink()
        with pytest.raises(FeaturesError, match=r"no features file at .*x_features\.npy"):
            read_features(files)

    def test_another_runs_paths(self, tmp_path: Path) -> None:
        files = write(tmp_path / "x", ["a", "b"])
        files.paths.write_text("a\nc\n")
        with pytest.raises(FeaturesError, match=r"x_paths\.txt' is not the file that .*x_manifest\.json'"):
            read_features(files)

    def test_vectors_of_another_run(self, tmp_path: Path) -> None:
        """What a kill between the renames of two runs over the same pictures leaves."""
        files = write(tmp_path / "x", ["a", "b"])
        before = files.features.read_bytes()
        write(tmp_path / "x", ["a", "b"], seed=1)
        files.features.write_bytes(before)
        with pytest.raises(FeaturesError, match=r"x_features\.npy' is not the file that .*x_manifest\.json'"):
            read_features(files)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"rows": 1}', '{"fingerprint": {"model": 1}}'])
    def test_a_damaged_manifest(self, tmp_path: Path, content: str) -> None:
        files = write(tmp_path / "x", ["a"])
        files.manifest.write_text(content)
        with pytest.raises(FeaturesError, match=r"x_manifest\.json' is damaged; extract again, or delete it"):
            read_features(files)

    def test_paths_that_are_no_text(self, tmp_path: Path) -> None:
        files = self.files(tmp_path, vectors(1), "a\n")
        files.paths.write_bytes(b"caf\xe9.jpg\n")
        with pytest.raises(FeaturesError, match=r"p\.txt' is not UTF-8 text: .* at byte 3"):
            read_features(files)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class TestWholeOrNotAtAll:
    def test_leaving_without_commit_changes_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "x", ["a", "b"])
        before = content_of(tmp_path)

        def interrupted() -> None:
            with FeaturesWriter(tmp_path / "x", fingerprint()) as writer:
                writer.append(vectors(1), ["c"])
                raise RuntimeError("the network died")

        with pytest.raises(RuntimeError, match="died"):
            interrupted()
        assert content_of(tmp_path) == before

    def test_a_killed_process_leaves_the_old_files_whole(self, tmp_path: Path) -> None:
        files = write(tmp_path / "x", ["a", "b"])
        program = """
import os, sys, numpy as np
from imagesearch.records import Fingerprint
from imagesearch.library.features import FeaturesWriter
writer = FeaturesWriter(sys.argv[1], Fingerprint("toy", "2", "cls", (8, 8), dim=4))
writer.append(np.ones((100_000, 4), np.float32), ["z"] * 100_000)
os._exit(9)
"""
        run = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x")], check=False)
        assert run.returncode == 9
        assert read_features(files).paths == ["a", "b"]
        assert read_features(files).fingerprint == fingerprint()

    @pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are a matter of Unix")
    @pytest.mark.parametrize("limit", [64, 5_000])
    def test_a_full_disk_leaves_the_old_files_whole_and_nothing_else(self, tmp_path: Path, limit: int) -> None:
        """Early, and in the middle; a limit on the size of files stands for the disk's end."""
        files = write(tmp_path / "x", ["a", "b"])
        before = content_of(tmp_path)
        program = """
import resource, signal, sys, numpy as np
from imagesearch.errors import FeaturesError
from imagesearch.records import Fingerprint
from imagesearch.library.features import FeaturesWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    with FeaturesWriter(sys.argv[1], Fingerprint("toy", "2", "cls", (8, 8), dim=4)) as writer:
        for _ in range(100):
            writer.append(np.ones((100, 4), np.float32), ["z"] * 100)
        writer.commit()
except FeaturesError as error:
    print(error)
"""
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "x"), str(limit)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "cannot write" in run.stdout
        assert "x_features.npy" in run.stdout
        assert "file too large" in run.stdout
        assert content_of(tmp_path) == before
        assert read_features(files).paths == ["a", "b"]

    @pytest.mark.parametrize("failing", ["fsync", "replace"])
    def test_a_disk_that_fails_at_the_last_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        files = write(tmp_path / "x", ["a", "b"])

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with FeaturesWriter(tmp_path / "x", fingerprint(revision="2")) as writer, monkeypatch.context() as broken:
            writer.append(vectors(5), list("cdefg"))
            broken.setattr(os, failing, full)
            with pytest.raises(FeaturesError, match=r"x_features\.npy': no space left on device"):
                writer.commit()
        assert read_features(files).paths == ["a", "b"]
        assert not list(tmp_path.glob("*.tmp"))

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(FeaturesError, match=r"cannot write .*below_features\.npy"):
            FeaturesWriter(tmp_path / "file" / "below", fingerprint())
        with pytest.raises(FeaturesError, match="too long"):
            FeaturesWriter(tmp_path / ("x" * 240), fingerprint())

    def test_the_manifest_says_how_many_rows(self, tmp_path: Path) -> None:
        manifest = json.loads(write(tmp_path / "x", ["a", "b"]).manifest.read_text())
        assert manifest["rows"] == 2
        assert manifest["fingerprint"]["model"] == "toy"
