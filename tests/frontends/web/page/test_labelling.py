"""Labelling on the page: by keys and by buttons, what is said of it, and that it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import Site
from .steps import expect, is_loaded

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = in_chromium


@pytest.fixture
def labelling(page: Page, gallery_site: Site) -> Iterator[Page]:
    """The page, before anything has a label; afterwards everything is taken back."""
    page.goto("/label")
    is_loaded(page.locator("#picture"))
    yield page
    while gallery_site.server.post("/api/v1/labelling/undo", {}).json()["undone"]:
        pass
    assert not labels_of(gallery_site)


def labels_of(site: Site) -> dict[str, str]:
    return {one["path"]: one["annotations"]["label"] for one in site.pictures() if "label" in one["annotations"]}


def test_keys_give_labels(labelling: Page, gallery_site: Site) -> None:
    page, progress = labelling, labelling.locator("#progress")
    first = page.locator("#name").text_content()
    page.keyboard.press("n")
    page.keyboard.type("round")
    page.keyboard.press("Enter")
    expect(progress).to_contain_text("1 of")
    expect(page.locator("#live")).to_contain_text(f"{first} is round. Next: ")
    page.keyboard.press("n")
    page.keyboard.type("square")
    page.keyboard.press("Enter")
    expect(progress).to_contain_text("2 of")
    page.keyboard.press("2")
    expect(progress).to_contain_text("3 of")
    page.keyboard.press("Enter")  # the most probable one
    expect(progress).to_contain_text("4 of")
    page.keyboard.press("9")  # of no label
    page.keyboard.press("s")
    expect(progress).to_contain_text("4 of")
    expect(progress).to_contain_text("1 skipped")
    page.keyboard.press("u")
    expect(progress).not_to_contain_text("skipped")
    page.keyboard.press("u")
    expect(progress).to_contain_text("3 of")
    expect(page.locator("#live")).to_contain_text("Taken back.")
    assert sorted(labels_of(gallery_site).values()) == ["round", "square", "square"]


def test_buttons_keep_the_focus_and_the_expected_accuracy_is_drawn(labelling: Page, gallery_site: Site) -> None:
    page = labelling
    for number, label in enumerate(("round", "square"), start=1):
        page.get_by_label("Another label").fill(label)
        page.get_by_role("button", name="Add").click()
        expect(page.locator("#progress")).to_contain_text(f"{number} of")  # its button may be there from before
    for number in range(3, 9):
        page.get_by_role("button", name="round" if number % 2 else "square").click()
        expect(page.locator("#progress")).to_contain_text(f"{number} of")
    expect(page.get_by_role("button", name="square")).to_be_focused()
    expect(page.locator("#expected")).to_contain_text("Expected accuracy")
    expect(page.get_by_role("img", name="Expected accuracy")).to_be_visible()
    page.reload()
    expect(page.locator("#progress")).to_contain_text("8 of")
    assert len(labels_of(gallery_site)) == 8


def test_answers_can_be_taken_back_after_the_page_was_loaded_again(labelling: Page, gallery_site: Site) -> None:
    page, progress = labelling, labelling.locator("#progress")
    for number, label in enumerate(("round", "square"), start=1):
        page.get_by_label("Another label").fill(label)
        page.keyboard.press("Enter")
        expect(progress).to_contain_text(f"{number} of")
    skipped = str(page.locator("#name").text_content())
    page.keyboard.press("s")
    expect(progress).to_contain_text("1 skipped")
    page.reload()
    expect(progress).to_contain_text("2 of")
    page.keyboard.press("u")
    expect(progress).not_to_contain_text("skipped")
    expect(page.locator("#name")).to_have_text(skipped)
    for number in (1, 0):
        page.keyboard.press("u")
        expect(progress).to_contain_text(f"{number} of")
    page.keyboard.press("u")
    expect(page.get_by_text("There is nothing to take back.")).to_be_visible()
    assert not labels_of(gallery_site)


def test_two_people_take_back_what_they_said_themselves(
    labelling: Page, gallery_site: Site, new_page: NewPage
) -> None:
    mine, other = labelling, new_page(locale="en-GB")
    names = []
    for page, label, number in ((mine, "mine", 1), (other, "theirs", 2)):
        page.goto("/label")
        is_loaded(page.locator("#picture"))
        names.append(str(page.locator("#name").text_content()))
        page.get_by_label("Another label").fill(label)
        page.keyboard.press("Enter")
        expect(page.locator("#progress")).to_contain_text(f"{number} of")
    mine.reload()
    is_loaded(mine.locator("#picture"))
    mine.keyboard.press("u")
    expect(mine.locator("#name")).to_have_text(names[0])
    assert list(labels_of(gallery_site).values()) == ["theirs"]
    mine.keyboard.press("u")
    expect(mine.get_by_text("There is nothing to take back.")).to_be_visible()
    other.keyboard.press("u")
    expect(other.locator("#name")).to_have_text(names[1])
    assert not labels_of(gallery_site)


def test_what_the_server_has_forgotten_is_no_obstacle(labelling: Page, gallery_site: Site) -> None:
    """A server that was started again knows no steps from before, but those since."""
    page = labelling
    page.evaluate("""sessionStorage.setItem("label-steps", '["0123456789abcdef", 7, "no step"]')""")
    page.reload()
    is_loaded(page.locator("#picture"))
    page.keyboard.press("s")
    expect(page.locator("#progress")).to_contain_text("1 skipped")
    page.keyboard.press("u")
    expect(page.locator("#progress")).not_to_contain_text("skipped")
    page.keyboard.press("u")
    expect(page.get_by_text("cannot be taken back any more")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("There is nothing to take back.")).to_be_visible()


def test_an_error_is_told_and_the_picture_stays(labelling: Page, complaints: Complaints) -> None:
    page = labelling
    complaints.expect("status of 503")
    problem = {"title": "Busy", "detail": "the database cannot be reached", "status": 503}
    page.route("**/api/v1/labelling/labels", lambda route: route.fulfill(status=503, json=problem))
    name = page.locator("#name").text_content()
    page.get_by_label("Another label").fill("cat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="cannot be reached")).to_be_visible()
    expect(page.locator("#name")).to_have_text(str(name))
    expect(page.get_by_label("Another label")).to_have_value("cat")


def test_a_key_that_is_held_down_answers_once(labelling: Page) -> None:
    page, progress = labelling, labelling.locator("#progress")
    page.keyboard.down("s")
    expect(progress).to_contain_text("1 skipped")
    page.keyboard.down("s")
    page.keyboard.up("s")
    page.keyboard.press("u")
    expect(progress).not_to_contain_text("skipped")


def test_the_last_answer_can_be_taken_back_where_nothing_is_left(labelling: Page) -> None:
    page = labelling

    def answer_without_questions(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "questions": []})

    page.route("**/api/v1/labelling/skips", answer_without_questions)
    name = page.locator("#name").text_content()
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_text("Nothing is left to label")).to_be_visible()
    expect(page.locator("#picture")).to_be_hidden()
    expect(page.get_by_role("button", name="Skip")).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#name")).to_have_text(str(name))
    expect(page.locator("#picture")).to_be_visible()


def test_what_somebody_else_said_meanwhile_stays_and_the_next_picture_comes(
    labelling: Page, gallery_site: Site, complaints: Complaints
) -> None:
    page = labelling
    complaints.expect("status of 409")
    name = str(page.locator("#name").text_content())
    taken = {"id": gallery_site.id_of(name), "label": "theirs"}
    assert gallery_site.server.post("/api/v1/labelling/labels", taken).status == 200
    page.get_by_label("Another label").fill("mine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="somebody else has labelled it 'theirs'")).to_be_visible()
    expect(page.locator("#name")).not_to_have_text(name)
    page.keyboard.press("u")
    expect(page.get_by_text("There is nothing to take back.")).to_be_visible()
    assert list(labels_of(gallery_site).values()) == ["theirs"]
