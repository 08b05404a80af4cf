"""Hits in order of their patches, and pictures in several views."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from imagesearch import ImageSearch
from imagesearch.errors import UsageError
from imagesearch.models.embedder import Embedder
from imagesearch.records import ImageRecord
from imagesearch.search import patches as patches_module
from imagesearch.search.image_encoding import (
    DEFAULT_READING,
    VIEWS,
    Preprocessed,
    checked_views,
    embed_images,
    mean_vector,
    preprocess,
    views_of,
)
from imagesearch.search.patches import PatchMatcher, readable_again
from imagesearch.search.query import Query, SearchOptions

from ..conftest import draw_picture


class Grid:
    """Four patches of a picture: the mean colours of its quarters."""

    decode_side = None
    batch_size = 4

    def __init__(self) -> None:
        self.encoded = 0

    def preprocess(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((2, 2), Image.Resampling.BOX)).reshape(4, 3)

    def encode(self, batch: Sequence[np.ndarray]) -> np.ndarray:
        self.encoded += len(batch)
        rows = np.stack(batch).astype(np.float32) - 127.5
        return rows / np.linalg.norm(rows, axis=2, keepdims=True)


@pytest.fixture
def pictures(tmp_path: Path) -> list[ImageRecord]:
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        draw_picture(number).save(path)
    return [ImageRecord(str(path)) for path in paths]


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_every_patch_of_the_query_counts_with_its_most_similar_one(seed: int) -> None:
    """Whatever else a candidate shows: the order is that of sums that are worked out one by one."""
    random = np.random.default_rng(seed)
    query, *others = random.normal(size=(8, 5, 3)).astype(np.float32)
    matcher = PatchMatcher(Grid, DEFAULT_READING)
    records = [ImageRecord(f"/{number}.jpg") for number in range(len(others))]
    for record, other in zip(records, others, strict=True):
        matcher._remember({(record.path, record.size, record.mtime_ns): other.astype(np.float16)})
    kept = np.array(others, np.float16).astype(np.float32)
    means = [np.mean([max(float(part @ their) for their in other) for part in query]) for other in kept]
    assert matcher.order(query, records) == sorted(range(len(others)), key=lambda place: -round(means[place], 6))


def test_pictures_that_are_gone_come_last_and_keep_their_order(pictures: list[ImageRecord]) -> None:
    matcher = PatchMatcher(Grid, DEFAULT_READING)
    Path(pictures[2].path).unlink()
    Path(pictures[4].path).write_bytes(b"no picture")
    (patches,) = matcher.patches([pictures[3]])
    assert patches is not None
    found = matcher.order(patches.astype(np.float32), pictures)
    assert found[0] == 3
    assert found[-2:] == [2, 4]


def test_patches_are_remembered_within_bounds_and_forgotten_where_a_file_changed(
    pictures: list[ImageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Grid()
    matcher = PatchMatcher(lambda: grid, DEFAULT_READING)
    matcher.patches(pictures[:4])
    matcher.patches(pictures[:4])
    assert grid.encoded == 4
    matcher.patches([replace(pictures[0], mtime_ns=5)])
    assert grid.encoded == 5
    monkeypatch.setattr(patches_module, "_REMEMBERED", 2 * 4 * 3 * 2)
    matcher.patches(pictures)
    assert len(matcher._known) == 2
    assert matcher._bytes == 2 * 4 * 3 * 2
    assert [patches is not None for patches in matcher.patches(pictures)] == [True] * 6


def test_a_cut_out_part_finds_its_picture(tmp_path: Path) -> None:
    """With the bundled model: patches know where distance does not."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        # A picture of four, drawn at random places: a part of it is nearly another picture.
        whole = Image.new("RGB", (256, 256))
        for place, other in enumerate(random.permutation(60)[:4].tolist()):
            whole.paste(draw_picture(other, (128, 128)), (128 * (place % 2), 128 * (place // 2)))
        whole.save(folder / f"{number:02}.png")
    ranks: dict[str, list[int]] = {"none": [], "patches": []}
    with ImageSearch({"milvus": {"uri": str(tmp_path / "a.db")}, "model": {"runtime": "torch"}}) as images:
        images.index(folder)
        for number in range(0, 40, 4):
            path = folder / f"{number:02}.png"
            query = Query.image(path, region="20%,20%,60%,60%")
            for method, found in ranks.items():
                hits = images.answer([query], SearchOptions(40, rerank=method))[0].require()
                assert [hit.rank for hit in hits] == list(range(1, 41))
                found.append([hit.path for hit in hits].index(str(path)) + 1)
        plain, ours = (
            images.answer([Query.words("goldfish")], SearchOptions(5, rerank=name))[0] for name in ranks
        )
        assert [hit.path for hit in plain.hits] == [hit.path for hit in ours.hits]
        with open(folder / "04.png", "rb") as file:
            opened = images.answer([file], SearchOptions(9, rerank="patches"))[0].require()
        same = images.answer([folder / "04.png"], SearchOptions(9, rerank="patches"))[0].require()
        assert [hit.path for hit in opened] == [hit.path for hit in same]
        few = images.answer([Query.stored(folder / "00.png")], SearchOptions(3, rerank="patches"))[0].require()
        assert few[0].path == str(folder / "00.png")
        assert len(few) == 3
    assert np.mean(np.reciprocal(np.array(ranks["patches"], float))) > np.mean(
        np.reciprocal(np.array(ranks["none"], float))
    )


def test_a_file_that_is_refused_is_refused_for_the_same_reason() -> None:
    """Although it was read once already, and can be read only once from where it was open."""
    for data in (b"", b"no picture", b"x" * 3_000_000):
        file = io.BytesIO(data)
        (asked,) = readable_again(Query.image(file), 0.01).parts
        kept = asked.value if isinstance(asked.value, bytes) else asked.value.read()
        assert kept == data


def test_views_are_a_picture_its_mirror_image_and_its_parts() -> None:
    picture = draw_picture(5, (160, 80))
    assert [len(list(views_of(picture, views))) for views in VIEWS] == [1, 2, 12]
    whole, mirrored, *crops = views_of(picture, "crops")
    assert whole is picture
    assert mirrored.tobytes() == ImageOps.mirror(picture).tobytes()
    assert {crop.size for crop in crops} == {(140, 70)}
    boxes = [(0, 0), (20, 0), (0, 10), (20, 10), (10, 5)]
    for (left, top), crop, flipped in zip(boxes, crops[::2], crops[1::2], strict=True):
        assert crop.tobytes() == picture.crop((left, top, left + 140, top + 70)).tobytes()
        assert flipped.tobytes() == ImageOps.mirror(crop).tobytes()
    with pytest.raises(UsageError, match="views = 'all': must be one of whole, mirrored, crops"):
        checked_views("all")
    assert len(list(views_of(Image.new("RGB", (1, 1)), "crops"))) == 12


@pytest.mark.parametrize("views", VIEWS)
def test_the_vector_of_views_is_the_mean_of_theirs(views: str, starter: Embedder) -> None:
    pictures = [draw_picture(number, (90, 70)) for number in range(3)]
    seen = checked_views(views)
    found = embed_images(starter, pictures, views=seen)
    for picture, vector in zip(pictures, found, strict=True):
        own = starter.encode([starter.preprocess(view) for view in views_of(picture, seen)])
        mean = own.mean(axis=0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
        assert isinstance(preprocess(starter, picture, seen), Preprocessed)
    if views == "whole":
        assert np.array_equal(found, starter.encode([starter.preprocess(picture) for picture in pictures]))


def test_views_that_cancel_leave_the_first() -> None:
    first = np.array([3.0, 4.0], np.float32)
    assert np.array_equal(mean_vector([first, -first]), first)
    assert np.allclose(mean_vector([first, np.array([4.0, 3.0], np.float32)]), np.array([1, 1]) * 5 / 2**0.5)


def test_a_file_is_seen_in_views_even_if_its_vector_is_stored(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        draw_picture(number).save(folder / f"{number}.png")
    with ImageSearch({"milvus": {"uri": str(tmp_path / "a.db")}}) as images:
        images.index(folder)

        def best(**options: str) -> float:
            return images.search(folder / "0.png", 1, rerank="none", **options)[0].score

        assert best() == pytest.approx(1, abs=1e-5)
        assert best(views="whole") == best()
        assert best(views="crops") < 0.9999
        (folder / "0.png").unlink()  # then what is stored is all there is
        assert best(views="crops") == best()
    with ImageSearch({"milvus": {"uri": str(tmp_path / "a.db")}, "search": {"views": "crops"}}) as images:
        assert images.search(folder / "1.png", 1, rerank="none")[0].score < 0.9999
