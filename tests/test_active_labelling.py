"""Labelling a collection by hand: what is asked, what is kept, and what survives."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from imagesearch import ImageSearch, LabelledMeanwhileError, UsageError, active_labelling
from imagesearch.active_labelling import LabelSession
from imagesearch.library import refresh
from imagesearch.library.annotations import Annotations, annotate
from imagesearch.library.hand_labels import labelled, tidy_label
from imagesearch.library.plan import Plan, make_plan
from imagesearch.records import ImageRecord, parse_annotations

from .conftest import draw_picture


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Twelve pictures and a copy of one of them, indexed."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(12):
        draw_picture(number).save(folder / ("sub" if number >= 8 else "") / f"{number}.png")
    shutil.copy(folder / "3.png", folder / "sub" / "copy.png")
    place = tmp_path / "photos.db"
    with ImageSearch({"milvus": {"uri": str(place)}}) as images:
        images.index(folder)
    return place


@pytest.fixture
def images(database: Path) -> Iterator[ImageSearch]:
    with ImageSearch({"milvus": {"uri": str(database)}}) as opened:
        yield opened


def annotations(images: ImageSearch) -> dict[str, dict[str, object]]:
    return {
        Path(record.path).name: dict(parse_annotations(record.annotations))
        for records in images.collection().scan()
        for record in records
        if record.annotations
    }


def test_labels_are_kept_as_annotate_keeps_them_and_a_later_session_goes_on(images: ImageSearch) -> None:
    with LabelSession(images, ["even", "odd"]) as session:
        assert session.progress().pictures == 12
        for question in session.next(4):
            session.give(question.id, "even" if int(Path(question.path).stem) % 2 == 0 else "odd")
        kept = annotations(images)
    assert len({name for name in kept if name != "copy.png"}) == 4
    assert all(said.keys() == {"label"} for said in kept.values())
    with LabelSession(images) as later:
        assert set(later.labels) == {said["label"] for said in kept.values()}
        assert later.progress().labelled == 4
        asked = [Path(question.path).name for question in later.next(100)]
    assert len(asked) == 8
    assert not set(asked) & set(kept)


def test_copies_share_a_label_and_are_one_question(images: ImageSearch) -> None:
    with LabelSession(images) as session:
        question = next(one for one in session.next(100) if Path(one.path).name == "3.png")
        assert question.copies == 2
        session.give(question.id, "  a   cat ")
    assert annotations(images) == {"3.png": {"label": "a cat"}, "copy.png": {"label": "a cat"}}


def test_undo_gives_back_what_was_there(images: ImageSearch) -> None:
    table = Path("table.csv")
    keys = {Path(record.path).name: record.id for records in images.collection().scan() for record in records}
    table.write_text("name,rating,label,label_score\n0.png,5,dog,0.75\n1.png,4,,\n")
    images.annotate(table, "name")
    before = annotations(images)
    with LabelSession(images) as session:
        assert session.progress().labelled == 0  # a model's label is none
        session.give(keys["0.png"], "cat")
        session.give(keys["0.png"], "lion")
        session.skip(keys["1.png"])
        assert annotations(images)["0.png"] == {"rating": 5, "label": "lion"}
        assert all(one.id != keys["1.png"] for one in session.next(100))
        undone = [session.undo() for _ in range(4)]
        assert [one and one.id for one in undone] == [keys["1.png"], keys["0.png"], keys["0.png"], None]
        assert session.next()[0].id == keys["0.png"]
    assert annotations(images) == before


def test_undo_leaves_what_somebody_else_said_since(images: ImageSearch) -> None:
    with LabelSession(images) as session, LabelSession(images) as other:
        question = session.next()[0]
        assert other.next()[0] == question
        session.give(question.id, "cat")
        with pytest.raises(UsageError, match="somebody else has labelled it 'cat'"):
            other.give(question.id, "tiger")
        assert other.next()[0] != question
        other.give(question.id, "tiger")
        session.undo()
    assert annotations(images)[Path(question.path).name] == {"label": "tiger"}


def test_a_skip_is_taken_back_only_where_nobody_has_labelled_the_picture_since(images: ImageSearch) -> None:
    with images.label_session(["cat"]) as ours, images.label_session(["cat"]) as theirs:
        (asked,) = ours.next()
        step = ours.skip(asked.id)
        theirs.give(asked.id, "cat")
        ours.next(1000)  # so that it is known here
        ours.labelled()
        with pytest.raises(LabelledMeanwhileError):
            ours.undo(step)
        assert asked.id not in [one.id for one in ours.next(1000)]
        assert ours.undo(step) is None


def test_only_pictures_below_a_folder(images: ImageSearch, tmp_path: Path) -> None:
    with LabelSession(images, under=tmp_path / "pictures" / "sub") as session:
        asked = {Path(one.path).name for one in session.next(100)}
        assert asked == {"8.png", "9.png", "10.png", "11.png", "copy.png"}
        outside = next(
            record.id
            for records in images.collection().scan()
            for record in records
            if record.path.endswith("0.png") and not record.path.endswith("10.png")
        )
        with pytest.raises(UsageError, match="no picture"):
            session.give(outside, "cat")
    with pytest.raises(UsageError, match="no pictures below"):
        LabelSession(images, under="elsewhere")


def test_suggestions_come_from_what_was_said(images: ImageSearch) -> None:
    with LabelSession(images, ["a", "b"]) as session:
        assert session.next()[0].suggestions == ()
        first, second, *_ = session.next(2)
        session.give(first.id, "a")
        session.give(second.id, "b")
        suggested = session.next()[0].suggestions
        assert {one.label for one in suggested} == {"a", "b"}
        assert suggested[0].score >= suggested[1].score
        assert sum(one.score for one in suggested) == pytest.approx(1, abs=1e-3)


def test_labels_of_two_sessions_add_up(database: Path) -> None:
    """Each in a thread with an ImageSearch of its own, which lets go of the file between two labels."""
    given: dict[int, str] = {}
    refused: list[str] = []

    def label(name: str) -> None:
        with (
            ImageSearch({"milvus": {"uri": str(database)}}) as images,
            LabelSession(images, release=True) as session,
        ):
            while list(given.values()).count(name) < 4:
                question = session.next()[0]
                try:
                    session.give(question.id, name)
                except UsageError as error:  # asked of both at once, and the other was first
                    refused.append(str(error))
                else:
                    assert question.id not in given
                    given[question.id] = name

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(label, ("one", "other")))
    assert all("somebody else has labelled it" in text for text in refused)
    with ImageSearch({"milvus": {"uri": str(database)}}) as images:
        records, _ = images.collection().fetch(list(given))
        kept = {record.id: parse_annotations(record.annotations)["label"] for record in records}
    assert kept == given
    assert len(given) == 8


def test_a_killed_process_loses_nothing(database: Path) -> None:
    program = f"""
    import os
    from imagesearch import ImageSearch
    from imagesearch.active_labelling import LabelSession
    images = ImageSearch({{"milvus": {{"uri": {str(database)!r}}}}})
    session = LabelSession(images)
    for question in session.next(3):
        session.give(question.id, "kept")
    os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False, timeout=60)
    assert done.returncode != 0
    with ImageSearch({"milvus": {"uri": str(database)}}) as images, LabelSession(images) as session:
        assert session.progress().labels == {"kept": 3}


