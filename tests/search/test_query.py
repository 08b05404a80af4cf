"""Queries as values: parts, weights, regions, and what they are refused for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.search.query import Kind, Query, Region, SearchOptions

WEIGHTS = st.floats(-10, 10).filter(lambda weight: weight != 0)


def test_parts_are_put_together_with_weights() -> None:
    query = 2 * (Query.image("a.jpg") - Query.words("dog")) + Query.stored(7) * 0.5
    assert [(part.kind, part.value, part.weight) for part in query.parts] == [
        (Kind.IMAGE, "a.jpg", 2),
        (Kind.WORDS, "dog", -2),
        (Kind.STORED, 7, 0.5),
    ]
    assert str(query) == '2 x a.jpg - 2 x "dog" + 0.5 x picture 7'


@given(st.lists(WEIGHTS, min_size=1, max_size=4), WEIGHTS)
def test_multiplying_and_adding_are_linear(weights: list[float], factor: float) -> None:
    parts = [weight * Query.words(str(number)) for number, weight in enumerate(weights)]
    together = parts[0]
    for part in parts[1:]:
        together += part
    assert [part.weight for part in (factor * together).parts] == pytest.approx([factor * w for w in weights])
    assert [part.weight for part in (together - together).parts] == [*weights, *(-w for w in weights)]


def test_a_picture_is_a_query() -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    for source in ("a.jpg", b"bytes", pixels):
        (part,) = Query.of(source).parts
        assert part.value is source
    query = Query.words("dog")
    assert Query.of(query) is query


@pytest.mark.parametrize("kind", ["text", "texts", "rows", "complex", "large", "table"])
def test_vectors_are_numbers(kind: str) -> None:
    all_wrong: dict[str, Any] = {
        "text": "abc",
        "texts": ["a"],
        "rows": [[1], [2, 3]],
        "complex": [1j],
        "large": [10**400],
        "table": {"a": 1},
    }
    wrong = all_wrong[kind]
    with pytest.raises(UsageError, match="must be numbers"):
        Query.vector(wrong)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (Query(()), "an empty query"),
        (-1 * Query.words("dog"), "at least one thing to look for"),
        (0 * Query.words("dog"), "at least one thing to look for"),
        (math.nan * Query.words("dog"), "finite"),
        (math.inf * Query.words("dog") + Query.words("cat"), "finite"),
    ],
)
def test_what_no_collection_can_answer(query: Query, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        query.check()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k = 0: the number of results must be at least 1"),
        ({"k": "3"}, "k = '3': the number of results must be a whole number"),
        ({"k": True}, "k = True"),
        ({"offset": -1}, "offset = -1: the number of results to leave out must be at least 0"),
        ({"sort": "size"}, "sort = 'size': must be score or date"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SearchOptions(**options).check()  # type: ignore[arg-type]


class TestRegion:
    @pytest.mark.parametrize("text", ["0,0,10,20", "1.5,2,3,4", "25%,0%,50%,100%"])
    def test_it_reads_what_it_prints(self, text: str) -> None:
        assert str(Region.parse(text)) == text

    @pytest.mark.parametrize(
        "text",
        ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "1%,2,3%,4%", "0,0,0,5", "-1,0,5,5", "0,0,nan,5", "0,0,inf,5"],
    )
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="region"):
            Region.parse(text)

    @given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 20), st.integers(1, 20))
    def test_pixels_and_percent_cut_the_same(self, left: int, top: int, width: int, height: int) -> None:
        image = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
        cut = Region(left, top, width, height).cut(image)
        assert cut.size == (min(width, 10 - left), min(height, 10 - top))
        assert (np.asarray(cut) == np.asarray(image)[top : top + height, left : left + width]).all()
        shares = Region(left * 10, top * 10, width * 10, height * 10, is_share=True)
        assert shares.cut(image).tobytes() == cut.tobytes()

    def test_outside_the_picture(self) -> None:
        with pytest.raises(UsageError, match="outside the picture of 10 x 5 pixels"):
            Region(10, 0, 5, 5).cut(Image.new("RGB", (10, 5)))
