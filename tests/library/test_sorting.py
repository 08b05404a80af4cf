"""Pictures filed by label: nothing is overwritten, and undo gives back the tree that there was."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.library.sorting import UNSURE, FolderNames, How, Sorter
from imagesearch.library.undo_file import undo

from ..conftest import REPOSITORY
from .killing import refusing, snapshot

HOWS: tuple[How, ...] = ("copy", "link", "move")

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
labels = st.none() | st.text(max_size=12) | st.sampled_from(["Dog", "dog", "a/b", "a_b", "..", "unsure", "nul"])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Four pictures, two of one name."""
    root = tmp_path / "tree"
    for number, name in enumerate(("a.jpg", "b.jpg", "sub/a.jpg", "sub/c.jpg")):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"picture %d" % number)
        os.utime(file, ns=(10**18, 10**18 + number))
    return root


def file_all(root: Path, into: Path, how: How, label: str | None = "dog") -> Path:
    with Sorter(into, how) as sorter:
        for path in sorted(root.rglob("*.jpg")):
            assert sorter.file(path, label).target is not None
    assert sorter.undo_file is not None
    return sorter.undo_file


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.tuples(st.sampled_from(["", "x", "x/y"]), names), st.tuples(st.binary(max_size=9), labels)),
    st.sampled_from(HOWS),
    st.booleans(),
)
def test_undo_restores_the_tree_exactly(
    files: dict[tuple[str, str], tuple[bytes, str | None]], how: How, inside: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place, "tree")
        (root / "x" / "y").mkdir(parents=True)
        chosen: list[tuple[Path, str | None]] = []
        for (folder, name), (content, label) in files.items():
            path = root / folder / name
            if not path.exists():
                path.write_bytes(content)
                chosen.append((path, label))
        before = snapshot(root)
        with Sorter(root / "sorted" if inside else Path(place, "sorted"), how) as sorter:
            filed = [sorter.file(path, label) for path, label in chosen]
        targets = [item.target for item in filed]
        assert None not in targets
        assert len(set(targets)) == len(targets)
        for (path, _), item in zip(chosen, filed, strict=True):
            assert Path(str(item.target)).read_bytes() == files[_key(path, root)][0]
            assert path.exists() == (how != "move")
        if sorter.undo_file is not None:
            report = undo(sorter.undo_file)
            assert report.kept == ()
            assert (report.restored, report.removed) == ((len(chosen), 0) if how == "move" else (0, len(chosen)))
        assert snapshot(root) == before
        assert not Path(place, "sorted").exists()


def _key(path: Path, root: Path) -> tuple[str, str]:
    folder = os.fspath(path.parent.relative_to(root))
    return "" if folder == "." else folder, path.name


@given(st.lists(labels, unique=True))
def test_folders_are_safe_and_different(wanted: list[str | None]) -> None:
    folders = FolderNames()
    assert [folders[label] for label in ("caf\u00e9", "cafe\u0301")] == ["caf\u00e9", "cafe\u0301-2"]
    found = [folders[label] for label in wanted]
    assert len({name.casefold() for name in found}) == len(wanted)
    assert found == [folders[label] for label in wanted]
    for name in found:
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert name == name.strip() != ""
        assert name[0] != "."
        assert name[-1] != "."
        assert len(name.encode()) < 200
        assert name.split(".")[0].casefold() not in ("con", "nul", "com1")


@pytest.mark.parametrize("how", HOWS)
def test_nothing_is_overwritten(tree: Path, tmp_path: Path, how: How) -> None:
    into = tmp_path / "out"
    (into / "dog").mkdir(parents=True)
    (into / "dog" / "a.jpg").write_text("mine")
    before = snapshot(tmp_path)
    journal = file_all(tree, into, how)
    assert sorted(os.listdir(into / "dog")) == ["a-2.jpg", "a-3.jpg", "a.jpg", "b.jpg", "c.jpg"]
    assert (into / "dog" / "a.jpg").read_text() == "mine"
    assert undo(journal).kept == ()
    assert snapshot(tmp_path) == before


