"""Keeping a collection like its folders, with vectors that can be computed by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagesearch.errors import ModelMismatchError, UsageError
from imagesearch.images.find import Selection
from imagesearch.library.encoding import ReadOptions
from imagesearch.library.ledger import Ledger
from imagesearch.library.plan import RefreshOptions
from imagesearch.library.refresh import index_folders
from imagesearch.records import Fingerprint
from imagesearch.reports import IndexReport, OfflineRoot
from imagesearch.stores.base import find
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

from ..conftest import draw_picture
from .conftest import COLOURS, READING, SPEC, break_some, nearest


class Library:
    """One collection that is refreshed again and again, and what happened to it."""

    def __init__(self, database: MemoryDatabase, network: Any) -> None:
        self.database, self.network, self.ledger = database, network, Ledger()
        self.progress: list[tuple[str, int, int | None]] = []

    def index(self, *roots: Path, reading: ReadOptions = READING, **options: bool) -> IndexReport:
        """Refresh, and check what always holds."""
        encoded = sum(self.network.batches)
        self.progress.clear()
        report = index_folders(
            self.database,
            SPEC,
            self.network.fingerprint,
            lambda count: self.network,
            roots,
            reading=reading,
            ledger=self.ledger,
            options=RefreshOptions(**options),
            progress=lambda *step: self.progress.append(step),
        )
        assert report.found == report.indexed + report.unchanged + len(report.skipped)
        if not report.dry_run:
            assert sum(self.network.batches) - encoded == report.indexed - report.reused
        return report

    @property
    def collection(self) -> MemoryCollection:
        return self.database.open(SPEC)

    @property
    def paths(self) -> set[str]:
        return {row.path for rows in self.collection.scan() for row in rows}

    @property
    def names(self) -> list[str]:
        return sorted(os.path.basename(path) for path in self.paths)


@pytest.fixture
def library(database: MemoryDatabase, mean_colour: Any) -> Library:
    return Library(database, mean_colour)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Ten pictures in two folders of five."""
    folder = tmp_path / "many"
    for number in range(10):
        part = folder / ("a" if number < 5 else "b")
        part.mkdir(parents=True, exist_ok=True)
        draw_picture(number).save(part / f"{number}.png")
    return folder


def counts(report: IndexReport) -> dict[str, int]:
    """Everything that is not zero."""
    names = ("found", "indexed", "reused", "unchanged", "removed")
    values = {name: getattr(report, name) for name in names} | {"skipped": len(report.skipped)}
    return {name: value for name, value in values.items() if value}


