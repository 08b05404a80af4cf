"""Labelling over HTTP: who may, what comes next, what is kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import given

from imagesearch import ImageSearch
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.label_sessions import MOST_SESSIONS
from imagesearch.records import parse_annotations

from ...conftest import draw_picture
from .conftest import Gallery, config_of
from .serving import serving
from .test_contract import CHECKS, SETTINGS


@pytest.fixture
def few(tmp_path: Path) -> Iterator[Gallery]:
    """Eight pictures behind a server that lets everybody label."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        draw_picture(number).save(folder / f"{number}.png")
    settings = {"milvus": {"uri": str(tmp_path / "few.db")}, "server": {"allow_labels": True}}
    images = ImageSearch(config_of(settings))
    images.index(folder)
    backend = Backend(images, cache=tmp_path / "thumbnails")
    with serving(create_app(backend)) as server:
        yield Gallery(server, backend, folder)


def kept(few: Gallery) -> dict[str, str]:
    found = {}
    for records in few.images.collection().scan():
        for record in records:
            if label := parse_annotations(record.annotations).get("label"):
                found[str(record.id)] = str(label)
    return found


def test_label_skip_and_undo(few: Gallery) -> None:
    first = few.server.get("/api/v1/labelling").json()
    assert (len(first["questions"]), first["labels"], first["labelled"]) == (4, [], 0)
    key, other = (one["id"] for one in first["questions"][:2])
    second = few.server.post("/api/v1/labelling/labels", {"id": key, "label": " a  cat "}).json()
    assert second["labels"] == [{"label": "a cat", "pictures": 1}]
    assert second["questions"][0]["id"] == other
    assert kept(few) == {key: "a cat"}
    third = few.server.post("/api/v1/labelling/skips", {"id": other, "count": 50}).json()
    assert third["skipped"] == 1
    assert other not in [one["id"] for one in third["questions"]]
    undone = [few.server.post("/api/v1/labelling/undo", {}).json() for _ in range(3)]
    assert [one["undone"] and one["undone"]["id"] for one in undone] == [other, key, None]
    assert undone[1]["questions"][0]["id"] == key
    assert kept(few) == {}


def test_until_nothing_is_left(few: Gallery) -> None:
    state = few.server.get("/api/v1/labelling?count=1").json()
    for number in range(8):
        order = {"id": state["questions"][0]["id"], "label": "ab"[number % 2], "count": 1}
        state = few.server.post("/api/v1/labelling/labels", order).json()
        assert state["labelled"] == number + 1
    assert state["questions"] == []
    assert sorted(kept(few).values()) == ["a"] * 4 + ["b"] * 4


def test_nobody_replaces_or_takes_back_unseen_what_somebody_else_said(few: Gallery) -> None:
    mine, other = (one["id"] for one in few.server.get("/api/v1/labelling").json()["questions"][:2])
    first = few.server.post("/api/v1/labelling/labels", {"id": mine, "label": "cat"}).json()["step"]
    refused = few.server.post("/api/v1/labelling/labels", {"id": mine, "label": "dog"})
    assert refused.status == 409
    assert "somebody else has labelled it 'cat'" in refused.json()["detail"]
    assert few.server.post("/api/v1/labelling/labels", {"id": other, "label": "dog"}).status == 200
    replaced = few.server.post("/api/v1/labelling/labels", {"id": mine, "label": "dog", "replace": True})
    assert replaced.status == 200
    assert few.server.post(f"/api/v1/labelling/undo?step={first}", {}).status == 409
    assert kept(few) == {mine: "dog", other: "dog"}
    last = few.server.post(f"/api/v1/labelling/undo?step={replaced.json()['step']}", {}).json()
    assert last["undone"]["id"] == mine
    assert kept(few) == {mine: "cat", other: "dog"}


def test_who_said_something_takes_it_back_although_others_labelled_since(few: Gallery) -> None:
    mine, other = (one["id"] for one in few.server.get("/api/v1/labelling").json()["questions"][:2])
    step = few.server.post("/api/v1/labelling/labels", {"id": mine, "label": "cat"}).json()["step"]
    few.server.post("/api/v1/labelling/labels", {"id": other, "label": "dog"})
    undone = few.server.post(f"/api/v1/labelling/undo?step={step}", {}).json()
    assert undone["undone"]["id"] == undone["questions"][0]["id"] == mine
    assert kept(few) == {other: "dog"}
    again = few.server.post(f"/api/v1/labelling/undo?step={step}", {})
    assert (again.status, again.json()["undone"]) == (200, None)
    assert kept(few) == {other: "dog"}


def open_session(few: Gallery, **order: object) -> str:
    reply = few.server.post("/api/v1/labelling/sessions", order)
    assert reply.status == 201
    return str(reply.json()["id"])


