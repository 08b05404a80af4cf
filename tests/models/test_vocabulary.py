"""Which labels a word means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.models.vocabulary import Vocabulary

LABELS = (
    "goldfish, Carassius auratus",
    "Maltese dog, Maltese terrier, Maltese",
    "German shepherd, German shepherd dog, German police dog, alsatian",
    "Siberian husky",
    "Eskimo dog, husky",
    "hotdog, hot dog, red hot",
    "dogsled, dog sled, dog sleigh",
    "school bus",
    "crane",
    "timber wolf, grey wolf, gray wolf, Canis lupus",
    "crane",
    "lion, king of beasts, Panthera leo",
    "sea lion",
    "academic gown, academic robe, judge's robe",
    "plunger, plumber's helper",
    "Saint Bernard, St Bernard",
    "bow tie, bow-tie, bowtie",
)


def meant(text: str) -> list[str]:
    """The labels that a text means, by their first names."""
    match = Vocabulary(LABELS).match(text)
    return [LABELS[index].partition(",")[0] for index in match.indices] if match else []


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("goldfish", ["goldfish"]),
        ("Carassius auratus", ["goldfish"]),
        ("goldfish, Carassius auratus", ["goldfish"]),
        ("  A GOLDFISH! ", ["goldfish"]),
        ("the School-Bus", ["school bus"]),
        ("schoolbus", ["school bus"]),
        ("school buses", ["school bus"]),
        ("wolves", ["timber wolf"]),
        ("crane", ["crane", "crane"]),
        ("judges robe", ["academic gown"]),
        ("judge's robes", ["academic gown"]),
        ("hot dog", ["hotdog"]),
        ("hotdogs", ["hotdog"]),
        ("bow-tie", ["bow tie"]),
        ("saint bernards", ["Saint Bernard"]),
    ],
)
def test_a_name_in_any_form(text: str, labels: list[str]) -> None:
    assert meant(text) == labels


def test_a_kind_has_all_that_end_in_it_but_no_longer_words() -> None:
    match = Vocabulary(LABELS).match("dog")
    assert match is not None
    assert match.is_kind
    # Whether a hot dog is one is not for names to say: see words.py.
    assert meant("dogs") == meant("dog") == ["Maltese dog", "German shepherd", "Eskimo dog", "hotdog"]


def test_what_is_called_so_in_the_first_place_comes_before_its_kind() -> None:
    assert meant("lion") == ["lion"]
    assert meant("husky") == ["Siberian husky", "Eskimo dog"]  # of neither it is the first name


def test_a_word_within_names_is_better_than_none() -> None:
    assert meant("school") == ["school bus"]
    assert meant("German") == ["German shepherd"]
    assert meant("ship") == []  # within "shepherd" it is no word


@pytest.mark.parametrize(
    ("text", "known_as"),
    [
        ("goldfsh", "goldfish"),
        ("golfdish", "goldfish"),
        ("goldfissh", "goldfish"),
        ("school bsu", "school bus"),
        ("Siberian huskey", "siberian husky"),
        ("plungers", None),
        ("plungre", "plunger"),
    ],
)
def test_a_misspelt_word_is_taken_for_the_nearest(text: str, known_as: str | None) -> None:
    match = Vocabulary(LABELS).match(text)
    assert match is not None
    assert match.known_as == known_as


@pytest.mark.parametrize("text", ["spaceship", "dig", "brane", "", "...", "the", "kubernetes"])
def test_other_words_are_unknown(text: str) -> None:
    """Also those that are one letter from a short name, or begin otherwise."""
    assert Vocabulary(LABELS).match(text) is None


def test_the_nearest_are_names_that_are_known() -> None:
    vocabulary = Vocabulary(LABELS)
    nearest = vocabulary.nearest("school bag")
    assert nearest[0] == "school bus"
    assert all(vocabulary.match(name) is not None for name in nearest)
    assert vocabulary.nearest("xyzxyzxyz") == []


WORDS = st.text("abcdeiosy", min_size=2, max_size=7)
NAMES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
LISTS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map(", ".join), min_size=1, max_size=8)


@given(LISTS, st.data())
def test_every_label_is_found_by_its_first_name(labels: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(labels) - 1))
    match = Vocabulary(labels).match(labels[index].partition(",")[0])
    assert match is not None
    assert match.known_as is None
    assert index in match.indices


@given(LISTS, NAMES)
def test_case_punctuation_and_spaces_do_not_matter(labels: list[str], text: str) -> None:
    vocabulary = Vocabulary(labels)
    assert vocabulary.match(f"  {text.upper().replace(' ', ' - ')}?") == vocabulary.match(text)