class TestNewAndChanged:
    def test_every_picture_is_found_by_its_colour(self, library: Library, colours: Path) -> None:
        report = library.index(colours)
        assert counts(report) == {"found": 3, "indexed": 3}
        assert report.collection == "c"
        for name, colour in COLOURS.items():
            assert nearest(library.collection, colour) == f"{name}.png"
        rows = {os.path.basename(row.path): row for batch in library.collection.scan() for row in batch}
        red, status = rows["red.png"], (colours / "red.png").stat()
        assert (red.root, red.width, red.height) == (str(colours), 20, 10)
        assert (red.size, red.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def test_a_second_time_nothing_is_read(
        self, library: Library, colours: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.index(colours)
        monkeypatch.setattr(os, "open", lambda path, *_: pytest.fail(f"{path} was read"))
        assert counts(library.index(colours)) == {"found": 3, "unchanged": 3}

    def test_a_changed_file_is_encoded_again(self, library: Library, colours: Path) -> None:
        library.index(colours)
        Image.new("RGB", (20, 10), (255, 255, 0)).save(colours / "red.png")
        os.utime(colours / "red.png", ns=(1, 1))
        assert counts(library.index(colours)) == {"found": 3, "indexed": 1, "unchanged": 2}
        assert library.collection.count() == 3
        assert nearest(library.collection, (255, 255, 0)) == "red.png"

    def test_a_touched_file_keeps_its_vector(self, library: Library, colours: Path) -> None:
        library.index(colours)
        os.utime(colours / "red.png", ns=(1, 1))
        assert counts(library.index(colours)) == {"found": 3, "indexed": 1, "reused": 1, "unchanged": 2}
        assert counts(library.index(colours)) == {"found": 3, "unchanged": 3}

    @pytest.mark.parametrize("seconds", [9_300_000_000, -9_300_000_000])
    def test_a_time_that_no_database_can_hold(self, library: Library, colours: Path, seconds: int) -> None:
        os.utime(colours / "red.png", (seconds, seconds))
        assert counts(library.index(colours)) == {"found": 3, "indexed": 3}
        assert counts(library.index(colours)) == {"found": 3, "unchanged": 3}

    def test_the_network_is_not_loaded_for_nothing(self, library: Library, colours: Path) -> None:
        library.index(colours)
        (colours / "red.png").rename(colours / "rouge.png")
        index_folders(library.database, SPEC, library.network.fingerprint, pytest.fail, [colours], reading=READING)
        assert library.names == ["blue.png", "green.png", "rouge.png"]

    def test_a_killed_run_goes_on_where_it_stopped(self, library: Library, picture_folder: Path) -> None:
        encode = library.network.encode

        def dies(batch: Any) -> Any:
            if len(library.network.batches) == 2:
                raise KeyboardInterrupt
            return encode(batch)

        library.network.encode = dies
        with pytest.raises(KeyboardInterrupt):
            library.index(picture_folder)
        assert library.collection.count() == 4
        library.network.encode = encode
        assert counts(library.index(picture_folder)) == {"found": 6, "indexed": 2, "unchanged": 4}

    def test_another_models_collection_is_refused(self, library: Library, colours: Path) -> None:
        library.database.create(SPEC, Fingerprint("another", "9", "cls", (8, 8), dim=3))
        with pytest.raises(ModelMismatchError, match=r"'another'.*'mean-colour'"):
            library.index(colours)
        assert library.network.prepared == 0

    def test_the_index_is_built_once(self, library: Library, colours: Path) -> None:
        library.index(colours)
        assert ("index", 3, 3) in library.progress
        library.index(colours)
        assert not [step for step in library.progress if step[0] == "index"]


class TestMoved:
    """Content that is known is never encoded again, and a file that is there is found under its path only."""

    def test_renamed_files(self, library: Library, colours: Path) -> None:
        library.index(colours)
        (colours / "red.png").rename(colours / "rouge.png")
        report = library.index(colours)
        assert counts(report) == {"found": 3, "indexed": 1, "reused": 1, "unchanged": 2}
        assert nearest(library.collection, COLOURS["red"]) == "rouge.png"
        row = next(row for rows in library.collection.scan() for row in rows if row.path.endswith("rouge.png"))
        assert (row.width, row.height, row.root) == (20, 10, str(colours))

    def test_half_of_the_folders(self, library: Library, many: Path) -> None:
        library.index(many)
        (many / "a").rename(many / "c")
        assert counts(library.index(many)) == {"found": 10, "indexed": 5, "reused": 5, "unchanged": 5}
        assert library.paths == {str(path) for path in many.rglob("*.png")}

    def test_more_than_half_within_a_folder_is_no_loss(self, library: Library, many: Path) -> None:
        library.index(many)
        (many / "a").rename(many / "c")
        (many / "b").rename(many / "d")
        report = library.index(many)
        assert counts(report) == {"found": 10, "indexed": 10, "reused": 10}
        assert report.offline == ()
        assert library.paths == {str(path) for path in many.rglob("*.png")}

    def test_a_renamed_root(self, library: Library, many: Path) -> None:
        library.index(many)
        renamed = many.rename(many.with_name("renamed"))
        assert counts(library.index(renamed)) == {"found": 10, "indexed": 10, "reused": 10}
        assert library.paths == {str(path) for path in renamed.rglob("*.png")}

    def test_into_another_root(self, library: Library, many: Path, colours: Path) -> None:
        library.index(many, colours)
        (many / "a").rename(colours / "a")
        library.index(colours)
        assert library.paths == {str(path) for root in (many, colours) for path in root.rglob("*.png")}
        assert counts(library.index(many)) == {"found": 5, "unchanged": 5}

    def test_copies_are_pictures_of_their_own(self, library: Library, colours: Path) -> None:
        library.index(colours)
        for name in ("1.png", "2.png"):
            (colours / name).write_bytes((colours / "red.png").read_bytes())
        assert counts(library.index(colours)) == {"found": 5, "indexed": 2, "reused": 2, "unchanged": 3}
        assert len(library.names) == 5

    def test_a_moved_folder_with_copies_in_it(self, library: Library, colours: Path) -> None:
        for number in range(6):
            (colours / f"copy{number}.png").write_bytes((colours / "red.png").read_bytes())
        library.index(colours)
        renamed = colours.rename(colours.with_name("renamed"))
        assert counts(library.index(renamed)) == {"found": 9, "indexed": 9, "reused": 9}
        assert library.paths == {str(path) for path in renamed.iterdir()}

    def test_one_of_two_copies_moved_and_the_other_deleted(self, library: Library, colours: Path) -> None:
        (colours / "again.png").write_bytes((colours / "red.png").read_bytes())
        library.index(colours)
        (colours / "red.png").rename(colours / "rouge.png")
        (colours / "again.png").unlink()
        report = library.index(colours)
        assert counts(report) == {"found": 3, "indexed": 1, "reused": 1, "unchanged": 2, "removed": 1}

    def test_swapped_names(self, library: Library, colours: Path) -> None:
        library.index(colours)
        (colours / "red.png").rename(colours / "x")
        (colours / "blue.png").rename(colours / "red.png")
        (colours / "x").rename(colours / "blue.png")
        for number, name in enumerate(("red.png", "blue.png")):  # their size and time may be alike
            os.utime(colours / name, ns=(number, number))
        assert counts(library.index(colours)) == {"found": 3, "indexed": 2, "reused": 2, "unchanged": 1}
        assert nearest(library.collection, COLOURS["red"]) == "blue.png"
        assert nearest(library.collection, COLOURS["blue"]) == "red.png"

    def test_a_digest_that_agrees_by_chance_is_not_believed(
        self, library: Library, colours: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.index(colours)
        Image.new("RGB", (20, 10), (255, 255, 0)).save(colours / "new.png")
        monkeypatch.setattr("imagesearch.library.snapshot.Snapshot.has_size", lambda self, size: True)
        every = [row.id for rows in library.collection.scan() for row in rows]
        monkeypatch.setattr("imagesearch.library.snapshot.Snapshot.with_content", lambda self, digest: every)
        assert counts(library.index(colours)) == {"found": 4, "indexed": 1, "unchanged": 3}
        assert nearest(library.collection, (255, 255, 0)) == "new.png"

    def test_killed_between_removing_and_inserting(
        self, library: Library, colours: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library.index(colours)
        renamed = colours.rename(colours.with_name("renamed"))
        with monkeypatch.context() as patch:
            patch.setattr(MemoryCollection, "upsert", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                library.index(renamed)
        library.index(renamed)
        assert library.paths == {str(path) for path in renamed.iterdir()}


class TestGone:
    def test_deleted_files_drop_out(self, library: Library, many: Path) -> None:
        library.index(many)
        for number in range(4):
            (many / "a" / f"{number}.png").unlink()
        assert counts(library.index(many)) == {"found": 6, "unchanged": 6, "removed": 4}
        assert len(library.names) == 6

    def test_other_folders_are_left_alone(self, library: Library, many: Path, colours: Path) -> None:
        library.index(many, colours)
        (many / "a" / "0.png").unlink()
        (colours / "red.png").unlink()
        assert counts(library.index(colours)) == {"found": 2, "unchanged": 2, "removed": 1}
        assert len(library.names) == 12
        assert counts(library.index(many / "b")) == {"found": 5, "unchanged": 5}

    def test_a_name_that_begins_alike_is_another_folder(self, library: Library, many: Path) -> None:
        (many / "ab").mkdir()
        draw_picture(77).save(many / "ab" / "77.png")
        library.index(many)
        (many / "ab" / "77.png").unlink()
        assert counts(library.index(many / "a")) == {"found": 5, "unchanged": 5}

    def test_a_file_that_becomes_damaged_loses_its_row(self, library: Library, colours: Path) -> None:
        library.index(colours)
        (colours / "red.png").write_bytes(b"no picture any more")
        assert counts(library.index(colours)) == {"found": 3, "unchanged": 2, "skipped": 1, "removed": 1}
        assert library.names == ["blue.png", "green.png"]

    def test_a_file_that_is_closed_for_a_while_keeps_its_row(
        self, library: Library, colours: Path, closed: Callable[[Path], None]
    ) -> None:
        library.index(colours)
        os.utime(colours / "red.png", ns=(1, 1))
        closed(colours / "red.png")
        assert counts(library.index(colours)) == {"found": 3, "unchanged": 2, "skipped": 1}
        assert len(library.names) == 3

    def test_what_is_excluded_now_drops_out(self, library: Library, many: Path) -> None:
        library.index(many)
        reading = replace(READING, selection=Selection(exclude=("a",)))
        report = library.index(many, reading=reading)
        assert counts(report) == {"found": 5, "unchanged": 5, "removed": 5}
        assert report.offline == ()


class TestOffline:
    def test_an_unplugged_disk_costs_nothing(self, library: Library, many: Path) -> None:
        library.index(many)
        away = many.rename(many.with_name("away"))
        report = library.index(many)
        assert counts(report) == {}
        assert report.offline == (OfflineRoot(str(many), "no such file or directory", 10),)
        assert library.collection.count() == 10
        away.rename(many)
        assert counts(library.index(many)) == {"found": 10, "unchanged": 10}

    def test_an_empty_mount_point(self, library: Library, many: Path, colours: Path) -> None:
        library.index(many, colours)
        away = many.rename(many.with_name("away"))
        many.mkdir()
        report = library.index(many, colours)
        assert counts(report) == {"found": 3, "unchanged": 3}
        assert report.offline == (OfflineRoot(str(many), "is empty", 10),)
        many.rmdir()
        away.rename(many)
        assert counts(library.index(many, colours)) == {"found": 13, "unchanged": 13}

    def test_most_pictures_lost(self, library: Library, many: Path) -> None:
        library.index(many)
        for number in range(6):
            next(many.rglob(f"{number}.png")).unlink()
        draw_picture(50).save(many / "50.png")
        report = library.index(many)
        assert counts(report) == {"found": 5, "indexed": 1, "unchanged": 4}
        assert report.offline == (OfflineRoot(str(many), "lost 6 of its 10 pictures", 6),)
        assert counts(library.index(many, prune=True)) == {"found": 5, "unchanged": 5, "removed": 6}

    def test_disks_that_take_turns_at_one_place(self, library: Library, many: Path, tmp_path: Path) -> None:
        first, second = many.rename(tmp_path / "first"), tmp_path / "second"
        second.mkdir()
        for number in range(20, 45):
            draw_picture(number).save(second / f"{number}.png")
        for plugged_in, missing in [(first, 0), (second, 10), (first, 25), (second, 10), (second, 10)]:
            plugged_in.rename(many)
            report = library.index(many)
            assert (report.removed, sum(folder.pictures for folder in report.offline)) == (0, missing)
            many.rename(plugged_in)
        assert counts(library.index(many)) == {}
        second.rename(many)
        (many / "20.png").unlink()
        reasons = [folder.reason for folder in library.index(many).offline]
        assert reasons == ["lost 11 of its 35 pictures"]
        assert library.index(many, prune=True).removed == 11
        (many / "21.png").unlink()  # nothing is left of the loss
        assert counts(library.index(many)) == {"found": 23, "unchanged": 23, "removed": 1}

    def test_a_folder_is_whole_again(self, library: Library, many: Path) -> None:
        library.index(many)
        away = many.with_name("away")
        (many / "a").rename(away)
        (many / "b" / "9.png").unlink()
        for _ in range(2):
            assert library.index(many).offline == (OfflineRoot(str(many), "lost 6 of its 10 pictures", 6),)
        away.rename(many / "a")
        draw_picture(9).save(many / "b" / "9.png")
        assert counts(library.index(many)) == {"found": 10, "indexed": 1, "reused": 1, "unchanged": 9}
        (many / "b" / "9.png").unlink()
        assert counts(library.index(many)) == {"found": 9, "unchanged": 9, "removed": 1}

    def test_prune_removes_what_is_missing(self, library: Library, many: Path, colours: Path) -> None:
        library.index(many, colours)
        many.rename(many.with_name("away"))
        report = library.index(many, prune=True)
        assert (counts(report), report.offline) == ({"removed": 10}, ())
        assert library.names == ["blue.png", "green.png", "red.png"]

    def test_copies_of_an_unplugged_disk_are_no_move(self, library: Library, many: Path, colours: Path) -> None:
        library.index(many, colours)
        for path in sorted(many.rglob("*.png"))[:4]:
            shutil.copy2(path, colours)
        many.rename(many.with_name("away"))
        report = library.index(colours)
        assert counts(report) == {"found": 7, "indexed": 4, "reused": 4, "unchanged": 3}
        assert len(library.names) == 17
        for path in sorted(many.with_name("away").rglob("*.png"))[4:]:
            shutil.copy2(path, colours)
        report = library.index(colours, many)
        assert counts(report) == {"found": 13, "indexed": 6, "reused": 6, "unchanged": 7}
        assert report.offline == (OfflineRoot(str(many), "no such file or directory", 10),)
        many.with_name("away").rename(many)
        assert counts(library.index(colours, many)) == {"found": 23, "unchanged": 23}

    def test_deleted_below_overlapping_roots(self, library: Library, many: Path) -> None:
        library.index(many, many / "a")
        (many / "a" / "0.png").unlink()
        report = library.index(many, many / "a")
        assert (counts(report), report.offline) == ({"found": 9, "unchanged": 9, "removed": 1}, ())
        library.index(many / "a")
        (many / "a" / "1.png").unlink()
        report = library.index(many)
        assert (counts(report), report.offline) == ({"found": 8, "unchanged": 8, "removed": 1}, ())

    def test_rows_behind_a_link_that_leads_nowhere_stay(self, library: Library, many: Path, colours: Path) -> None:
        (many / "link").symlink_to(colours, target_is_directory=True)
        library.index(many)
        away = colours.rename(colours.with_name("away"))
        report = library.index(many)
        assert counts(report) == {"found": 10, "unchanged": 10}
        assert report.offline == (OfflineRoot(str(many / "link"), "no such file or directory", 3),)
        away.rename(colours)
        assert counts(library.index(many)) == {"found": 13, "unchanged": 13}

    def test_a_mount_point_below_a_root(self, library: Library, many: Path) -> None:
        """What was indexed by itself once is judged by itself, even if it is a small part of the whole."""
        usb = many / "usb"
        usb.mkdir()
        draw_picture(60).save(usb / "60.png")
        library.index(usb)
        library.index(many)
        away = usb.rename(many.with_name("away"))
        usb.mkdir()
        report = library.index(many)
        assert report.offline == (OfflineRoot(str(usb), "is empty", 1),)
        usb.rmdir()
        assert library.index(many).offline == (OfflineRoot(str(usb), "no such file or directory", 1),)
        away.rename(usb)
        assert counts(library.index(many)) == {"found": 11, "unchanged": 11}

    def test_rows_below_a_closed_folder_stay(
        self, library: Library, many: Path, closed: Callable[[Path], None]
    ) -> None:
        library.index(many)
        closed(many / "a")
        report = library.index(many)
        (many / "a").chmod(0o700)
        assert counts(report) == {"found": 6, "unchanged": 5, "skipped": 1}
        assert report.skipped[0].reason == "permission denied"
        assert library.collection.count() == 10

    def test_a_folder_that_never_was_there_is_a_mistake(self, library: Library, colours: Path) -> None:
        library.index(colours)
        with pytest.raises(UsageError, match=r"cannot read .*colors': no such file"):
            library.index(colours.with_name("colors"))
        (colours / "empty").mkdir()
        with pytest.raises(UsageError, match=r"no pictures found in .*empty'"):
            library.index(colours / "empty")


class TestRoots:
    def test_overlapping_roots_and_links_give_each_picture_once(self, library: Library, many: Path) -> None:
        link = many.with_name("link")
        link.symlink_to(many, target_is_directory=True)
        (many / "a" / "up").symlink_to(many, target_is_directory=True)
        (many / "a" / "b").symlink_to(many / "b", target_is_directory=True)
        report = library.index(link, many / "b", many, many / "a" / "0.png")
        assert counts(report) == {"found": 10, "indexed": 10}
        assert library.paths == {str(path) for path in many.rglob("[0-9].png") if path.parent.parent == many}
        assert counts(library.index(many)) == {"found": 10, "unchanged": 10}
        assert counts(library.index(link)) == {"found": 10, "unchanged": 10}

    def test_a_file_named_through_a_linked_folder(self, library: Library, many: Path) -> None:
        link = many.with_name("link")
        link.symlink_to(many, target_is_directory=True)
        assert counts(library.index(link / "a" / "0.png", many)) == {"found": 10, "indexed": 10}
        assert library.paths == {str(path) for path in many.rglob("*.png")}

    def test_a_raw_file_beside_its_jpeg_is_left_out(self, library: Library, many: Path) -> None:
        (many / "0.NEF").touch()
        (many / "5.png").write_bytes((many / "b" / "5.png").read_bytes())
        (many / "5.nef").touch()
        report = library.index(many)
        assert [os.path.basename(skip.path) for skip in report.skipped] == ["0.NEF"]


class TestLedger:
    def test_broken_files_are_counted_and_stop_nothing(self, library: Library, colours: Path) -> None:
        broken = break_some(colours)
        report = library.index(colours)
        assert {os.path.basename(skip.path) for skip in report.skipped} == broken
        assert {os.path.basename(skip.path) for skip in report.skipped if skip.retryable} == {"gone.jpg"}
        assert list(library.ledger) == sorted(report.skipped, key=lambda skip: skip.path)
        encoding = [(done, total) for stage, done, total in library.progress if stage == "encode"]
        assert encoding[0] == (0, 7)
        assert encoding[-1] == (7, 7)
        assert encoding == sorted(encoding)

    def test_a_file_that_still_cannot_be_read_loads_no_network(self, library: Library, colours: Path) -> None:
        break_some(colours)
        library.index(colours)
        report = index_folders(
            *(library.database, SPEC, library.network.fingerprint, pytest.fail, [colours]),
            reading=READING,
            ledger=library.ledger,
        )
        assert len(report.skipped) == 4

    def test_hopeless_files_are_not_read_again(
        self, library: Library, colours: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        break_some(colours)
        first = library.index(colours)
        read = _files_read(monkeypatch)
        again = library.index(colours)
        assert sorted(again.skipped, key=str) == sorted(first.skipped, key=str)
        assert read == []  # gone.jpg can be tried, but there is nothing to read
        library.index(colours, retry_skipped=True)
        assert sorted(read) == ["empty.jpg", "half.png", "text.jpg"]

    def test_a_mended_file_is_indexed_and_forgotten(self, library: Library, colours: Path) -> None:
        break_some(colours)
        library.index(colours)
        draw_picture(3).save(colours / "text.jpg")
        (colours / "empty.jpg").unlink()
        (colours / "half.png").write_bytes((colours / "red.png").read_bytes())
        report = library.index(colours)
        assert counts(report) == {"found": 6, "indexed": 2, "reused": 1, "unchanged": 3, "skipped": 1}
        assert [os.path.basename(skip.path) for skip in library.ledger] == ["gone.jpg"]

    def test_another_limit_is_a_reason_to_try_again(self, library: Library, colours: Path) -> None:
        draw_picture(5, (2000, 1000)).save(colours / "large.png")
        small = replace(READING, max_megapixels=1.0)
        assert counts(library.index(colours, reading=small))["skipped"] == 1
        assert counts(library.index(colours)) == {"found": 4, "indexed": 1, "unchanged": 3}

    def test_skipped_files_of_other_folders_stay_listed(self, library: Library, colours: Path, many: Path) -> None:
        break_some(colours)
        library.index(colours)
        (many / "bad.png").write_text("no picture")
        library.index(many)
        assert len(library.ledger) == 5
        colours.rename(colours.with_name("away"))
        library.index(colours)
        assert len(library.ledger) == 5


class TestDryRun:
    def test_says_what_would_be_and_changes_nothing(self, library: Library, many: Path) -> None:
        (many / "bad.png").write_text("no picture")
        library.index(many)
        (many / "a" / "0.png").unlink()
        (many / "b" / "5.png").rename(many / "b" / "five.png")
        draw_picture(70).save(many / "70.png")
        before, listed = library.paths, list(library.ledger)
        encoded = list(library.network.batches)
        report = library.index(many, dry_run=True)
        assert report.dry_run
        assert counts(report) == {
            "found": 11,
            "indexed": 2,
            "reused": 1,
            "unchanged": 8,
            "removed": 1,
            "skipped": 1,
        }
        assert (library.paths, list(library.ledger), library.network.batches) == (before, listed, encoded)
        assert counts(library.index(many)) == counts(report)

    def test_makes_no_collection(self, library: Library, many: Path) -> None:
        assert counts(library.index(many, dry_run=True)) == {"found": 10, "indexed": 10}
        assert find(library.database, SPEC) is None


def _files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from now on."""
    read: list[str] = []
    original = os.open

    def spy(path: str, *options: Any) -> int:
        handle = original(path, *options)
        read.append(os.path.basename(path))
        return handle

    monkeypatch.setattr(os, "open", spy)
    return read


def test_paths_that_are_no_text_move_too(library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    draw_picture(1).save(folder / "plain.png")
    library.index(folder)
    (folder / "plain.png").rename(folder / "new\nline \udce9.png")
    assert counts(library.index(folder)) == {"found": 1, "indexed": 1, "reused": 1}
    assert library.paths == _as_text(folder.iterdir())


def _as_text(paths: Iterable[Path]) -> set[str]:
    return {str(path) for path in paths}
