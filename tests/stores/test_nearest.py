"""Exact answers from estimates, whatever the vectors: by their codes, without falling back to all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import DamagedError
from imagesearch.records import Metric
from imagesearch.stores.base import Vectors
from imagesearch.stores.milvus import nearest as searching
from imagesearch.stores.milvus.codes import Codes
from imagesearch.stores.milvus.nearest import Mask, Part, exact_scores, nearest

from .conftest import METRICS, clustered

N, DIM = 3_000, 24

Rng = np.random.Generator


def normal(rng: Rng) -> np.ndarray:
    return rng.normal(size=(N, DIM))


def with_group(rng: Rng, spread: float) -> np.ndarray:
    rows = normal(rng)
    rows[:400] = rows[0] + spread * rng.normal(size=(400, DIM))
    return rows


def in_clusters(rng: Rng, spread: float) -> np.ndarray:
    return rng.normal(size=(20, DIM))[rng.integers(20, size=N)] + spread * normal(rng)


def far_circle(rng: Rng) -> np.ndarray:
    angles = rng.uniform(0, 2 * np.pi, N)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) @ rng.normal(size=(2, DIM)) + 100


CASES: dict[str, Callable[[Rng], np.ndarray]] = {
    "uniform": normal,
    "clustered": lambda rng: clustered(N, DIM),
    "tight clusters": lambda rng: in_clusters(rng, 0.02),
    "very tight clusters": lambda rng: in_clusters(rng, 1e-4),
    "400 equal": lambda rng: with_group(rng, 0),
    "400 nearly equal": lambda rng: with_group(rng, 1e-3),
    "400 hardly different": lambda rng: with_group(rng, 1e-6),
    "all equal": lambda rng: np.ones((N, DIM)),
    "few distinct": lambda rng: normal(rng)[rng.integers(7, size=N)],
    "whole numbers": lambda rng: rng.integers(0, 2, (N, DIM)).astype(float),
    "one axis each": lambda rng: np.eye(DIM)[rng.integers(DIM, size=N)],
    "mostly zeros": lambda rng: normal(rng) * (rng.random((N, DIM)) < 0.05),
    "anisotropic": lambda rng: normal(rng) * 2.0 ** -np.arange(DIM),
    "one huge axis": lambda rng: normal(rng) * np.array([1000, *[1] * (DIM - 1)]),
    "far from the origin": lambda rng: normal(rng) + 300,
    "two places": lambda rng: np.concatenate([normal(rng)[: N // 2], 1000 + 0.01 * normal(rng)[N // 2 :]]),
    "a circle far away": far_circle,
    "a line": lambda rng: np.linspace(0, 1, N)[:, None] * rng.normal(size=DIM),
    "tiny": lambda rng: normal(rng) * 1e-20,
    "subnormal": lambda rng: normal(rng) * 1e-38,
    "huge": lambda rng: normal(rng) * 1e18,
    "too large for float32": lambda rng: normal(rng) * 1e30,
    "very different lengths": lambda rng: normal(rng) * np.exp(3 * rng.normal(size=(N, 1))),
    "outliers": lambda rng: normal(rng) * np.where(np.arange(N) < 3, 1e10, 1)[:, None],
    "heavy tails": lambda rng: rng.standard_cauchy((N, DIM)),
    "half zero vectors": lambda rng: normal(rng) * (np.arange(N) % 2)[:, None],
    "one dimension": lambda rng: rng.normal(size=(N, 1)),
    "two dimensions": lambda rng: rng.normal(size=(N, 2)),
    "an odd number of dimensions": lambda rng: rng.normal(size=(N, 7)),
}


def shares(parts: list[Part], matrix: Vectors, queries: Vectors, k: int, metric: Metric) -> list[float]:
    """Of each query's k results, which share scores at least what the k-th closest row does."""
    found = []
    visible = np.concatenate(
        [np.ones(part.rows, bool) if part.visible is None else part.visible for part in parts]
    )
    for query, (scores, rows) in zip(queries, nearest(parts, queries, k, k + 10, metric), strict=True):
        true = np.where(visible, exact_scores(query, matrix, metric), -np.inf)
        assert len(np.unique(rows)) == len(rows)
        assert visible[rows].all()
        assert np.allclose(scores, -true[rows] if metric is Metric.L2 else true[rows], rtol=1e-9)
        wanted = min(k, int(visible.sum()))
        least = np.sort(true)[::-1][wanted - 1]
        found.append(float((true[rows[:wanted]] >= least - 1e-6 - 1e-9 * abs(least)).sum()) / wanted)
    return found


def asked(matrix: Vectors, rng: Rng) -> Vectors:
    """Rows, some of them shifted, one far from all, and zero."""
    rows = matrix[rng.choice(len(matrix), 10, replace=False)]
    rows[5:] += 0.05 * np.abs(rows[5:]).mean() * rng.normal(size=rows[5:].shape).astype(np.float32)
    return np.concatenate([rows, 30 * rows[:1] + 1, 0 * rows[:1]]).astype(np.float32)


@pytest.fixture(autouse=True)
def codes_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few vectors are searched as many are."""
    monkeypatch.setattr(searching, "_EXACT_SHARE", 1.0)
    monkeypatch.setattr(searching, "_CANDIDATES", 32)
    monkeypatch.setattr(searching, "_CANDIDATES_PER_RESULT", 1)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", CASES)
def test_recall(case: str, metric: Metric) -> None:
    rng = np.random.default_rng(sum(case.encode()))
    matrix = CASES[case](rng).astype(np.float32)
    queries = asked(matrix, rng)
    part = Part(0, N, lambda: matrix, Codes.build(matrix, metric))
    for k in (1, 10, 80, 400):
        assert np.mean(shares([part], matrix, queries, k, metric)) >= 0.99, k


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shown", [0.01, 0.5])
def test_recall_among_few_visible_rows_of_several_parts(shown: float, metric: Metric) -> None:
    rng = np.random.default_rng(3)
    matrix = with_group(rng, 1e-3).astype(np.float32)
    visible: Mask = rng.random(N) < shown
    parts = []
    for first, beyond in ((0, 1000), (1000, 2100), (2100, N)):
        own = matrix[first:beyond]
        codes = Codes.build(own, metric) if first else None
        parts.append(Part(first, len(own), lambda own=own: own, codes, visible[first:beyond]))  # type: ignore[misc]
    for k in (1, 10, 400):
        assert np.mean(shares(parts, matrix, asked(matrix, rng), k, metric)) >= 0.99, k


def test_codes_come_back_from_a_file(tmp_path: Path) -> None:
    matrix = clustered(N, DIM)
    codes = Codes.build(matrix, Metric.COSINE)
    codes.save(tmp_path / "codes")
    again = Codes.load(tmp_path / "codes", N)
    for one, other in zip(codes.best(matrix[:3], 20), again.best(matrix[:3], 20), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(codes.outliers, again.outliers)
    assert codes.lowest_estimate(0.5, 1.0, 0.0, Metric.COSINE) == again.lowest_estimate(
        0.5, 1.0, 0.0, Metric.COSINE
    )
    with pytest.raises(DamagedError, match="instead of 2,999"):
        Codes.load(tmp_path / "codes", N - 1)
    for content in (b"", b"IScodes1" + bytes(100), (tmp_path / "codes").read_bytes()[:60]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(DamagedError, match="is not as it was written"):
            Codes.load(tmp_path / "other", N)
