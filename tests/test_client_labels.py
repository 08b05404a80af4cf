"""Labelling through a server: whatever is done, and in whatever order, comes out as in the library."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesearch import Client, ImageSearch, ImageSearchError, LabelledMeanwhileError, LabelSession, UsageError
from imagesearch.client_labels import ServedLabelSession
from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.records import ImageRecord, parse_annotations

from .conftest import draw_picture
from .frontends.web.serving import serving


class Both(NamedTuple):
    """Two collections of the same pictures: one for the library, one behind a server."""

    images: ImageSearch
    client: Client
    served: ImageSearch
    folder: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = tmp_path_factory.mktemp("both").resolve()
    folder = place / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(25):
        draw_picture(number).save(folder / ("sub" if number >= 18 else "") / f"{number:02}.png")
    shutil.copy(folder / "03.png", folder / "sub" / "copy \udce9.png")
    server = {"allow_labels": True}
    images, served = (
        ImageSearch(config_of({"milvus": {"uri": str(place / f"{name}.db")}, "server": server}))
        for name in ("here", "there")
    )
    for library in (images, served):
        library.index(folder)
    backend = Backend(served, cache=place / "thumbnails")
    with images, serving(create_app(backend)) as at, Client(at.url) as client:
        yield Both(images, client, served, folder)


@pytest.fixture(autouse=True)
def unlabelled(both: Both) -> None:
    """Each test begins without what others have said, which may be everything."""
    for library in (both.images, both.served):
        collection = library.collection()
        for records, vectors in list(collection.scan_vectors()):
            collection.upsert(
                [replace(record, annotations=ImageRecord("").annotations) for record in records], vectors
            )


def labels_of(images: ImageSearch) -> dict[str, object]:
    return {
        record.path: parse_annotations(record.annotations).get("label")
        for records in images.collection().scan()
        for record in records
    }


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the kind of its error and its message."""
    try:
        return call()
    except ImageSearchError as error:
        return type(error), str(error)


Session = LabelSession | ServedLabelSession
# What to do, and a number that says with which picture, label or step.
Act = tuple[str, int]
ACTS = st.tuples(
    st.sampled_from(["give", "give", "give", "skip", "undo", "undo step", "next", "unknown"]), st.integers(0, 9)
)


class Labeller:
    """Does what it is told in one session; steps are told apart by their order."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.steps: list[str] = []

    def do(self, act: Act) -> Any:
        what, number = act
        if what == "next":
            return self.session.next(number)
        if what == "undo":
            return self.session.undo()
        if what == "undo step":
            return self.session.undo(self.steps[number % len(self.steps)] if self.steps else "0" * 16)
        if what == "unknown":
            return self.session.give(number, "cat")
        asked = self.session.next(3)
        if not asked:
            return None
        key = asked[number % len(asked)].id
        self.steps.append(
            self.session.skip(key) if what == "skip" else self.session.give(key, f" label  {number % 3}")
        )
        return key

    def tell(self, act: Act) -> Any:
        done = outcome(lambda: self.do(act))
        return done, self.session.labels, self.session.progress()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=st.lists(ACTS, max_size=12), below=st.booleans())
def test_the_same_as_the_library(both: Both, acts: list[Act], below: bool) -> None:
    under = both.folder / "sub" if below else None
    with (
        both.images.label_session(["label 2", "zebra"], under=under) as here,
        both.client.label_session(["label 2", "zebra"], under=under) as there,
    ):
        assert there.progress() == here.progress()
        one, other = Labeller(here), Labeller(there)
        for act in acts:
            assert other.tell(act) == one.tell(act)
        assert there.labelled() == here.labelled()
    assert labels_of(both.served) == labels_of(both.images)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda library, _: library.label_session(["cat", "  "]),
        lambda library, folder: library.label_session(under=folder / "nowhere"),
        lambda library, _: library.label_session().give(1, ""),
        lambda library, _: library.label_session().skip(1),
        lambda library, _: library.label_session().undo("0" * 16),
    ],
)
def test_the_same_errors(both: Both, wrong: Callable[[Any, Path], Any]) -> None:
    assert outcome(lambda: wrong(both.client, both.folder)) == outcome(lambda: wrong(both.images, both.folder))


def test_two_people_label_and_nobody_overwrites_the_other_unseen(both: Both) -> None:
    with both.client.label_session() as mine, both.client.label_session() as theirs:
        question = mine.next()[0]
        assert theirs.next()[0].id == question.id
        step = mine.give(question.id, "cat")
        with pytest.raises(LabelledMeanwhileError, match="somebody else has labelled it 'cat'"):
            theirs.give(question.id, "tiger")
        other = theirs.next()[0]
        assert other.id != question.id
        theirs.give(other.id, "tiger")
        taken_back = mine.undo(step)
        assert taken_back is not None
        assert taken_back.id == question.id
        assert theirs.undo(step) is None
        assert theirs.undo() is not None


def test_more_questions_than_one_request_may_ask_for(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    with both.client.label_session() as session:
        whole = session.next(100)
        monkeypatch.setattr("imagesearch.client_labels._MOST_QUESTIONS", 4)
        assert session.next(100) == whole
        assert session.next(6) == whole[:6]
        assert session.next(0) == []


def test_a_session_that_has_ended_says_so(both: Both) -> None:
    session = both.client.label_session()
    question = session.next()[0]
    session.close()
    session.close()
    for call in (session.next, lambda: session.give(question.id, "cat"), session.undo, session.labelled):
        with pytest.raises(UsageError, match="this labelling session has ended"):
            call()


def test_a_session_that_the_server_has_ended_is_closed(both: Both) -> None:
    with both.client.label_session(["cat"]) as session:
        others = [both.client.label_session(["cat"]) for _ in range(8)]  # whose place the first one had
        with pytest.raises(UsageError, match="has ended"):
            session.next()
    for other in others:
        other.close()


def test_an_error_within_a_session_is_the_one_that_is_told(both: Both) -> None:
    def interrupted() -> None:
        with both.client.label_session() as session:
            both.client._connection.delete(f"/api/v1/labelling/sessions/{session._session}")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()


def test_threads(both: Both) -> None:
    with both.client.label_session() as session, ThreadPoolExecutor(4) as threads:
        asked = session.next(8)
        steps = list(threads.map(lambda question: session.give(question.id, "thread"), asked))
        assert session.progress().labels["thread"] == len(asked)
        undone = list(threads.map(session.undo, steps))
        assert {one.id for one in undone if one} == {one.id for one in asked}
        assert session.progress().labels["thread"] == 0


def test_who_may_not_label(tmp_path: Path) -> None:
    images = ImageSearch(config_of({"milvus": {"uri": str(tmp_path / "none.db")}}))
    with (
        serving(create_app(Backend(images, cache=tmp_path))) as at,
        Client(at.url) as client,
        pytest.raises(ImageSearchError, match="only the owner of the database may label"),
    ):
        client.label_session()
