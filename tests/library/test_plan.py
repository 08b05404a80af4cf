"""What a dry run says is what a run does, whatever has happened to the folders."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.images.files import content_hash
from imagesearch.images.find import Walk
from imagesearch.library import encoding, plan, refresh
from imagesearch.library.ledger import Ledger
from imagesearch.library.plan import RefreshOptions, make_plan
from imagesearch.library.refresh import index_folders
from imagesearch.records import ImageRecord
from imagesearch.reports import IndexReport
from imagesearch.stores.base import find
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

from .conftest import READING, SPEC, MeanColour

FOLDERS = ("a", "a/x", "b")
NAMES = [f"{folder}/{number}.png" for folder in FOLDERS for number in range(3)]
COLOURS = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
BROKEN = len(COLOURS)


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()


CONTENTS = [*map(png, COLOURS), b"no picture"]

names = st.sampled_from(NAMES)
folders = st.sampled_from(FOLDERS)
changes = st.one_of(
    st.tuples(st.just("write"), names, st.integers(0, BROKEN)),
    st.tuples(st.sampled_from(["move", "copy", "swap"]), names, names),
    st.tuples(st.sampled_from(["delete", "touch"]), names),
    st.tuples(st.just("rename folder"), folders, folders),
    st.tuples(st.just("remove folder"), folders),
)
runs = st.tuples(
    st.lists(changes, min_size=1, max_size=5),
    st.sampled_from([("",), ("a", "b"), ("a",), ("a/x", "b")]),
    st.booleans(),
    st.booleans(),
)


# What happens to the folders, which of them are indexed then, and whether with prune and with retry_skipped.
Step = tuple[list[tuple[Any, ...]], tuple[str, ...], bool, bool]


class Tree:
    """A small folder tree to which things happen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = 0
        for number, name in enumerate(NAMES[:5]):
            self.change("write", name, number % len(COLOURS))

    def change(self, kind: str, first: str, second: str | int = "") -> None:
        path, other = self.root / first, self.root / str(second)
        if kind == "write" and isinstance(second, int):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(CONTENTS[second])
            self._stamp(path)
        elif kind == "remove folder":
            shutil.rmtree(path, ignore_errors=True)
        elif not path.exists():
            return
        elif kind == "delete":
            path.unlink()
        elif kind == "touch":
            self._stamp(path)
        elif kind == "rename folder":
            if not other.exists() and path not in other.parents:
                other.parent.mkdir(parents=True, exist_ok=True)
                path.rename(other)
        elif kind == "copy":
            other.parent.mkdir(parents=True, exist_ok=True)
            if other != path:
                shutil.copyfile(path, other)
                self._stamp(other)
        elif kind == "move":
            other.parent.mkdir(parents=True, exist_ok=True)
            path.rename(other)
        elif other.exists() and other != path:
            path.rename(path.with_suffix(".tmp"))
            other.rename(path)
            path.with_suffix(".tmp").rename(other)
            self._stamp(path)
            self._stamp(other)

    def _stamp(self, path: Path) -> None:
        self.clock += 1
        os.utime(path, ns=(self.clock, self.clock))


class Kept:
    """A collection of such a tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.database, self.network, self.ledger = tree, MemoryDatabase(), MeanColour(), Ledger()

    def index(self, *folders: str, **options: bool) -> IndexReport:
        return index_folders(
            self.database,
            SPEC,
            self.network.fingerprint,
            lambda count: self.network,
            [self.tree.root / folder for folder in folders],
            reading=READING,
            ledger=self.ledger,
            options=RefreshOptions(**options),
        )

    def rows(self) -> dict[str, tuple[ImageRecord, bytes]]:
        collection = find(self.database, SPEC)
        if collection is None:
            return {}
        return {
            row.path: (row, vector.tobytes())
            for rows, vectors in collection.scan_vectors()
            for row, vector in zip(rows, vectors, strict=True)
        }

    def check_vectors(self, folders: tuple[str, ...]) -> None:
        """Every readable file below the folders has a row with its content and the vector of its colour."""
        rows = self.rows()
        for folder in folders:
            for path in (self.tree.root / folder).rglob("*.png"):
                content = path.read_bytes()
                if content == CONTENTS[BROKEN]:
                    assert str(path) not in rows
                    continue
                row, vector = rows[str(path)]
                assert (row.content_hash, row.mtime_ns) == (content_hash(content), path.stat().st_mtime_ns)
                with Image.open(path) as image:
                    expected = self.network.encode([self.network.preprocess(image)])[0]
                assert np.allclose(np.frombuffer(vector, np.float32), expected, atol=1e-6)


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is overwritten in another batch than the one that reads it."""
    monkeypatch.setattr(refresh, "_REWRITTEN_TOGETHER", 2)
    monkeypatch.setattr(plan, "_FETCHED_TOGETHER", 2)
    monkeypatch.setattr(encoding, "_IDENTIFIED_TOGETHER", 3)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(Tree(tmp_path / "tree"))


