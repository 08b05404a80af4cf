"""The list of skipped files: what it remembers, and what survives a killed process."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesearch.errors import StoreError
from imagesearch.images.find import FoundFile
from imagesearch.library.ledger import Ledger, parsed
from imagesearch.records import Skipped

CONDITIONS = "1.0, 200 megapixels"


def tried(path: str, *, retryable: bool = False, size: int = 5, mtime_ns: int = 7) -> tuple[FoundFile, Skipped]:
    return FoundFile(path, "/p", size, mtime_ns), Skipped(path, "damaged", retryable)


def test_it_is_on_disk_after_every_batch(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "c.jsonl"
    ledger = Ledger(file)
    ledger.add([tried("/p/a.jpg"), tried("/p/\udce9\n.jpg", retryable=True)], CONDITIONS)
    assert list(Ledger(file)) == list(ledger)
    assert [skip.path for skip in Ledger(file)] == ["/p/a.jpg", "/p/\udce9\n.jpg"]


def test_half_a_line_of_a_killed_process_costs_one_entry(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    Ledger(file).add([tried("/p/a.jpg"), tried("/p/b.jpg")], CONDITIONS)
    file.write_bytes(file.read_bytes()[:-20])
    assert [skip.path for skip in Ledger(file)] == ["/p/a.jpg"]


def test_later_lines_win_and_saving_tidies(tmp_path: Path) -> None:
    file = tmp_path / "ledgers" / "c.jsonl"
    ledger = Ledger(file)
    ledger.add([tried("/p/a.jpg", size=1)], CONDITIONS)
    ledger.add([tried("/p/a.jpg", size=2)], CONDITIONS)
    assert Ledger(file).settled(FoundFile("/p/a.jpg", "/p", 2, 7), CONDITIONS)
    ledger.save()
    assert len(file.read_text().splitlines()) == 1
    ledger.remove(["/p/a.jpg", "/p/never"])
    ledger.save()
    assert not file.exists()
    assert list(file.parent.iterdir()) == []


def test_depleted_folders_are_on_disk_before_saving_and_until_they_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    ledger = Ledger(file)
    ledger.add([tried("/p/a.jpg")], CONDITIONS)
    ledger.note_depleted(frozenset({"/p", "/m/\udce9\n"}))
    assert Ledger(file).depleted == {"/p", "/m/\udce9\n"}
    ledger.note_depleted(frozenset({"/p"}))
    ledger.save()
    ledger.remove(["/p/a.jpg"])
    ledger.save()
    assert (Ledger(file).depleted, len(Ledger(file))) == ({"/p"}, 0)
    ledger.note_depleted(frozenset())
    ledger.save()
    assert not file.exists()


@pytest.mark.parametrize("line", ["5", "[]", "null", '{"depleted": 5}', '{"depleted": "/p", ', "{}"])
def test_lines_that_mean_nothing_are_left_out(tmp_path: Path, line: str) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text(line + "\n")
    assert (len(Ledger(file)), Ledger(file).depleted, parsed(line)) == (0, frozenset(), None)


def test_what_is_settled() -> None:
    ledger = Ledger()
    ledger.add([tried("/p/a.jpg"), tried("/p/closed.jpg", retryable=True)], CONDITIONS)
    same = FoundFile("/p/a.jpg", "/p", 5, 7)
    assert ledger.settled(same, CONDITIONS) == Skipped("/p/a.jpg", "damaged")
    assert ledger.settled(same, "2.0, 200 megapixels") is None
    assert ledger.settled(FoundFile("/p/a.jpg", "/p", 6, 7), CONDITIONS) is None
    assert ledger.settled(FoundFile("/p/a.jpg", "/p", 5, 8), CONDITIONS) is None
    assert ledger.settled(FoundFile("/p/closed.jpg", "/p", 5, 7), CONDITIONS) is None


def test_what_was_not_found_is_forgotten_below_its_folders_only() -> None:
    ledger = Ledger()
    ledger.add([tried(path) for path in ("/p/a.jpg", "/p/b.jpg", "/p/shut/c.jpg", "/pp/d.jpg")], CONDITIONS)
    ledger.remove(ledger.not_found({"/p/a.jpg"}, ["/p"], ["/p/shut"]))
    assert [skip.path for skip in ledger] == ["/p/a.jpg", "/p/shut/c.jpg", "/pp/d.jpg"]


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write the list of skipped files .*file exists"):
        Ledger(tmp_path / "file" / "c.jsonl").add([tried("/p/a.jpg")], CONDITIONS)


def test_beside_a_database_that_is_a_file_there_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "old.db").touch()  # as Milvus Lite 2 wrote them; the database itself says so
    assert len(Ledger(tmp_path / "old.db" / "imagesearch-skipped" / "photos.jsonl")) == 0
