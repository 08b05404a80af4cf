"""Splits: laws that hold for any labels and relations, what is related, and the leak that the guard is for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.learning import metrics
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.splits import (
    Relations,
    find_relations,
    folds,
    report_split,
    split,
    unrelated,
)
from imagesearch.records import ImageRecord

from ..conftest import draw_picture

if TYPE_CHECKING:
    from imagesearch.models.embedder import Embedder


def of_classes(codes: np.ndarray) -> np.ndarray:
    return codes[:, None] == np.arange(codes.max() + 1)


@st.composite
def libraries(draw: st.DrawFn) -> tuple[np.ndarray, Relations]:
    """Classes of pictures, some in groups within their class; at least one class has two groups."""
    sizes = draw(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=12), min_size=2, max_size=5))
    sizes[0] += [1, 1]
    codes = np.repeat(np.arange(len(sizes)), [sum(groups) for groups in sizes])
    flat = [size for groups in sizes for size in groups]
    mixed = np.random.default_rng(draw(st.integers(0, 9))).permutation(len(codes))
    return codes[mixed], Relations(np.repeat(np.arange(len(flat)), flat)[mixed], 0, 0, 0)


@given(libraries(), st.floats(0.05, 0.6), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_the_laws_of_splitting(library: tuple[np.ndarray, Relations], part: float, seed: int) -> None:
    codes, relations = library
    done = split(of_classes(codes), relations, held_out=part, seed=seed)
    assert sorted([*done.training, *done.held_out]) == list(range(len(codes)))
    groups = relations.groups
    assert not set(groups[done.training]) & set(groups[done.held_out])
    for code in range(codes.max() + 1):
        own = codes == code
        largest = np.bincount(groups[own]).max()
        count, aside = own.sum(), (codes[done.held_out] == code).sum()
        assert aside < count
        wanted = max(round(part * count), 1) if count > 1 else 0
        if len(set(groups[own])) > 1:
            assert abs(aside - wanted) <= largest
        else:
            assert aside == 0
    again = split(of_classes(codes), relations, held_out=part, seed=seed)
    assert np.array_equal(done.held_out, again.held_out)


@given(libraries(), st.integers(2, 5))
@settings(max_examples=100, deadline=None)
def test_the_laws_of_folds(library: tuple[np.ndarray, Relations], count: int) -> None:
    codes, relations = library
    found = folds(of_classes(codes), relations.groups, count)
    for group in set(relations.groups):
        assert len(set(found[relations.groups == group])) == 1
    for code in range(codes.max() + 1):
        own = codes == code
        spread = np.bincount(found[own], minlength=count)
        assert spread.max() - spread.min() <= np.bincount(relations.groups[own]).max()


def test_unrelated_pictures_are_split_exactly() -> None:
    codes = np.repeat(np.arange(4), (50, 10, 5, 2))
    done = split(of_classes(codes), unrelated(len(codes)), held_out=0.2, seed=1)
    assert np.bincount(codes[done.held_out]).tolist() == [10, 2, 1, 1]


def test_other_seeds_split_otherwise() -> None:
    members = of_classes(np.repeat(np.arange(3), 20))
    parts = {tuple(split(members, unrelated(60), seed=seed).held_out) for seed in range(5)}
    assert len(parts) == 5


def test_several_labels_of_a_picture() -> None:
    members = np.random.default_rng(0).random((300, 6)) < 0.3
    done = split(members, unrelated(300), held_out=0.25, seed=0)
    parts = members[done.held_out].sum(axis=0) / members.sum(axis=0)
    assert (abs(parts - 0.25) < 0.06).all()


@pytest.mark.parametrize("part", [0, 1, -0.1])
def test_impossible_parts_are_refused(part: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        split(of_classes(np.array([0, 0, 1, 1])), unrelated(4), held_out=part)


def test_copies_alone_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="copies of one another"):
        split(of_classes(np.array([0, 0, 1, 1])), Relations(np.array([0, 0, 1, 1]), 2, 2, 0))


def shot(name: str, *, content: str = "", taken: str | None = None, camera: str | None = None) -> ImageRecord:
    return ImageRecord(f"/photos/{name}", "/photos", content, taken=taken, camera=camera)


def test_what_is_related() -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((8, 64)).astype(np.float32)
    vectors[3] = 5 * vectors[2] + 0.05 * random.standard_normal(64)
    pictures = [
        shot("a/1", content="same"),
        shot("b/2", content="same"),
        shot("a/3"),
        shot("a/4", content="other"),
        shot("a/5", taken="2024-05-01T12:00:00", camera="X"),
        shot("b/6", taken="2024-05-01T12:00:02", camera="X"),
        shot("b/7", taken="2024-05-01T12:00:02", camera="Y"),
        shot("b/8", taken="9999-99-99T00:00:00", camera="X"),
    ]
    found = find_relations(pictures, vectors)
    assert found.groups.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    assert (found.identical, found.near_identical, found.burst) == (2, 2, 2)


def test_without_a_camera_bursts_are_of_one_folder() -> None:
    pictures = [shot(f"{folder}/1", taken="2024-05-01T12:00:00") for folder in "ab"]
    pictures += [shot("a/2", taken="2024-05-01T12:00:03"), shot("a/3", taken="2024-05-01T12:00:06.500000")]
    found = find_relations(pictures, np.eye(4, dtype=np.float32))
    assert found.groups.tolist() == [0, 1, 0, 2]


def copies_of_noise(classes: int = 10, originals: int = 12, copies: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Vectors without any relation to their labels, each with near copies that have the same label."""
    random = np.random.default_rng(0)
    first = random.standard_normal((classes * originals, 64))
    vectors = np.repeat(first, copies, axis=0) + 0.05 * random.standard_normal((len(first) * copies, 64))
    codes = np.repeat(random.permutation(len(first)) % classes, copies)
    return vectors.astype(np.float32), codes


