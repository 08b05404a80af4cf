"""Searching any collection with any model, without the service."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.sources import ImageSource
from imagesearch.library.refresh import index_folders
from imagesearch.records import Fingerprint, ImageRecord, picture_id
from imagesearch.search import image_encoding as encoding_module
from imagesearch.search.answers import answer
from imagesearch.search.confidence import learn
from imagesearch.search.image_encoding import ImageReading, Preprocessed, embed_images, load_region
from imagesearch.search.query import Kind, Part, Query, Region, SearchOptions
from imagesearch.search.vectors import QueryEncoder, QueryVector, combinations
from imagesearch.stores.base import Vectors
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

from ..library.conftest import COLOURS, READING, SPEC, MeanColour


@dataclass
class Colour:
    """What a word for a colour stands for."""

    vectors: Vectors
    meaning: str = ""


def colours(texts: Sequence[str], _: Fingerprint) -> list[Colour]:
    """Words of a model that knows the three colours."""
    names = list(COLOURS)
    every = np.eye(3, dtype=np.float32)
    return [
        Colour(every if text == "colour" else every[[names.index(text)]], f"{text}: a colour") for text in texts
    ]


@pytest.fixture
def network() -> MeanColour:
    return MeanColour()


@pytest.fixture
def collection(tmp_path: Path, network: MeanColour) -> MemoryCollection:
    """A red, a green and a blue image."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{name}.png")
        os.utime(tmp_path / f"{name}.png", (1_700_000_000 + number,) * 2)
    database = MemoryDatabase()
    index_folders(database, SPEC, network.fingerprint, lambda count: network, [tmp_path], reading=READING)
    network.batches.clear()
    return database.open(SPEC)


@pytest.fixture
def encoder(collection: MemoryCollection, network: MeanColour) -> QueryEncoder:
    return QueryEncoder(collection, lambda: network, colours, ImageReading(timeout=5))


def names(collection: MemoryCollection, encoder: QueryEncoder, query: Query, **options: object) -> list[str]:
    (found,) = answer(collection, encoder, [query], SearchOptions(**options))  # type: ignore[arg-type]
    return [os.path.basename(hit.path).removesuffix(".png") for hit in found.require()]


@pytest.mark.parametrize("options", [{"group": True}, {"diverse": True}, {"group": True, "offset": 5}], ids=str)
@pytest.mark.parametrize("shots", [3, 70, 400])
def test_near_identical_pictures_do_not_use_up_the_results(
    shots: int, options: dict[str, object], network: MeanColour
) -> None:
    """However long the burst is that comes first."""
    random = np.random.default_rng(0)
    burst, others = random.normal(size=16) + 1e-4 * random.normal(size=(shots, 16)), random.normal(size=(60, 16))
    vectors = np.concatenate([burst, others]).astype(np.float32)
    made = collection_of(vectors)
    encoder = QueryEncoder(made, lambda: network, colours, ImageReading(timeout=5))
    (found,) = answer(made, encoder, [Query.vector(vectors[0])], SearchOptions(10, **options))  # type: ignore[arg-type]
    assert len(found.groups) == len(found.hits) == 10
    (every,) = answer(made, encoder, [Query.vector(vectors[0])], SearchOptions(600, group=True))
    assert len(every.groups) == 61
    assert len(every.groups[0].others) == shots - 1


@pytest.mark.parametrize("key", [12345, -1, 2**63, np.int64(12345), np.uint64(2**63)])
def test_an_id_of_no_picture(collection: MemoryCollection, encoder: QueryEncoder, key: int) -> None:
    (found,) = answer(collection, encoder, [Query.stored(key)], SearchOptions(3))
    assert isinstance(found.error, UsageError)
    assert f"picture {int(key)} is not in collection" in str(found.error)
    there = np.int64(next(collection.scan())[0].id)
    assert names(collection, encoder, Query.stored(there)) == names(collection, encoder, Query.stored(int(there)))


def test_the_closest_comes_first(collection: MemoryCollection, encoder: QueryEncoder) -> None:
    reddish = Image.new("RGB", (30, 30), (200, 90, 0))
    sources: list[ImageSource] = [reddish, np.asarray(reddish)]
    for source in sources:
        assert names(collection, encoder, Query.of(source), k=2) == ["red", "green"]
    assert answer(collection, encoder, [], SearchOptions()) == []


