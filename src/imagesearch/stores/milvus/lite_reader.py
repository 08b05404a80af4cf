"""Searching and reading a Milvus Lite collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagesearch.records import ImageRecord, Metric
from imagesearch.stores.base import Vectors
from imagesearch.stores.milvus import lite_index
from imagesearch.stores.milvus.arrow import filtered, row_numbers
from imagesearch.stores.milvus.codes import MIN_CODED, Codes, Ids
from imagesearch.stores.milvus.index_types import MAX_TOP_K
from imagesearch.stores.milvus.lite_index import LiteIndex
from imagesearch.stores.milvus.lite_segment import Segment
from imagesearch.stores.milvus.lite_table import Table
from imagesearch.stores.milvus.nearest import Mask, Part, nearest
from imagesearch.stores.scores import tidy_scores, with_all_ties

# Scores and row numbers of what a search found for one query, closest first.
_Found = tuple[NDArray[np.float64], Ids]


@dataclass(slots=True)
class _Ready:
    """What a data file is searched with.

    Attributes:
        flat: the file with its vectors, if it is there.
        codes: the codes of an exact index.
        lite: an index of another type.
    """

    flat: Path | None = None
    codes: Codes | None = None
    lite: LiteIndex | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a scan: the keys of its rows, and where they were when it began (None: in no data file)."""

    ids: NDArray[np.int64]
    segment: Segment | None
    counted: Mask