def nearest_neighbour_accuracy(vectors: np.ndarray, codes: np.ndarray, relations: Relations) -> float:
    done = split(of_classes(codes), relations, held_out=0.25, seed=0)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = np.argsort(-units[done.held_out] @ units[done.training].T, axis=1)
    right = metrics.knn_correct(codes[done.training][near], codes[done.held_out], 1)
    return float(right.mean())


def test_without_the_guard_accuracy_is_too_good() -> None:
    """There is nothing to learn, so the truth is one in ten; a naive split says nearly all are right."""
    vectors, codes = copies_of_noise()
    pictures = [ImageRecord(f"/photos/{place}") for place in range(len(codes))]
    relations = find_relations(pictures, vectors)
    assert len(set(relations.groups)) == 120
    assert nearest_neighbour_accuracy(vectors, codes, unrelated(len(codes))) > 0.9
    assert nearest_neighbour_accuracy(vectors, codes, relations) < 0.25


def test_the_report_names_leaks_and_lonely_classes(tmp_path: Path) -> None:
    vectors, codes = copies_of_noise()
    codes = np.append(codes, 10)
    vectors = np.concatenate([vectors, -vectors[:1]])
    pictures = [ImageRecord(str(tmp_path / f"{place}.jpg")) for place in range(len(codes))]
    members, relations = of_classes(codes), find_relations(pictures, vectors)
    guarded, naive = split(members, relations, seed=3), split(members, unrelated(len(codes)), seed=3)
    names = [f"class {number}" for number in range(11)]
    labelled = LabelledPictures(pictures, vectors, names, members)
    said = report_split(labelled, guarded, relations, naive)
    assert said.leaking > 0.8 * len(naive.held_out)
    assert len(said.leaks) == 10
    one, other = (pictures.index(ImageRecord(path)) for path in said.leaks[0])
    assert relations.groups[one] == relations.groups[other]
    assert said.single == said.unmeasured == ["class 10"]
    assert said.conflicts == 0
    members[0] = ~members[0]
    assert report_split(labelled, guarded, relations, naive).conflicts == 1


def test_saved_again_and_smaller_pictures_are_found_on_both_sides(starter: Embedder) -> None:
    """Drawings with labels by chance, each also as a small JPEG: a naive split calls a coin toss knowledge."""
    drawn = [draw_picture(number, (160, 120)) for number in range(60)]
    copies = []
    for picture in drawn:
        file = io.BytesIO()
        picture.resize((96, 72)).save(file, "JPEG", quality=60)
        copies.append(Image.open(file).convert("RGB"))
    vectors = starter.encode([starter.preprocess(picture) for picture in (*drawn, *copies)])
    codes = np.tile(np.random.default_rng(0).permutation(60) % 2, 2)
    relations = find_relations([ImageRecord(f"/{place}") for place in range(120)], vectors)
    assert (relations.groups[:60] == relations.groups[60:]).all()
    assert nearest_neighbour_accuracy(vectors, codes, unrelated(120)) > 0.75
    assert nearest_neighbour_accuracy(vectors, codes, relations) < 0.7