def test_pictures_without_a_label_are_unsure(tree: Path, tmp_path: Path) -> None:
    file_all(tree, tmp_path / "out", "copy", None)
    assert len(os.listdir(tmp_path / "out" / UNSURE)) == 4


def test_copies_keep_their_times(tree: Path, tmp_path: Path) -> None:
    file_all(tree / "sub", tmp_path / "out", "copy")
    assert (tmp_path / "out" / "dog" / "c.jpg").stat().st_mtime_ns == (tree / "sub" / "c.jpg").stat().st_mtime_ns


def test_one_that_lies_there_already_stays(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tree / "sub").rename(tmp_path / "out" / "dog")
    with Sorter(tmp_path / "out", "move") as sorter:
        filed = sorter.file(tmp_path / "out" / "dog" / "a.jpg", "dog")
    assert (filed.target, filed.problem) == (filed.source, "is there already")
    assert sorter.undo_file is None


@pytest.mark.parametrize("how", ["copy", "link"])
def test_what_an_earlier_run_filed_stays_as_it_is(tree: Path, tmp_path: Path, how: How) -> None:
    (tree / "same.jpg").write_bytes((tree / "a.jpg").read_bytes())
    into, journal = tmp_path / "out", file_all(tree, tmp_path / "out", how)
    before = snapshot(into)
    with Sorter(into, how) as sorter:
        found = [sorter.file(path, "dog") for path in sorted(tree.rglob("*.jpg"))]
        assert {item.problem for item in found} == {"is there already"}
        assert len({item.target for item in found}) == 5
        assert sorter.undo_file is None
    assert snapshot(into) == before
    (into / "dog" / "b.jpg").unlink()
    (into / "dog" / "b.jpg").write_text("of the same size"[: (tree / "b.jpg").stat().st_size])
    with Sorter(into, how) as sorter:
        again = sorter.file(tree / "b.jpg", "dog")
    assert (again.target, again.problem) == (str(into / "dog" / "b-2.jpg"), "")
    assert sorter.undo_file is not None
    assert undo(sorter.undo_file).kept == ()
    assert [skip.path for skip in undo(journal).kept] == [str(into / "dog" / "b.jpg")]


def test_a_symbolic_link_is_not_moved(tree: Path, tmp_path: Path) -> None:
    (tree / "link.jpg").symlink_to("a.jpg")
    with Sorter(tmp_path / "out", "move") as sorter:
        filed = sorter.file(tree / "link.jpg", "dog")
    assert filed.target is None
    assert "symbolic link" in filed.problem
    assert (tree / "link.jpg").is_symlink()


def test_what_cannot_be_filed_holds_up_nothing(tree: Path, tmp_path: Path) -> None:
    with Sorter(tmp_path / "out") as sorter:
        assert sorter.file(tree / "gone.jpg", "dog").problem == "is not a regular file"
        assert sorter.file(tree / "a.jpg", "dog").target is not None


