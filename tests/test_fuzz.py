"""Inputs that nobody thought of: whatever is in them, the answer is a result or one of our errors, and comes soon.

Each kind of input is a good one that was changed at random. ``IMAGESEARCH_FUZZ=5000 pytest tests/test_fuzz.py``
tries more of them. (Bytes of pictures: tests/images/test_files.py.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesearch.config import load_config
from imagesearch.errors import ImageSearchError
from imagesearch.library.extraction import build_collection
from imagesearch.library.features import FeaturesFiles, FeaturesWriter, read_features
from imagesearch.library.transfer import export_collection, import_collection
from imagesearch.models.hub import Checkpoint
from imagesearch.models.inspection import require_plausible
from imagesearch.models.preprocessing import read_preprocessor
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from .conftest import REPOSITORY
from .frontends.conftest import Run, run, runner

__all__ = ["run", "runner"]

EXAMPLES = int(os.environ.get("IMAGESEARCH_FUZZ", "60"))
# Seconds for one input, on a busy machine.
DEADLINE = 10_000

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=DEADLINE,
    derandomize="IMAGESEARCH_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
pytestmark = pytest.mark.timeout(3600 if "IMAGESEARCH_FUZZ" in os.environ else 120)

WORDS = [
    *(b"[", b"{", b"null", b"-1", b"1e999", b"NaN", b"\0", b"\xff"),
    *(b"&a", b"*a", b"!!python/object:os.system", b": "),
]
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "cut", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(WORDS)),
    ),
    min_size=1,
    max_size=5,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, new in changes:
        at = int(where * len(data))
        if kind == "replace":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "insert":
            data = data[:at] + new + data[at:]
        elif kind == "delete":
            data = data[:at] + data[at + len(new) :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + 40] * 50 + data[at:]
        else:
            data = data[:at]
    return data


def is_line_or_fine(action: Callable[[], object]) -> None:
    """One of our errors, which is a line for each mistake, or none."""
    said = "fine"
    try:
        action()
    except ImageSearchError as error:
        said = str(error)
    assert said
    assert all(len(line) < 2_000 for line in said.splitlines())


@fuzz
@given(changes=CHANGES)
def test_settings_files(tmp_path: Path, changes: list[tuple[str, float, bytes]]) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(changed((REPOSITORY / "config.yaml").read_bytes(), changes))
    is_line_or_fine(lambda: load_config(file, environ={}))


@fuzz
@given(section=st.sampled_from(["model", "data", "milvus", "extraction", "search", "x"]), values=VALUES)
def test_settings_from_python(section: str, values: object) -> None:
    is_line_or_fine(lambda: load_config(overrides={section: values}, environ={}))  # type: ignore[dict-item]


FINGERPRINT = Fingerprint("m", "r", "cls", (8, 8), 4)


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("export") / "a.parquet"
    collection = MemoryDatabase().create(CollectionSpec("images"), FINGERPRINT)
    rows = [
        ImageRecord(f"/p/{number}.jpg", "/p", "0" * 32, number, taken="2026-01-01T00:00:00") for number in range(9)
    ]
    collection.upsert(rows, np.eye(9, 4, dtype=np.float32) + 1)
    export_collection(collection, file)
    return file


@fuzz
@given(changes=CHANGES)
def test_exports(tmp_path: Path, export: Path, changes: list[tuple[str, float, bytes]]) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(changed(export.read_bytes(), changes))
    is_line_or_fine(lambda: import_collection(file, MemoryDatabase(), CollectionSpec("images")))


@fuzz
@given(changes=CHANGES, which=st.sampled_from(["features", "paths", "manifest"]))
def test_features_files(tmp_path: Path, changes: list[tuple[str, float, bytes]], which: str) -> None:
    files = FeaturesFiles.of_prefix(tmp_path / "a")
    with FeaturesWriter(tmp_path / "a", FINGERPRINT) as writer:
        writer.append(np.ones((2, 4), np.float32), ["/a.jpg", "/b.jpg"])
        writer.commit()
    spoilt: Path = getattr(files, which)
    spoilt.write_bytes(changed(spoilt.read_bytes(), changes))

    def build() -> None:
        build_collection(MemoryDatabase(), CollectionSpec("images"), read_features(files), FINGERPRINT)

    is_line_or_fine(build)


STARTER = REPOSITORY / "src" / "imagesearch" / "models" / "starter"


@fuzz
@given(
    changes=CHANGES,
    which=st.sampled_from(["config.json", "preprocessor_config.json", "model.safetensors"]),
    values=st.dictionaries(st.sampled_from(["size", "crop_size", "resample", "depths", "image_mean"]), VALUES),
)
def test_checkpoints(
    tmp_path: Path, changes: list[tuple[str, float, bytes]], which: str, values: dict[str, object]
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        settings_of = {**json.loads((STARTER / name).read_bytes()), **values}
        (tmp_path / name).write_text(json.dumps(settings_of))
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (tmp_path / which).write_bytes(changed((tmp_path / which).read_bytes(), changes))

    def look() -> None:
        require_plausible(Checkpoint("m", tmp_path, "r"))
        read_preprocessor(tmp_path)

    is_line_or_fine(look)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any text may be a name on the hub; waiting for its answer is tested elsewhere."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


ARGUMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    "--uri",
                    "a.db",
                    "-k",
                    "0",
                    "5",
                    "--json",
                    "--csv",
                    "--top",
                    "--model",
                    "starter",
                    "nosuch",
                    "--",
                ),
                *("missing.jpg", "--config", ".", "--save", "a.xyz", "--dry-run", "--force", "--to", "http://["),
                *("--index-type", "IVF_FLAT", "--exclude", "*", "--to-token", "t", "--collection", "é", "--yes"),
            ]
        ),
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    ),
    max_size=6,
)


@fuzz
@given(
    command=st.sampled_from(
        ["search", "classify", "info", "collections", "copy", "rename", "drop", "export", "import"]
    ),
    arguments=ARGUMENTS,
)
def test_command_lines(run: Run, command: str, arguments: list[str]) -> None:
    ran = run(command, *arguments)
    assert ran.code in (0, 1, 2)
    assert ran.out or ran.err