def test_pictures_in_the_collection_need_no_network(
    collection: MemoryCollection, encoder: QueryEncoder, network: MeanColour, tmp_path: Path
) -> None:
    blue = tmp_path / "blue.png"
    (tmp_path / "link").symlink_to(tmp_path)
    queries = [blue, tmp_path / "link" / "blue.png", Query.stored(blue), Query.stored(picture_id(str(blue)))]
    for query in queries:
        assert names(collection, encoder, Query.of(query), k=1) == ["blue"]
    assert network.batches == []
    Image.new("RGB", (20, 10), COLOURS["red"]).save(blue)  # now it is another picture
    assert names(collection, encoder, Query.of(blue), k=1) == ["red"]
    assert network.batches == [1]
    assert names(collection, encoder, Query.stored(blue), k=1) == ["blue"]
    blue.unlink()
    assert names(collection, encoder, Query.of(blue), k=1) == ["blue"]


def test_a_query_without_an_answer_does_not_stop_others(
    collection: MemoryCollection, encoder: QueryEncoder, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    queries = [
        Query.image(tmp_path / "broken.png"),
        Query.image(Image.new("RGB", (8, 8), COLOURS["green"])),
        Query.stored("nowhere.png"),
        Query.vector(np.ones(4)),
        Query.words("red") - Query.words("red"),
        Query.image(tmp_path / "red.png", region="50,50,5,5"),
    ]
    found = answer(collection, encoder, queries, SearchOptions(k=1))
    assert found[1].hits[0].path == str(tmp_path / "green.png")
    for place, said in enumerate(
        ["broken.png", "", "nowhere.png is not in coll", "needs 3 ", "cancel", "outside"]
    ):
        if said:
            assert said in found[place].to_dict()["error"]
            with pytest.raises((PictureError, UsageError), match=said):
                found[place].require()


def test_words_pictures_and_vectors_together(
    collection: MemoryCollection, encoder: QueryEncoder, tmp_path: Path
) -> None:
    query = Query.image(tmp_path / "red.png") + 0.5 * Query.words("blue")
    assert names(collection, encoder, query) == ["red", "blue", "green"]
    assert names(collection, encoder, query - 0.7 * Query.words("blue")) == ["red", "green", "blue"]
    assert names(collection, encoder, Query.vector(np.array([0, 0.2, 0.1]))) == ["green", "blue", "red"]
    (found,) = answer(collection, encoder, [Query.words("blue")], SearchOptions(k=1))
    assert found.meanings == ("blue: a colour",)


def test_of_words_that_mean_several_things_the_closest_counts(
    collection: MemoryCollection, encoder: QueryEncoder, tmp_path: Path
) -> None:
    (found,) = answer(collection, encoder, [Query.words("colour")], SearchOptions(k=3))
    assert [hit.score for hit in found.hits] == pytest.approx([1, 1, 1], abs=1e-2)
    assert [hit.rank for hit in found.hits] == [1, 2, 3]
    assert names(collection, encoder, Query.image(tmp_path / "red.png") - 0.9 * Query.words("colour"), k=1) == [
        "red"
    ]
    assert names(collection, encoder, Query.words("colour") - Query.image(tmp_path / "red.png"), k=1) != ["red"]


def test_a_region_is_what_is_cut_out_by_hand(network: MeanColour, encoder: QueryEncoder, tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "red")
    image.paste((0, 0, 255), (20, 0, 40, 20))
    image.save(tmp_path / "both.png")
    query = Query.image(tmp_path / "both.png", region="50%,0%,50%,100%")
    (got,) = encoder.encode([query])
    assert isinstance(got, QueryVector)
    (by_hand,) = embed_images(network, [image.crop((20, 0, 40, 20))])
    assert got.vectors[0] == pytest.approx(by_hand, abs=1e-6)


def test_a_region_in_pixels_is_of_the_picture_as_it_is_before_it_is_made_smaller(tmp_path: Path) -> None:
    image = Image.new("RGB", (6400, 4000), "red")
    image.paste((0, 0, 255), (1600, 2000, 3200, 4000))
    exif = Image.Exif()
    exif[0x0112] = 6  # 4000 x 6400 upright: the blue part comes from 0,1600
    image.save(tmp_path / "large.jpg", exif=exif)
    for source in (tmp_path / "large.jpg", Image.open(tmp_path / "large.jpg")):
        cut = load_region(source, Region.parse("0,1600,2000,1600"), 200)
        assert cut.width / cut.height == pytest.approx(5 / 4, rel=1e-2)
        assert cut.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) == (0, 0, 254)
        with pytest.raises(PictureError, match="outside the picture of 4000 x 6400 pixels"):
            load_region(source, Region.parse("4000,0,9,9"), 200)