class Reader:
    """Reads a :class:`Table`; not thread-safe, the caller takes turns."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._generation = -1
        self._searched_with: dict[str, _Ready] = {}
        self._mask: Mask | None = None
        self._shown: list[tuple[Segment, int, Mask | None]] = []

    # --- searching ---

    def search(
        self, queries: Vectors, k: int, search_params: Mapping[str, object], among: Ids | None = None
    ) -> list[tuple[list[float], Ids]]:
        """Scores and numbers of the closest rows to each query: k, and those that tie with the last of them.

        Args:
            queries: float32, shape (q, dim).
            k: how many.
            search_params: of an index that is not exact.
            among: keys of the rows that count; these are compared exactly, whatever the index.
        """
        metric = self._table.schema.ours.metric
        direct, indexed = self._sources(among)

        def closest(some: Vectors, count: int) -> list[_Found]:
            found = nearest(direct, some, k, count, metric)
            for lite, start, shown in indexed:
                scores, rows = lite.search(some, count, shown, search_params)
                scores = np.where(rows < 0, np.nan, scores if metric.higher_is_closer else -scores)
                more = zip(scores, rows + start, strict=True)
                found = [_merged(one, other, count, metric) for one, other in zip(found, more, strict=True)]
            return found

        found = with_all_ties(closest, lambda one: one[0], queries, k, metric, most=max(k, MAX_TOP_K))
        return [_with_ties(scores, rows, k, metric) for scores, rows in found]

    def _sources(self, among: Ids | None) -> tuple[list[Part], list[tuple[LiteIndex, int, Mask | None]]]:
        """What is compared exactly; and other indexes, where their rows begin, and which are visible."""
        table = self._table
        mask, fresh = table.visible()
        if among is None:
            shown_parts = self._searchable(mask)
        else:
            mask, fresh = self._restricted(among, len(mask), len(fresh))
            shown_parts = self._shown_by(mask)
        direct: list[Part] = []
        indexed: list[tuple[LiteIndex, int, Mask | None]] = []
        for segment, start, shown in shown_parts:
            ready = self._ready(segment)
            if ready.lite is None or among is not None:
                vectors = partial(segment.vectors, table.vector_column, ready.flat)
                direct.append(Part(start, len(segment), vectors, ready.codes, shown))
            else:
                indexed.append((ready.lite, start, shown))
        if fresh.any():
            recent = table.recent.vectors(table.vector_column)
            direct.append(Part(len(mask), len(fresh), lambda: recent, visible=None if fresh.all() else fresh))
        return direct, indexed

    def _searchable(self, mask: Mask) -> list[tuple[Segment, int, Mask | None]]:
        """Data files with visible rows, where these begin, and which they are (None: all)."""
        if mask is not self._mask:
            self._mask, self._shown = mask, self._shown_by(mask)
        return self._shown

    def _shown_by(self, mask: Mask) -> list[tuple[Segment, int, Mask | None]]:
        shown: list[tuple[Segment, int, Mask | None]] = []
        starts = self._table.current().starts.tolist()
        for segment, start in zip(self._table.segments, starts, strict=False):
            visible = mask[start : start + len(segment)]
            if visible.any():
                shown.append((segment, start, None if visible.all() else visible))
        return shown

    def _restricted(self, among: Ids, stored: int, recent: int) -> tuple[Mask, Mask]:
        """Which rows of data files, and which recent ones, have these keys and count."""
        rows = self._locate(among)
        mask, fresh = np.zeros(stored, bool), np.zeros(recent, bool)
        mask[rows[rows < stored]] = True
        fresh[rows[rows >= stored] - stored] = True
        return mask, fresh

    def _ready(self, segment: Segment) -> _Ready:
        """Looked up once, until data files or the index change."""
        table = self._table
        if self._generation != table.generation:
            self._searched_with.clear()
            self._generation = table.generation
        ready = self._searched_with.get(segment.relative)
        if ready is None:
            index, ready = table.index, _Ready()
            if index is not None and lite_index.is_built(index, segment, table.manifest):
                if not index.is_exact:
                    if len(segment) >= lite_index.LEAST_INDEXED:
                        ready.lite = LiteIndex(index, segment, table.schema.ours.fingerprint.dim)
                else:
                    ready.flat = segment.index_file(index.column, index.kind)
                    if len(segment) >= MIN_CODED:
                        ready.codes = Codes.load(segment.codes_file(index.column), len(segment))
            self._searched_with[segment.relative] = ready
        return ready

    # --- rows ---

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their keys, with their vectors, in the order of the keys; others are left out."""
        rows = self._locate(np.array(ids, np.int64))
        return self.pictures(rows), self.vectors(rows)

    def ids(self, rows: Ids) -> Ids:
        """Keys of rows by their numbers: int64, shape (n,)."""
        keys = np.empty(len(rows), np.int64)
        for owner, places, own in self._owners(rows):
            keys[places] = (self._table.recent.keys() if owner is None else owner.ids)[own]
        return keys

    def vectors(self, rows: Ids) -> Vectors:
        """Vectors of rows by their numbers: float32, shape (n, dim)."""
        vectors = np.empty((len(rows), self._table.schema.ours.fingerprint.dim), np.float32)
        for owner, places, own in self._owners(rows):
            if owner is None:
                source = self._table.recent.vectors(self._table.vector_column)
            else:
                source = owner.vectors(self._table.vector_column, self._ready(owner).flat)
            vectors[places] = source[own]
        return vectors

    def pictures(self, rows: Ids) -> list[ImageRecord]:
        """Records of rows by their numbers."""
        names = self._table.schema.ours.columns
        found: dict[int, ImageRecord] = {}
        for owner, places, own in self._owners(rows):
            source = self._table.recent if owner is None else owner
            found.update(zip(places.tolist(), source.pictures(own, names), strict=True))
        return [found[place] for place in range(len(rows))]

    def start_scan(self) -> list[Piece]:
        """What :meth:`read` reads one after the other: each row that counts now is in one of them."""
        table = self._table
        mask, fresh = table.visible()
        starts = table.current().starts.tolist()
        pieces = []
        for segment, start in zip(table.segments, starts, strict=False):
            counted = mask[start : start + len(segment)].copy()
            pieces.append(Piece(segment.ids[counted], segment, counted))
        pieces.append(Piece(table.recent.keys()[fresh], None, fresh))
        return [piece for piece in pieces if len(piece.ids)]

    def read(self, piece: Piece, names: Sequence[str]) -> pa.Table:
        """Some stored columns of a piece's rows as they are now, wherever they are, but those deleted since."""
        table, segment = self._table, piece.segment
        if segment is None or all(segment is not there for there in table.segments):
            return self._take(self._locate(piece.ids), names)
        mask, _ = table.visible()
        start = int(table.current().starts[table.segments.index(segment)])
        here = piece.counted & mask[start : start + len(segment)]
        still = filtered(segment.columns(names), here)
        moved = segment.ids[piece.counted & ~here]
        return pa.concat_tables([still, self._take(self._locate(moved), names)]) if len(moved) else still

    def _locate(self, ids: NDArray[np.int64]) -> Ids:
        """Row numbers of keys, in their order; keys without a current row are left out."""
        table = self._table
        mask, fresh = table.visible()
        rows = table.current().find(ids, mask)
        if fresh.any():
            recent = {int(key): place for place, key in enumerate(table.recent.keys()) if fresh[place]}
            for number, key in enumerate(ids.tolist()):
                if key in recent:
                    rows[number] = len(mask) + recent[key]
        return rows[rows >= 0]

    def _owners(self, rows: Ids) -> list[tuple[Segment | None, NDArray[np.int64], Ids]]:
        """For each data file (None: no file) the places in ``rows`` of its rows, and their numbers in it."""
        table = self._table
        starts = table.current().starts
        if len(table.segments) == 1 and (not len(rows) or int(rows.max()) < len(table.segments[0])):
            return [(table.segments[0], np.arange(len(rows)), rows)] if len(rows) else []
        owners = np.searchsorted(starts, rows, "right") - 1
        found: list[tuple[Segment | None, NDArray[np.int64], Ids]] = []
        for owner in sorted(set(owners.tolist())):
            places = np.flatnonzero(owners == owner)
            segment = table.segments[owner] if owner < len(table.segments) else None
            found.append((segment, places, rows[places] - starts[owner]))
        return found

    def _take(self, rows: Ids, names: Sequence[str]) -> pa.Table:
        parts = [self._table.schema.rows.empty_table().select(names)]
        for owner, _, own in self._owners(rows):
            whole = self._table.recent.current_table() if owner is None else owner.columns(names)
            parts.append(whole.select(names).take(row_numbers(own)))
        return pa.concat_tables(parts)


def _with_ties(scores: NDArray[np.float64], rows: Ids, k: int, metric: Metric) -> tuple[list[float], Ids]:
    """The first k, and those that tie with the last of them."""
    values: list[float] = scores.tolist()
    if len(values) > k:
        tidy = tidy_scores(scores[k - 1 :], metric)
        count = next((k + place for place, score in enumerate(tidy[1:]) if score != tidy[0]), len(values))
        values = values[:count]
    return values, rows[: len(values)]


def _merged(one: _Found, other: _Found, count: int, metric: Metric) -> _Found:
    """The best of both, closest first; what is not a number is left out."""
    scores, rows = np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])
    order = np.argsort(-scores if metric.higher_is_closer else scores, kind="stable")
    order = order[np.isfinite(scores[order])][:count]
    return scores[order], rows[order]
