"""Words as queries: which vectors they are, and what the answer says of them."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.errors import UnknownWordsError, UsageError
from imagesearch.models.heads import Head
from imagesearch.models.words import WordQuery, words_by_head, words_by_text_tower

LABELS = ("Maltese dog", "German shepherd dog", "husky dog", "hotdog, hot dog", "teapot", "kettle", "toy teapot")


def head(prototypes: np.ndarray, labels: tuple[str, ...] = LABELS) -> Head:
    return Head("mine", labels, prototypes.astype(np.float32))


def ask(text: str, prototypes: np.ndarray | None = None) -> WordQuery:
    rows = np.eye(len(LABELS)) if prototypes is None else prototypes
    (query,) = words_by_head(head(rows), [text])
    return query


def test_a_label_is_its_prototype() -> None:
    query = ask("kettles")
    assert query.labels == ("kettle",)
    assert query.vectors.dtype == np.float32
    assert query.vectors.tolist() == [np.eye(len(LABELS))[5].tolist()]
    assert query.meaning == "kettles: kettle"


def test_labels_that_share_a_word_are_alternatives() -> None:
    query = ask("dog")
    assert query.labels == LABELS[:4]
    assert query.vectors.shape == (4, len(LABELS))
    assert query.meaning == "dog: any of 4 labels: Maltese dog, German shepherd dog, husky dog, hotdog"


def crowd(size: int, seed: int) -> np.ndarray:
    """Unit vectors in all directions."""
    rows = np.random.default_rng(seed).normal(size=(size, 64))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
def test_another_sense_of_the_word_is_left_out(seed: int) -> None:
    """Three dogs look alike, the hot dog like none of them, among a hundred other things."""
    rows = crowd(107, seed)
    rows[1:3] = rows[0] + 0.5 * rows[1:3]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[3] = -rows[0]
    labels = (*LABELS, *(f"thing {number}" for number in range(100)))
    (query,) = words_by_head(head(rows, labels), ["dogs"])
    assert query.labels == LABELS[:3]
    (query,) = words_by_head(head(rows, labels), ["hot dog"])
    assert query.labels == LABELS[3:4]


def test_a_word_of_which_no_two_look_alike_keeps_them_all() -> None:
    rows = -np.ones((200, 200)) + 200 * np.eye(200)  # all as far from each other
    rows[:4] += np.eye(200)[:4] * 1000  # but these are farthest
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = (*LABELS, *(f"thing {number}" for number in range(193)))
    (query,) = words_by_head(head(rows, labels), ["dog"])
    assert len(query.labels) == 4


def test_many_labels_are_counted() -> None:
    labels = tuple(f"breed {letter} dog" for letter in "bcdefghij")
    (query,) = words_by_head(head(np.eye(9), labels), ["dog"])
    assert query.meaning.endswith("breed g dog and 3 more")
    assert len(query.labels) == 9


def test_a_misspelt_word_is_answered_and_said() -> None:
    query = ask("ketle")
    assert query.labels == ("kettle",)
    assert query.meaning == "ketle: taken as kettle (kettle)"


def test_an_unknown_word_names_the_nearest_and_what_understands_any() -> None:
    with pytest.raises(UnknownWordsError) as raised:
        ask("teacup")
    assert raised.value.nearest[0] == "teapot"
    message = str(raised.value)
    assert message.startswith("mine does not know 'teacup'; the nearest words that it knows: teapot")
    assert "'imagesearch models --words'" in message
    assert "clip, siglip2" in message
    assert "\n" not in message
    with pytest.raises(UnknownWordsError, match="'quizzical'; nor anything like it") as unlike:
        ask("quizzical")
    assert unlike.value.nearest == ()


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        ask(text)
    with pytest.raises(UsageError, match="empty"):
        words_by_text_tower(lambda texts: np.ones((len(texts), 2), np.float32), ["a", text])


def test_several_texts_keep_their_order() -> None:
    queries = words_by_head(head(np.eye(len(LABELS))), ["kettle", "teapot", "kettle"])
    assert [query.labels[0] for query in queries] == ["kettle", "teapot", "kettle"]


def test_free_text_has_one_vector_and_no_labels() -> None:
    def encode(texts: list[str]) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    plain, phrase = words_by_text_tower(encode, ["a red car on a road", "sunset"])
    assert plain.vectors.shape == phrase.vectors.shape == (1, 2)
    assert plain.labels == ()
    assert plain.meaning == "a red car on a road"
    assert phrase.meaning == "sunset (mean of 7 sentences)"
    assert words_by_text_tower(encode, []) == []