def test_pages_thresholds_and_dates(collection: MemoryCollection, encoder: QueryEncoder) -> None:
    query = Query.vector(np.array([0.9, 0.3, 0.1]))
    assert names(collection, encoder, query) == ["red", "green", "blue"]
    assert names(collection, encoder, query, k=1, offset=1) == ["green"]
    assert names(collection, encoder, query, offset=5) == []
    assert names(collection, encoder, query, threshold=0.2) == ["red", "green"]
    assert names(collection, encoder, query, sort="date", k=2) == ["green", "red"]
    (found,) = answer(collection, encoder, [query], SearchOptions(threshold=0.99))
    assert (found.hits, found.best and os.path.basename(found.best.path)) == ((), "red.png")


def collection_of(vectors: np.ndarray) -> MemoryCollection:
    made = MemoryDatabase().create(SPEC, Fingerprint("toy", "1", "cls", (8, 8), vectors.shape[1]))
    made.upsert([ImageRecord(f"/{number:03}.jpg") for number in range(len(vectors))], vectors.astype(np.float32))
    return made


@pytest.mark.parametrize("rerank", ["none", "expand", "reciprocal", "labels"])
@pytest.mark.parametrize(
    "options", [{"threshold": 0.6}, {"only_confident": True}, {"threshold": 0.3, "group": True}]
)
def test_what_is_left_out_does_not_use_up_the_results(
    options: dict[str, object], rerank: str, network: MeanColour
) -> None:
    """Re-ranked, good results may follow bad ones: pages are filled with them, and none is on no page."""
    random = np.random.default_rng(5)
    clusters = random.normal(size=(6, 8))[random.integers(6, size=300)]
    made, axes = collection_of(clusters + 0.5 * random.normal(size=(300, 8))), random.normal(size=(5, 8))
    encoder, query = QueryEncoder(made, lambda: network, colours, READING), Query.stored("/007.jpg")
    background = learn(made)

    def found(k: int, offset: int = 0) -> list[str]:
        asked = SearchOptions(k, offset, rerank=rerank, **options)  # type: ignore[arg-type]
        (one,) = answer(made, encoder, [query], asked, background=background, label_axes=axes)
        return [hit.path for hit in one.require()]

    everything = found(300)
    assert 4 < len(everything) < 300
    assert [path for start in range(0, len(everything), 2) for path in found(2, start)] == everything


@pytest.mark.parametrize("options", [{}, {"threshold": 0.7}, {"rerank": "reciprocal"}], ids=str)
def test_pages_of_unlike_results_follow_one_another(options: dict[str, object], network: MeanColour) -> None:
    """Beyond the fifty that the first page is chosen from, some are less like each other."""
    random = np.random.default_rng(0)
    vectors = np.zeros((120, 64))
    vectors[:60, 1:5], vectors[60:, 5:] = random.normal(size=(60, 4)), random.normal(size=(60, 59))
    close = np.linspace(0.91, 0.8, 120)
    vectors *= (np.sqrt(1 - close**2) / np.linalg.norm(vectors, axis=1))[:, None]
    vectors[:, 0] = close
    made = collection_of(vectors)
    encoder, query = QueryEncoder(made, lambda: network, colours, READING), Query.vector(np.eye(64)[0])

    def found(k: int, offset: int = 0) -> list[str]:
        asked = SearchOptions(k, offset, diverse=True, **options)  # type: ignore[arg-type]
        return [hit.path for hit in answer(made, encoder, [query], asked)[0].require()]

    assert [path for start in range(0, 30, 5) for path in found(5, start)] == found(30)