def test_a_folder_that_cannot_be_made(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with Sorter(tmp_path / "out") as sorter, pytest.raises(UsageError, match=r"cannot sort into .*out"):
        sorter.file(tree / "a.jpg", "dog")


class TestUndo:
    def test_a_copy_that_was_changed_stays(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "copy")
        changed = tmp_path / "out" / "dog" / "b.jpg"
        changed.write_text("retouched")
        report = undo(journal)
        assert (report.removed, [skip.path for skip in report.kept]) == (3, [str(changed)])
        assert "changed since" in report.kept[0].reason
        assert journal.exists()
        changed.unlink()
        assert undo(journal).kept == ()
        assert not (tmp_path / "out").exists()

    def test_what_was_moved_comes_back_with_its_changes(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "move")
        (tmp_path / "out" / "dog" / "b.jpg").write_text("retouched")
        assert undo(journal).restored == 4
        assert (tree / "b.jpg").read_text() == "retouched"

    def test_a_name_as_long_as_can_be_comes_back(self, tmp_path: Path) -> None:
        picture = tmp_path / "tree" / ("a" * 251 + ".jpg")
        picture.parent.mkdir()
        picture.write_bytes(b"picture")
        report = undo(file_all(tmp_path / "tree", tmp_path / "out", "move"))
        assert (report.restored, report.kept) == (1, ())
        assert list(picture.parent.iterdir()) == [picture]

    def test_nothing_is_overwritten_on_the_way_back(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "move")
        (tree / "b.jpg").write_text("another one")
        report = undo(journal)
        assert report.restored == 3
        assert "a file again" in report.kept[0].reason
        assert (tree / "b.jpg").read_text() == "another one"
        assert (tmp_path / "out" / "dog" / "b.jpg").read_bytes() == b"picture 1"

    def test_folders_that_are_gone_are_made_again(self, tree: Path, tmp_path: Path) -> None:
        before = snapshot(tree)
        journal = file_all(tree, tmp_path / "out", "move")
        (tree / "sub").rmdir()
        assert undo(journal).kept == ()
        assert snapshot(tree) == before

    def test_what_is_lost_is_told(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "move")
        (tmp_path / "out" / "dog" / "b.jpg").unlink()
        report = undo(journal)
        assert report.restored == 3
        assert "neither here nor" in report.kept[0].reason

    def test_other_files_stay(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "link")
        (tmp_path / "out" / "dog" / "mine.txt").write_text("mine")
        assert undo(journal).kept == ()
        assert [path.name for path in (tmp_path / "out").rglob("*")] == ["dog", "mine.txt"]

    @pytest.mark.parametrize(
        "text", ["x", "{}\n", '{"imagesearch": "undo", "format": 9, "made": []}\n', "half\nmore\n", "[]\n", "é\n"]
    )
    def test_another_file_is_refused(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "u.jsonl").write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match="undo file"):
            undo(tmp_path / "u.jsonl")

    def test_a_line_that_was_cut_off_counts_for_nothing(self, tree: Path, tmp_path: Path) -> None:
        before = snapshot(tmp_path)
        journal = file_all(tree, tmp_path / "out", "move")
        with journal.open("a") as more:
            more.write('{"do": "move", "target": "/etc/pas')
        assert undo(journal).kept == ()
        assert snapshot(tmp_path) == before

    @pytest.mark.parametrize("text", ["", '{"imagese', '{"imagesearch": "undo", "form'])
    def test_a_journal_that_was_hardly_begun_is_removed(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "undo.jsonl").write_text(text)
        assert undo(tmp_path / "undo.jsonl").kept == ()
        assert not (tmp_path / "undo.jsonl").exists()

    def test_a_journal_of_something_else_is_refused_as_a_whole(self, tree: Path, tmp_path: Path) -> None:
        journal = file_all(tree, tmp_path / "out", "move")
        with journal.open("a") as more:
            more.write(json.dumps({"do": "format", "target": "/"}) + "\n")
        after = snapshot(tmp_path)
        with pytest.raises(UsageError, match="damaged"):
            undo(journal)
        assert snapshot(tmp_path) == after


# --- other file systems ---


@pytest.mark.parametrize("how", HOWS)
def test_without_hard_links(tree: Path, tmp_path: Path, how: How, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(tmp_path)
    monkeypatch.setattr(os, "link", refusing(errno.EPERM))
    journal = file_all(tree, tmp_path / "out", how)
    assert len(os.listdir(tmp_path / "out" / "dog")) == 4
    assert undo(journal).kept == ()
    assert snapshot(tmp_path) == before


def test_moving_to_another_disk(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which two folders are on, for links from one into the other."""
    before, link = snapshot(tmp_path), os.link

    def between_disks(source: str, target: str) -> None:
        if os.path.relpath(source, tree).startswith("..") != os.path.relpath(target, tree).startswith(".."):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    monkeypatch.setattr(os, "link", between_disks)
    journal = file_all(tree, tmp_path / "out", "move")
    assert snapshot(tree) == {"sub": None}
    assert len(os.listdir(tmp_path / "out" / "dog")) == 4
    assert undo(journal).kept == ()
    assert snapshot(tmp_path) == before


# --- killed ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("links", ["links", "no links"])
def test_killed_at_every_step(tmp_path: Path, how: How, links: str) -> None:
    """In a process of its own: forking one that has loaded networks takes long."""
    program = [sys.executable, "-m", "tests.library.killing", str(tmp_path / "place"), how, links]
    run = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout) > (6 if how == "link" else 10)