def test_the_next_sample_comes_when_one_is_done(images: ImageSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagesearch.active_labelling.MOST", 5)
    with LabelSession(images) as session:
        asked = []
        while found := session.next():
            asked.append(found[0].id)
            session.give(found[0].id, str(len(asked) % 2))
    assert len(set(asked)) == len(asked) == 12


def test_files_and_labels(images: ImageSearch) -> None:
    with LabelSession(images) as session:
        question = next(one for one in session.next(100) if Path(one.path).name == "3.png")
        session.give(question.id, "x")
        assert [(Path(path).name, label) for path, label in session.labelled()] == [
            ("3.png", "x"),
            ("copy.png", "x"),
        ]


def test_accents_within_or_behind_letters_are_the_same_label(images: ImageSearch) -> None:
    with LabelSession(images) as session:
        for question, label in zip(session.next(2), ("caf\u00e9", "cafe\u0301"), strict=True):
            session.give(question.id, label)
        assert {label for _, label in session.labelled()} == {"caf\u00e9"}


@pytest.mark.parametrize("label", ["", "  ", "a\x1b[31m", "x" * 201])
def test_what_is_no_label(label: str) -> None:
    with pytest.raises(UsageError, match="cannot be a label"):
        tidy_label(label)


def test_an_unknown_picture_changes_nothing(images: ImageSearch) -> None:
    with LabelSession(images) as session:
        for act in (lambda: session.give(1, "cat"), lambda: session.skip(1)):
            with pytest.raises(UsageError, match="no picture 1"):
                act()
        assert session.undo() is None
        gone = session.next()[0]
        images.collection().delete([gone.id])
        with pytest.raises(UsageError, match="in the collection any more"):
            session.give(gone.id, "cat")
        assert session.undo() is None


def test_pictures_come_and_go_meanwhile(images: ImageSearch, tmp_path: Path) -> None:
    """Those that are gone are not asked for, and a copy with an earlier path is one more of the same content."""
    folder = tmp_path / "pictures"
    with LabelSession(images) as session:
        question = session.next()[0]
        skipped = next(one for one in session.next(3) if one != question)
        session.skip(skipped.id)
        (folder / "7.png").unlink()
        shutil.copy(question.path, folder / "0-copy.png")
        draw_picture(50).save(folder / "new.png")
        images.index(folder, prune=True)
        asked = session.next(100)
        names = {Path(one.path).name for one in asked}
        assert "new.png" in names
        assert "7.png" not in names
        assert skipped.path not in {one.path for one in asked}
        assert next(one.copies for one in asked if Path(one.path).name == "0-copy.png") == 2
        assert session.progress().pictures == 12


def test_suggestions_stay_when_a_picture_that_waits_goes(images: ImageSearch) -> None:
    with LabelSession(images, ["a", "b"]) as session:
        first, second, _, fourth = session.next(4)
        session.give(first.id, "a")
        session.give(second.id, "b")
        images.collection().delete([fourth.id])
        assert len(session.next()[0].suggestions) == 2


def test_undo_knows_a_picture_by_the_id_that_a_copy_had_before(images: ImageSearch, tmp_path: Path) -> None:
    with LabelSession(images) as session:
        question = session.next()[0]
        shutil.copy(question.path, tmp_path / "pictures" / "0-copy.png")
        images.index(tmp_path / "pictures")
        session.next(100)  # reads the collection again
        step = session.give(question.id, "cat")
        undone = session.undo(step)
        assert undone is not None
        assert Path(undone.path).name == "0-copy.png"


def test_what_is_gone_can_be_taken_back_no_more_but_what_was_before_can(images: ImageSearch) -> None:
    with LabelSession(images) as session:
        first, second, third = session.next(3)
        session.give(first.id, "cat")
        session.give(second.id, "dog")
        session.skip(third.id)
        images.collection().delete([second.id, third.id])
        session.next(100)
        for _ in range(2):
            with pytest.raises(UsageError, match="in the collection any more"):
                session.undo()
        undone = session.undo()
        assert undone is not None
        assert undone.id == first.id
        assert session.undo() is None
    assert not any(annotations(images).values())


def test_folders_are_known_by_links_to_them(images: ImageSearch, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "pictures" / "sub")
    with LabelSession(images, under=tmp_path / "link") as session:
        assert session.progress().pictures == 5


def test_nothing_that_is_written_meanwhile_is_lost(images: ImageSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations come while a label is given: between reading the row and writing it."""
    collection = images.collection()
    with LabelSession(images) as session, ThreadPoolExecutor(1) as thread:
        question = session.next()[0]
        tables: list[Future[object]] = []

        def rate(record: ImageRecord, label: str) -> ImageRecord:
            table = Annotations("", {question.path: {"rating": 5}}, ("rating",))
            tables.append(thread.submit(annotate, collection, table))
            wait(tables, timeout=0.3)
            return labelled(record, label)

        monkeypatch.setattr(active_labelling, "labelled", rate)
        session.give(question.id, "cat")
        tables[0].result()
    assert annotations(images)[Path(question.path).name] == {"label": "cat", "rating": 5}


@pytest.mark.parametrize("way", ["forget", "prune", "damaged"])
def test_what_is_removed_meanwhile_does_not_come_back(
    images: ImageSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A picture goes while it is labelled: between reading the row and writing it."""
    with LabelSession(images) as session, ThreadPoolExecutor(1) as thread:
        question = next(one for one in session.next(100) if one.copies == 1)
        gone: list[Future[object]] = []

        def remove() -> None:
            if way == "forget":
                images.forget(question.path)
                return
            if way == "prune":
                Path(question.path).unlink()
            else:
                Path(question.path).write_bytes(b"no picture")
            images.index(tmp_path / "pictures", prune=True)

        def label_late(record: ImageRecord, label: str) -> ImageRecord:
            gone.append(thread.submit(remove))
            wait(gone, timeout=1.5)
            return labelled(record, label)

        monkeypatch.setattr(active_labelling, "labelled", label_late)
        session.give(question.id, "cat")
        gone[0].result()
    assert not images.collection().fetch([question.id])[0]


def test_a_label_given_after_a_move_was_planned_moves_along(
    images: ImageSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LabelSession(images) as session:
        question = next(one for one in session.next(100) if one.copies == 1)
        moved = Path(question.path).rename(tmp_path / "pictures" / "moved.png")

        def plan_then_label(*args: Any, **settings: Any) -> Plan:
            plan = make_plan(*args, **settings)
            session.give(question.id, "cat")
            return plan

        monkeypatch.setattr(refresh, "make_plan", plan_then_label)
        images.index(tmp_path / "pictures", prune=True)
    assert annotations(images) == {moved.name: {"label": "cat"}}
