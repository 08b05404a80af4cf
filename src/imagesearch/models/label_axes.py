"""What rankings compare pictures by, besides their vectors: the directions that tell a model's labels apart."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagesearch.atomic import replacing
from imagesearch.models.heads import Head

# Directions that are kept of more labels. Of MobileNetV2's thousand, 256 rank nearly as all do, at a quarter of
# the cost: mAP of the default ranking is within half a percent on three sets, that of labels+reciprocal up to two
# percent lower on one. 128 lose twice as much, and are hardly quicker.
_MOST = 256
# To be raised whenever files from before must not be used any more.
_FORMAT = 1


def label_axes(head: Head, revision: str) -> NDArray[np.float64]:
    """The directions along which the labels of a head differ, each as long as it counts.

    Prototypes less their mean: what they have in common tells no label from another. Of more than :data:`_MOST`
    labels the principal directions, so that vectors have nearly the same cosines by them as by the labels; these
    are worked out once on a machine, as a head of thousands of labels takes up to seconds.

    Args:
        head: the labels.
        revision: of its checkpoint.

    Returns:
        float64, shape (labels, dim), or (:data:`_MOST`, dim) if that is fewer.
    """
    if len(head.prototypes) <= _MOST:
        return _centred(head)
    file = _file(head, revision)
    if (known := _read(file, head.prototypes.shape[1])) is not None:
        return known
    axes = principal(_centred(head), _MOST)
    with contextlib.suppress(OSError):  # where nothing can be kept, they are worked out again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as fresh, open(fresh, "wb") as stream:
            np.save(stream, axes, allow_pickle=False)
    return axes


def principal(rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Fewer rows by which all inner products of projections are nearly the same: ``(A x) . (A y)``.

    The eigenvectors of ``A^T A`` with the largest eigenvalues, each times the root of its eigenvalue.

    Args:
        rows: A, float64, shape (n, dim).
        most: how many are kept, at most.

    Returns:
        float64, shape (min(n, dim, most), dim).
    """
    count, dim = rows.shape
    most = min(count, dim, most)
    if count <= dim:  # the same, from the smaller matrix of products
        _, vectors = np.linalg.eigh(rows @ rows.T)
        return np.asarray(vectors[:, ::-1][:, :most].T @ rows)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    roots = np.sqrt(np.maximum(values[::-1][:most], 0.0))
    return np.asarray(roots[:, None] * vectors[:, ::-1][:, :most].T)


def _centred(head: Head) -> NDArray[np.float64]:
    prototypes = head.prototypes.astype(np.float64)
    return np.asarray(prototypes - prototypes.mean(axis=0))


def _file(head: Head, revision: str) -> Path:
    import platformdirs

    # The pooling decides which of a network's layers is the head.
    name = hashlib.sha256(
        f"{_FORMAT} {_MOST} {revision} {head.prototypes.shape}".encode() + head.prototypes[0].tobytes()
    )
    return platformdirs.user_cache_path("imagesearch") / "label-axes" / f"{name.hexdigest()[:32]}.npy"


def _read(file: Path, dim: int) -> NDArray[np.float64] | None:
    """None if there is none, or it is damaged."""
    try:
        axes = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = axes.dtype == np.float64 and axes.ndim == 2 and axes.shape[1] == dim and bool(np.isfinite(axes).all())
    return axes if fits else None