def test_a_session_of_ones_own_has_its_own_labels_skips_and_steps(few: Gallery) -> None:
    own, shared = f"session={open_session(few, labels=['dog', 'cat'])}", "/api/v1/labelling"
    first = few.server.get(f"{shared}?{own}").json()
    assert [one["label"] for one in first["labels"]] == ["dog", "cat"]
    key, other = (one["id"] for one in first["questions"][:2])
    assert few.server.post(f"{shared}/skips?{own}", {"id": key}).json()["skipped"] == 1
    assert few.server.get(shared).json()["skipped"] == 0
    few.server.post(f"{shared}/labels?{own}", {"id": other, "label": "cat"})
    assert few.server.post(f"{shared}/undo", {}).json()["undone"] is None
    files = few.server.get(f"{shared}/labels").json()["files"]
    assert [one["label"] for one in files] == ["cat"]
    assert few.server.post(f"{shared}/undo?{own}&count=0", {}).json()["undone"]["id"] == other
    assert kept(few) == {}


def test_questions_in_pages(few: Gallery) -> None:
    whole = few.server.get("/api/v1/labelling?count=50").json()["questions"]
    pages = [few.server.get(f"/api/v1/labelling?count=3&offset={offset}").json() for offset in (0, 3, 6, 9)]
    assert [one for page in pages for one in page["questions"]] == whole
    assert len(whole) == 8


def test_sessions_end(few: Gallery) -> None:
    keys = [open_session(few) for _ in range(MOST_SESSIONS + 1)]
    statuses = [few.server.get(f"/api/v1/labelling?session={key}").status for key in keys]
    assert statuses == [404] + [200] * MOST_SESSIONS
    ended = [few.server.ask("DELETE", f"/api/v1/labelling/sessions/{key}").status for key in (keys[1], keys[1])]
    assert ended == [204, 404]
    reply = few.server.post(f"/api/v1/labelling/undo?session={keys[1]}", {})
    assert reply.status == 404
    assert "this labelling session has ended" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("order", "status"),
    [
        ({"id": "1", "label": "cat"}, 422),
        ({"id": "1", "label": ""}, 422),
        ({"id": "x", "label": "cat"}, 422),
        ({"label": "cat"}, 422),
    ],
)
def test_what_makes_no_sense(few: Gallery, order: dict[str, str], status: int) -> None:
    reply = few.server.post("/api/v1/labelling/labels", order)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    assert kept(few) == {}


def test_only_whom_the_settings_allow(gallery: Gallery) -> None:
    for method, path in (("GET", ""), ("POST", "/undo")):
        reply = gallery.server.ask(method, f"/api/v1/labelling{path}")
        assert reply.status == 403
        assert "--allow-labels" in reply.json()["detail"]
        assert reply.json()["type"].endswith("labels-not-allowed")
    reply = gallery.server.post("/api/v1/labelling/labels", {"id": "1", "label": "cat"})
    assert reply.status == 403
    assert gallery.server.post("/api/v1/labelling/skips", {"id": "1"}).status == 403
    assert gallery.server.post("/api/v1/labelling/sessions", {}).status == 403
    assert gallery.server.get("/api/v1/labelling/labels").status == 403
    assert gallery.server.ask("DELETE", f"/api/v1/labelling/sessions/{'0' * 32}").status == 403


def test_nothing_indexed(tmp_path: Path) -> None:
    settings = {"milvus": {"uri": str(tmp_path / "none.db")}, "server": {"allow_labels": True}}
    backend = Backend(ImageSearch(config_of(settings)), cache=tmp_path / "thumbnails")
    with serving(create_app(backend)) as server:
        assert server.get("/api/v1/labelling").status == 409
        assert server.get("/label").status == 200


def test_every_operation_answers_as_the_document_says(few: Gallery) -> None:
    """Other tests of the document run where nobody but the owner may label."""
    schema = schemathesis.openapi.from_url(f"{few.server.url}/api/v1/openapi.json")
    there = itertools.cycle(one["id"] for one in few.server.get("/api/v1/pictures").json()["pictures"])
    own = itertools.cycle([None, open_session(few), "0" * 32])
    statuses: set[tuple[str, int]] = set()
    for result in schema.include(path_regex="/labelling").get_all_operations():
        operation = result.ok()

        @SETTINGS
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            if isinstance(case.body, dict) and "id" in case.body:
                case.body["id"] = next(there)
            if "session" in case.query:
                case.query["session"] = next(own)
            reply = case.call_and_validate(checks=CHECKS)
            statuses.add((case.operation.label, reply.status_code))

        check()
    assert {status for _, status in statuses} >= {200, 201, 404, 422}
    assert ("POST /api/v1/labelling/labels", 200) in statuses
