"""Words that a model does not know, but pictures are labelled with: what these pictures have in common."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from imagesearch.models.pooling import unit_vectors
from imagesearch.models.words import WordQuery
from imagesearch.records import parse_annotations
from imagesearch.stores.base import Collection, Vectors
from imagesearch.stores.columns import ID

# The columns of annotations that labels and their probabilities stand in.
LABEL, SCORE = "label", "label_score"
# More pictures of a label would not move its direction.
_MOST = 1000


def words_by_labels(collection: Collection, texts: Sequence[str]) -> list[WordQuery] | None:
    """Queries for words that pictures of a collection are labelled with, in any case.

    Each is the mean direction of these pictures, of which those with a probable label count more.

    Returns:
        One for each text; None if one of them is no label there.

    Raises:
        StoreError: the database fails.
    """
    found: dict[str, dict[int, float]] = {_plain(text): {} for text in texts}
    for columns in collection.scan_columns([ID, "annotations"]):
        for key, text in zip(columns[ID], columns["annotations"], strict=True):
            said = parse_annotations(text)
            if LABEL in said and (pictures := found.get(_plain(str(said[LABEL])))) is not None:
                pictures[int(key)] = _weight(said.get(SCORE))
    if not all(found.values()):
        return None
    return [
        WordQuery(text, _direction(collection, pictures), f"{text}: like the {len(pictures):,} with this label")
        for text in texts
        for pictures in (found[_plain(text)],)
    ]


def _plain(text: str) -> str:
    # As names of folders on macOS, labels may have accents behind their letters, which keyboards put into them.
    return unicodedata.normalize("NFC", " ".join(text.split())).casefold()


def _weight(score: Any) -> float:
    """A label that somebody gave has no score, and counts in full."""
    return float(score) if isinstance(score, (int, float)) and 0 < score <= 1 else 1.0


def _direction(collection: Collection, pictures: dict[int, float]) -> Vectors:
    """Float32, shape (1, dim); of unit length if the collection's vectors are, else of their mean length."""
    best = sorted(pictures, key=lambda key: (-pictures[key], key))[:_MOST]
    records, vectors = collection.fetch(best)
    weights = np.array([pictures[record.id] for record in records], np.float32)
    mean = unit_vectors((weights[:, None] * unit_vectors(vectors)).sum(axis=0, keepdims=True))
    length = 1.0 if collection.fingerprint.normalized else float(np.linalg.norm(vectors, axis=1).mean())
    return np.asarray(mean * length, np.float32)
