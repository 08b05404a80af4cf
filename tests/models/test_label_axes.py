"""The directions that tell a model's labels apart, and where they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagesearch.models import label_axes as module
from imagesearch.models.heads import Head
from imagesearch.models.label_axes import label_axes, principal


def head_of(labels: int, dim: int, rank: int, seed: int = 0) -> Head:
    """Labels that differ along some directions only, but for a little."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(labels, rank)) @ random.normal(size=(rank, dim))
    rows += 1e-6 * random.normal(size=rows.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Head("toy", tuple(map(str, range(labels))), rows.astype(np.float32))


def kept() -> list[Path]:
    return list(module._file(head_of(3, 3, 3), "r").parent.glob("*"))


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (500, 40)])
def test_projections_have_the_same_products_by_fewer_axes(shape: tuple[int, int]) -> None:
    rows = head_of(*shape, rank=30).prototypes.astype(np.float64)
    vectors = np.random.default_rng(1).normal(size=(20, shape[1]))
    few = principal(rows, 35)
    assert few.shape == (35, shape[1])
    expected = (vectors @ rows.T) @ (vectors @ rows.T).T
    assert np.allclose((vectors @ few.T) @ (vectors @ few.T).T, expected, rtol=1e-5, atol=1e-4 * expected.max())


def test_few_labels_stay_as_they_are() -> None:
    head = head_of(200, 320, 100)
    prototypes = head.prototypes.astype(np.float64)
    assert np.array_equal(label_axes(head, "r"), prototypes - prototypes.mean(axis=0))
    assert not kept()


def test_axes_of_many_labels_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(400, 300, 30)
    found = label_axes(head, "r")
    assert found.shape == (256, 300)
    assert found.dtype == np.float64
    (file,) = kept()
    with monkeypatch.context() as patch:
        patch.setattr(module, "principal", None)
        assert np.array_equal(label_axes(head, "r"), found)
    for other, revision in ((head, "another"), (head_of(400, 300, 30, seed=5), "r"), (head_of(401, 300, 30), "r")):
        assert not np.array_equal(label_axes(other, revision)[:, :5], np.zeros((256, 5)))
    assert len(kept()) == 4
    for damage in (b"", b"no numbers", file.read_bytes()[:5000]):
        file.write_bytes(damage)
        assert np.allclose(label_axes(head, "r"), found)
    np.save(file, np.full((256, 300), np.nan))
    assert np.allclose(label_axes(head, "r"), found)


def test_without_room_they_are_worked_out_again() -> None:
    head = head_of(300, 300, 30)
    folder = module._file(head, "r").parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"in the way")
    first = label_axes(head, "r")
    assert np.array_equal(first, label_axes(head, "r"))
    folder.unlink()
