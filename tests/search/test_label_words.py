"""Words that only labels of pictures explain: the direction of these pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imagesearch import ImageSearch, Query, UsageError
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.search.label_words import words_by_labels
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

FINGERPRINT = Fingerprint("mine", "1", "cls", (8, 8), 3)
SAID = (
    {"label": "Felix", "label_score": 0.5},
    {"label": "felix"},
    {"label": "Rex", "label_score": 0.9},
    {"stars": 5},
    {"label": 7},
)
VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0.6, 0, 0.8]], np.float32)


def collection(vectors: np.ndarray = VECTORS, *, normalized: bool = True) -> Collection:
    made = MemoryDatabase().create(CollectionSpec("photos"), replace(FINGERPRINT, normalized=normalized))
    made.upsert([ImageRecord(f"/{n}", annotations=json.dumps(said)) for n, said in enumerate(SAID)], vectors)
    return made


def test_the_mean_direction_of_the_pictures_with_a_label() -> None:
    """One that somebody gave counts in full, another one by its probability."""
    found = words_by_labels(collection(), [" FELIX", "rex", "7"])
    assert found is not None
    assert found[0].vectors == pytest.approx(np.array([[0.5, 1, 0]]) / np.sqrt(1.25))
    assert [one.vectors.dtype for one in found] == [np.float32] * 3
    assert found[1].vectors == pytest.approx(VECTORS[2:3])
    assert found[2].vectors == pytest.approx(VECTORS[4:])
    assert found[0].meaning == " FELIX: like the 2 with this label"


def test_lengths_are_those_of_the_collection() -> None:
    found = words_by_labels(collection(VECTORS * 3, normalized=False), ["rex"])
    assert found is not None
    assert found[0].vectors == pytest.approx(VECTORS[2:3] * 3)


def test_accents_are_the_same_in_letters_and_behind_them() -> None:
    made = MemoryDatabase().create(CollectionSpec("photos"), FINGERPRINT)
    made.upsert([ImageRecord("/1", annotations=json.dumps({"label": "Cafe\u0301"}))], VECTORS[:1])
    found = words_by_labels(made, ["caf\u00e9"])
    assert found is not None
    assert found[0].vectors == pytest.approx(VECTORS[:1])


def test_what_is_no_label_means_nothing() -> None:
    assert words_by_labels(collection(), ["felix", "garfield"]) is None


def test_searches_by_a_label_that_the_model_does_not_know(picture_folder: Path, tmp_path: Path) -> None:
    """What the model knows itself keeps its meaning, and what nobody knows is refused as before."""
    (tmp_path / "names.csv").write_text("path,label\n0.png,Xaver\n1.png,teapot\n")
    with ImageSearch({"milvus": {"uri": str(tmp_path / "p.db")}}) as images:
        images.index(picture_folder)
        with pytest.raises(UsageError, match="does not know 'xaver'"):
            images.search(Query.words("xaver"))
        (tmp_path / "names.csv").rename(picture_folder / "names.csv")
        images.annotate(picture_folder / "names.csv")
        (answer,) = images.answer([Query.words("xaver")])
        assert answer.require()[0].path == str(picture_folder / "0.png")
        (teapot,) = images.networks.words(["teapot"], images.describe().fingerprint)
        (known,) = images.answer([Query.words("teapot")])
        assert known.require()[0].score == pytest.approx(
            float((images.embed([known.require()[0].path]) @ teapot.vectors.T)[0, 0]), abs=1e-3
        )
        with pytest.raises(UsageError, match="does not know 'yvonne'"):
            images.search(Query.words("yvonne"))
