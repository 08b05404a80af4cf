"""Filters: the same rows on every engine, those that a plain predicate gives."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.records import ImageRecord, Metric
from imagesearch.search.filters import Filter, distances, matching
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase
from imagesearch.stores.memory import MemoryDatabase

from ..stores.conftest import Specs, clustered, database, fingerprint, is_memory, lite_uri, open_database, spec

__all__ = ["database", "is_memory", "lite_uri", "open_database", "spec"]

CAMERAS = [None, "Canon EOS 5D", "NIKON D850", "Ångström 100%", 'a "quoted" \\ one']
TAKEN = [None, "2024-05-01T10:30:00", "2024-12-31T23:59:59", "2025-01-01T00:00:00", "1999-07-07T07:07:07"]
PLACES = [(None, None), (48.1, 11.6), (48.2, 11.7), (-33.9, 151.2), (0.0, 179.9), (0.0, -179.9)]


def record(number: int) -> ImageRecord:
    """One of 120 rows whose columns have all combinations of values."""
    latitude, longitude = PLACES[number % len(PLACES)]
    ending = ["jpg", "JPEG", "png", "tiff", "", "heic"][number % 6]
    folder = ["a", "a/b_c", "ab", "%", "a'q\"", "\udcff"][number // 2 % 6]
    changed = datetime(2020 + number % 7, 3, 1).timestamp()
    return ImageRecord(
        f"/p/{folder}/{number}{'.' if ending else ''}{ending}",
        root="/p",
        size=1000 * number,
        mtime_ns=int(changed) * 10**9,
        width=[0, 640, 1920, 4000][number % 4],
        height=480 + number % 3,
        taken=TAKEN[number % 5],
        camera=CAMERAS[number // 5 % 5],
        latitude=latitude,
        longitude=longitude,
    )


ROWS = [record(number) for number in range(120)]


def by_hand(holds: Callable[[ImageRecord], object]) -> set[str]:
    return {row.path for row in ROWS if holds(row)}


def moment(row: ImageRecord) -> str:
    return row.taken or datetime.fromtimestamp(row.mtime_ns / 1e9).isoformat()


def kilometres(row: ImageRecord, latitude: float, longitude: float) -> float:
    if row.latitude is None or row.longitude is None:
        return math.inf
    one, other = math.radians(row.latitude), math.radians(latitude)
    turn = math.radians(row.longitude - longitude)
    cosine = math.sin(one) * math.sin(other) + math.cos(one) * math.cos(other) * math.cos(turn)
    return 6371.0088 * math.acos(min(1.0, cosine))


# The filter, and the predicate that says the same in Python.
TWENTY: list[tuple[Filter, Callable[[ImageRecord], object]]] = [
    (Filter(under=("/p/a",)), lambda row: row.path.startswith("/p/a/")),
    (Filter(under=("/p/%", "/p/a'q\"")), lambda row: row.path.startswith(("/p/%/", "/p/a'q\"/"))),
    (Filter(under=("/p/\udcff",)), lambda row: row.path.startswith("/p/\udcff/")),
    (Filter(under=(ROWS[7].path,)), lambda row: row.path == ROWS[7].path),
    (Filter(after="2024-12-31"), lambda row: moment(row) >= "2024-12-31"),
    (Filter(before="2021"), lambda row: moment(row) < "2021"),
    (Filter(after="2021-03-01", before="2025"), lambda row: "2021-03-01" <= moment(row) < "2025"),
    (Filter(near=(48.15, 11.65, 5)), lambda row: kilometres(row, 48.15, 11.65) <= 5),
    (Filter(near=(0, 180, 50)), lambda row: kilometres(row, 0, 180) <= 50),
    (Filter(min_width=1920), lambda row: row.width >= 1920),
    (Filter(min_height=482, min_width=1), lambda row: row.width >= 1 and row.height >= 482),
    (Filter(formats=("jpg",)), lambda row: row.path.lower().endswith((".jpg", ".jpeg"))),
    (Filter(formats=(".TIF", "heif")), lambda row: row.path.endswith((".tiff", ".heic"))),
    (Filter(camera="eos"), lambda row: row.camera == "Canon EOS 5D"),
    (Filter(camera="100%"), lambda row: row.camera == "Ångström 100%"),
    (Filter(expression="width > height"), lambda row: row.width > row.height),
    (
        Filter(expression='camera in ["NIKON D850", "Canon EOS 5D"] and not (size < 50000)'),
        lambda row: row.camera in ("NIKON D850", "Canon EOS 5D") and row.size >= 50_000,
    ),
    (
        Filter(expression='path like "%.png" or taken >= "2025"'),
        lambda row: row.path.endswith(".png") or (row.taken or "") >= "2025",
    ),
    (
        Filter(expression="latitude > 0.0 and longitude < 11.65", min_width=1),
        lambda row: row.latitude is not None and row.latitude > 0 and row.longitude < 11.65 and row.width > 0,
    ),
    (
        Filter(expression='camera not in ["NIKON D850"] and not (camera in ["Canon EOS 5D", "x"])'),
        lambda row: row.camera is not None and row.camera not in ("NIKON D850", "Canon EOS 5D"),
    ),
    (Filter(expression="width < 1000"), lambda row: 0 < row.width < 1000),
    (Filter(expression="height / width < 0.5"), lambda row: row.width and row.height / row.width < 0.5),
    (
        Filter(expression="camera is null", under=("/p/a",), after="2024"),
        lambda row: row.camera is None and row.path.startswith("/p/a/") and moment(row) >= "2024",
    ),
]


@pytest.fixture
def filled(database: VectorDatabase, spec: Specs) -> Collection:
    """A collection of the rows, some in a data file and some new, with a row that was replaced."""
    vectors = clustered(len(ROWS), 8)
    collection = database.create(spec(metric=Metric.COSINE), fingerprint(8))
    collection.upsert(ROWS[:80], vectors[:80])
    collection.build_index()
    collection.upsert(ROWS[80:] + ROWS[:5], np.concatenate([vectors[80:], vectors[:5]]))
    return collection


def test_twenty_filters(filled: Collection) -> None:
    reference = MemoryDatabase().create(filled.spec, fingerprint(8))
    for rows, vectors in filled.scan_vectors():
        reference.upsert(rows, vectors)
    queries = clustered(3, 8, seed=5)
    paths = {row.id: row.path for row in ROWS}
    for where, holds in TWENTY:
        ids = matching(filled, where)
        assert {paths[key] for key in ids.tolist()} == by_hand(holds), where
        assert len(set(ids.tolist())) == len(ids)
        for k in (1, 7, 200):
            found, wanted = filled.search(queries, k, ids), reference.search(queries, k, ids)
            for hits, exact in zip(found, wanted, strict=True):
                assert [hit.picture for hit in hits] == [hit.picture for hit in exact], where
                assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in exact], abs=2e-6)
            assert all({hit.path for hit in hits} <= by_hand(holds) for hits in found)


def test_among_nothing_and_among_what_is_gone(filled: Collection) -> None:
    queries = clustered(2, 8)
    assert filled.search(queries, 3, np.empty(0, np.int64)) == [[], []]
    gone = np.array([ROWS[3].id, ROWS[100].id, 12345], np.int64)
    filled.delete([ROWS[3].id])
    assert [[hit.path for hit in hits] for hits in filled.search(queries, 3, gone)] == [[ROWS[100].path]] * 2


def test_an_approximate_index_does_not_lose_rows_that_match(database: VectorDatabase, spec: Specs) -> None:
    vectors = clustered(1500, 8)
    rows = [ImageRecord(f"/p/{number}.jpg", width=number) for number in range(1500)]
    collection = database.create(spec(index_type="HNSW"), fingerprint(8))
    collection.upsert(rows, vectors)
    collection.build_index()
    ids = matching(collection, Filter(expression="width >= 1480"))
    (hits,) = collection.search(vectors[:1], 20, ids)
    assert {hit.picture.width for hit in hits} == set(range(1480, 1500))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    under=st.sampled_from([(), ("/p/a",), ("/p/ab", "/p/%"), ("/nowhere",)]),
    after=st.sampled_from([None, "2020", "2024-05-01", "2024-05-01 10:30:01"]),
    before=st.sampled_from([None, "2022", "2025-01-01T00:00:00", "2025-01"]),
    width=st.sampled_from([0, 640, 4000]),
    formats=st.sampled_from([(), ("jpeg",), ("png", "heic")]),
    camera=st.sampled_from([None, "canon", "å", '"']),
)
def test_conditions_hold_together(
    under: tuple[str, ...],
    after: str | None,
    before: str | None,
    width: int,
    formats: tuple[str, ...],
    camera: str | None,
) -> None:
    where = Filter(under, after, before, None, width, 0, formats, camera)

    def holds(row: ImageRecord) -> bool:
        endings = {"jpeg": (".jpg", ".jpeg"), "png": (".png",), "heic": (".heic",)}
        return (
            (not under or row.path.startswith(tuple(f"{folder}/" for folder in under)))
            and (after is None or moment(row) >= after.replace(" ", "T"))
            and (before is None or moment(row) < before)
            and row.width >= width
            and (not formats or row.path.lower().endswith(tuple(e for name in formats for e in endings[name])))
            and (camera is None or camera in (row.camera or "").casefold())
        )

    collection = MemoryDatabase().create(a_spec(), fingerprint(8))
    collection.upsert(ROWS, clustered(len(ROWS), 8))
    paths = {row.id: row.path for row in ROWS}
    assert {paths[key] for key in matching(collection, where).tolist()} == by_hand(holds)


def a_spec() -> CollectionSpec:
    return CollectionSpec("filters")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("widht > 3", "unknown field 'widht' at character 1; did you mean 'width'"),
        ("width >", "unexpected end of expression at character 8"),
        ('width == "a"', "incompatible types at character 7"),
        ("width", "filter 'width'"),
        ("(" * 400 + "width > 1" + ")" * 400, "filter"),
        ("camera like 3", "filter"),
        ("", "filter ''"),
        ("width > 99999999999999999999999", "filter"),
    ],
)
def test_mistakes_are_explained_in_a_line(expression: str, said: str) -> None:
    collection = MemoryDatabase().create(a_spec(), fingerprint(8))
    with pytest.raises(UsageError, match=said) as caught:
        matching(collection, Filter(expression=expression))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"after": "yesterday"},
        {"after": "2024-13"},
        {"before": "2023-02-29"},
        {"near": (91, 0, 1)},
        {"near": (0, 0, -1)},
        {"near": (0, math.nan, 1)},
    ],
)
def test_values_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        Filter(**values)  # type: ignore[arg-type]


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
def test_distances_are_those_of_the_sphere(lat: float, lon: float, here: float, there: float) -> None:
    (got,) = distances([lat], [lon], here, there)
    a = np.array([math.cos(math.radians(y)) * math.cos(math.radians(x)) for y, x in ((lat, lon), (here, there))])
    b = np.array([math.cos(math.radians(y)) * math.sin(math.radians(x)) for y, x in ((lat, lon), (here, there))])
    c = np.array([math.sin(math.radians(y)) for y in (lat, here)])
    chord = math.sqrt((a[0] - a[1]) ** 2 + (b[0] - b[1]) ** 2 + (c[0] - c[1]) ** 2)
    assert got == pytest.approx(2 * 6371.0088 * math.asin(min(1.0, chord / 2)), abs=0.1)
    assert math.isnan(distances([None], [None], here, there)[0])


def test_folders_reached_by_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    row = ImageRecord(os.path.join(os.path.realpath(tmp_path), "real", "a.jpg"))
    where = Filter(under=(str(tmp_path / "link"),))
    assert where.mask({"path": [row.path, "/other/a.jpg"]}).tolist() == [True, False]


@pytest.mark.parametrize(("expression", "number"), [("1 == 1", len(ROWS)), ("'a' == 'b'", 0), ("not true", 0)])
def test_expressions_without_columns(filled: Collection, expression: str, number: int) -> None:
    assert len(matching(filled, Filter(expression=expression))) == number
    assert len(matching(filled, Filter(expression=expression, min_width=10**8))) == 0


def test_large_integers_beside_fractions(filled: Collection) -> None:
    expressions: dict[str, Callable[[int], bool]] = {
        "mtime_ns > 1.7e18": lambda ns: ns > 1.7e18,
        "mtime_ns / 1e9 < 1650000000.5": lambda ns: ns / 1e9 < 1650000000.5,
        "mtime_ns >= 1600000000000000000 and mtime_ns < 1.7e18": lambda ns: 1.6e18 <= ns < 1.7e18,
        "not mtime_ns > 1.5": lambda ns: False,
    }
    for expression, holds in expressions.items():
        found = set(matching(filled, Filter(expression=expression)).tolist())
        assert found == {row.id for row in ROWS if holds(row.mtime_ns)}