@pytest.mark.parametrize("rerank", ["none", "expand", "reciprocal"])
def test_the_closest_that_is_not_close_enough(rerank: str, network: MeanColour) -> None:
    """Whatever comes first: it tells which threshold would find something."""
    random = np.random.default_rng(5)
    made = collection_of(random.normal(size=(6, 8))[random.integers(6, size=200)] + random.normal(size=(200, 8)))
    encoder = QueryEncoder(made, lambda: network, colours, READING)
    for query in map(Query.vector, random.normal(size=(10, 8))):
        (found,) = answer(made, encoder, [query], SearchOptions(threshold=1.0, rerank=rerank))
        (every,) = answer(made, encoder, [query], SearchOptions(rerank=rerank))
        assert found.best is not None
        assert found.best.score == max(hit.score for hit in every.hits)


UNIT = (
    st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)
    .map(np.float32)
    .filter(lambda v: np.linalg.norm(v) > 0.1)
)


@given(st.lists(st.tuples(UNIT, st.floats(0.1, 5)), min_size=2, max_size=4), st.floats(0.1, 9), st.floats(0.1, 9))
def test_only_directions_and_ratios_of_weights_count(
    parts: list[tuple[Vectors, float]], stretch: float, factor: float
) -> None:
    vectors, weights = [vector for vector, _ in parts], [weight for _, weight in parts]
    one = combinations([vector[None] for vector in vectors], weights, True)
    first = [(vectors[0] * np.float32(stretch)), *vectors[1:]]
    other = combinations([v[None] for v in first[::-1]], [factor * weight for weight in weights[::-1]], True)
    assert len(one) == len(other)
    if len(one):
        assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
        assert one == pytest.approx(other, abs=2e-2)


def test_vectors_of_images_in_batches(network: MeanColour) -> None:
    images = [Image.new("RGB", (8, 8), colour) for colour in COLOURS.values()]
    assert np.abs(embed_images(network, images, ImageReading(batch_size=2)) - np.eye(3)).max() < 0.01
    assert network.batches == [2, 1]
    network.batches.clear()
    embed_images(network, images)
    assert network.batches == [3]
    assert embed_images(network, []).shape == (0, 3)


@pytest.mark.parametrize("others", [0, 2])
def test_a_preprocessed_image_asks_the_same(
    collection: MemoryCollection, network: MeanColour, others: int
) -> None:
    images = [Image.new("RGB", (8, 8), colour) for colour in COLOURS.values()]
    ready = [
        Query.image(image)
        if place < others
        else Query((Part(Kind.IMAGE, Preprocessed((network.preprocess(image),))),))
        for place, image in enumerate(images)
    ]
    encoder = QueryEncoder(collection, lambda: network, colours, ImageReading(batch_size=2))
    for one, other in zip(encoder.encode(ready), encoder.encode([*map(Query.image, images)]), strict=True):
        assert isinstance(one, QueryVector)
        assert isinstance(other, QueryVector)
        assert np.array_equal(one.vectors, other.vectors)


def test_a_query_that_is_never_read_ends(
    collection: MemoryCollection, network: MeanColour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding_module, "load_image", lambda *_: threading.Event().wait(20))
    encoder = QueryEncoder(collection, lambda: network, colours, ImageReading(timeout=0.2))
    started = time.monotonic()
    (found,) = answer(collection, encoder, [Query.of(Image.new("RGB", (8, 8)))], SearchOptions())
    assert isinstance(found.error, PictureError)
    assert "took longer than" in str(found.error)
    assert found.error.retryable
    assert time.monotonic() - started < 5


def test_pictures_have_confidence_and_words_have_none(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((60, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    collection = MemoryDatabase().create(SPEC, MeanColour().fingerprint)
    collection.upsert([ImageRecord(f"/p/{number}.jpg") for number in range(60)], vectors)
    background = learn(collection)
    assert background is not None
    encoder = QueryEncoder(collection, MeanColour, colours, ImageReading())
    asked = [Query.vector(vectors[7]), Query.words("red"), Query.stored("/p/3.jpg") + Query.words("blue")]
    picture, word, both = answer(collection, encoder, asked, SearchOptions(k=5), background=background)
    assert picture.hits[0].confidence == 1
    assert all(hit.expected is not None and hit.expected >= 0 for hit in picture.hits)
    assert all(hit.expected is None is hit.confidence for hit in (*word.hits, *both.hits))
    sure = SearchOptions(k=60, only_confident=True)
    certain, nothing = answer(collection, encoder, asked[:2], sure, background=background)
    assert 1 <= len(certain.hits) < 60
    assert nothing.hits == ()
    assert nothing.best is not None