@pytest.mark.usefixtures("small_batches")
class TestDryRun:
    @given(history=st.lists(runs, min_size=1, max_size=4))
    @settings(max_examples=60, deadline=None)
    def test_it_says_what_the_run_does(self, history: list[Step]) -> None:
        """Everything, except that a file's damage shows only when it is decoded."""
        with tempfile.TemporaryDirectory() as place:
            kept = Kept(Tree(Path(place).resolve()))
            for changed, roots, prune, retry_skipped in history:
                for change in changed:
                    kept.tree.change(*change)
                before, listed = kept.rows(), list(kept.ledger)
                try:
                    said = kept.index(*roots, dry_run=True, prune=prune, retry_skipped=retry_skipped)
                except UsageError:
                    with pytest.raises(UsageError):
                        kept.index(*roots, prune=prune, retry_skipped=retry_skipped)
                    continue
                assert (kept.rows(), list(kept.ledger)) == (before, listed)
                did = kept.index(*roots, prune=prune, retry_skipped=retry_skipped)
                assert said.found == said.indexed + said.unchanged + len(said.skipped)
                assert as_foreseen(did, said, before) == replace(said, seconds=0.0, dry_run=False)
                kept.check_vectors(roots)

    def test_a_plan_for_nothing(self, kept: Kept) -> None:
        kept.index("")
        again = make_plan(
            find(kept.database, SPEC),
            Walk.of([kept.tree.root]),
            Ledger(),
            reading=READING,
            options=RefreshOptions(),
        )
        assert (again.found, again.unchanged) == (5, 5)
        assert not any((again.keep, again.encode, again.remove, again.offline, again.skipped, again.forget))


def as_foreseen(did: IndexReport, said: IndexReport, before: dict[str, tuple[ImageRecord, bytes]]) -> IndexReport:
    """The report without what only decoding could tell: files that the dry run counts as indexed."""
    damaged = [skip for skip in did.skipped if skip not in said.skipped]
    outdated = sum(skip.path in before for skip in damaged)
    return replace(
        did,
        indexed=did.indexed + len(damaged),
        skipped=said.skipped if set(said.skipped) | set(damaged) == set(did.skipped) else did.skipped,
        removed=did.removed - outdated,
        seconds=0.0,
    )


@pytest.mark.usefixtures("small_batches")
class TestKeptVectors:
    def test_names_that_are_shifted_by_one_encode_nothing(self, kept: Kept) -> None:
        """Each row is overwritten with the vector of the one before, most of them in another batch."""
        kept.tree.change("delete", NAMES[4])
        for name, content in zip(NAMES[:4], range(4), strict=True):
            kept.tree.change("write", name, content)
        kept.index("")
        for name, content in zip(NAMES[:5], [3, 0, 1, 2, 3], strict=True):
            kept.tree.change("write", name, content)
        encoded = len(kept.network.batches)
        assert kept.index("").reused == 5
        assert len(kept.network.batches) == encoded
        kept.check_vectors(("",))

    def test_copies_of_a_moved_file_find_its_vector(self, kept: Kept) -> None:
        kept.index("")
        for name in NAMES[5:]:
            kept.tree.change("copy", NAMES[1], name)
        kept.tree.change("delete", NAMES[1])
        encoded = len(kept.network.batches)
        report = kept.index("")
        assert (report.reused, report.removed) == (4, 0)
        assert len(kept.network.batches) == encoded
        kept.check_vectors(("",))

    def test_two_copies_that_became_three(self, kept: Kept) -> None:
        kept.index("")
        kept.tree.change("move", NAMES[0], "b/0.png")
        kept.tree.change("move", NAMES[4], "b/1.png")
        kept.tree.change("copy", "b/1.png", "b/2.png")
        report = kept.index("")
        assert (report.reused, report.removed) == (3, 0)
        assert len(kept.rows()) == 6

    def test_a_source_that_is_gone_when_it_is_read_is_encoded(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept.index("")
        kept.tree.change("move", NAMES[0], "b/new.png")
        collection = kept.database.open(SPEC)
        original = MemoryDatabase.create

        def create(database: MemoryDatabase, *options: object) -> MemoryCollection:
            for name in (NAMES[0], NAMES[4]):  # which has the same content; another process removes both
                collection.delete([ImageRecord(str(kept.tree.root / name)).id])
            return original(database, *options)  # type: ignore[arg-type]

        monkeypatch.setattr(MemoryDatabase, "create", create)
        report = kept.index("")
        assert (report.indexed, report.reused) == (1, 0)
        assert str(kept.tree.root / "b/new.png") in kept.rows()
