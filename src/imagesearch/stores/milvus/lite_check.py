"""Looking for damage in the files of one collection of Milvus Lite, and telling what is lost by it.

What this program writes has digests, so that one wrong bit is found. Files that Milvus Lite wrote by itself have
none; they are read completely. Nothing is changed here: :mod:`~imagesearch.stores.milvus.lite_repair` does that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from imagesearch.errors import DamagedError
from imagesearch.images.paths import decode_path
from imagesearch.records import Progress, no_progress, picture_id
from imagesearch.reports import Finding
from imagesearch.stores.base import Vectors
from imagesearch.stores.milvus import lite_log
from imagesearch.stores.milvus.lite_index import EXACT, IndexSpec, LiteIndex
from imagesearch.stores.milvus.lite_log import DELETIONS, ROWS
from imagesearch.stores.milvus.lite_manifest import Manifest
from imagesearch.stores.milvus.lite_salvage import LOST, Expected, salvage_deletions, salvage_rows
from imagesearch.stores.milvus.lite_schema import LiteSchema
from imagesearch.stores.milvus.lite_segment import Segment
from imagesearch.stores.milvus.lite_state import (
    NOTHING,
    UNREADABLE,
    Damage,
    Place,
    manifest_state,
    named_files,
    schema_state,
)

_REBUILT = "nothing is lost: the index is built again"
_DELETIONS = "pictures that were deleted may be back until 'imagesearch index' has looked at their folders"


def check_collection(folder: Path, root: Path, progress: Progress = no_progress) -> list[Finding]:
    """What is wrong with a collection's files; none if another program made it."""
    place = Place(folder, root)
    state = schema_state(place)
    found = list(state.findings)
    if state.schema is None:
        return found
    manifest, damage, _ = manifest_state(place)
    found += [item.finding for item in damage]
    rows = data_damage(place, manifest, state.schema, progress)
    logs = log_damage(place, manifest, state.schema)
    found += [item.finding for item in [*rows, *deletion_damage(place, manifest, state.schema), *logs]]
    bad = {item.file for item in rows}
    found += [item.finding for item in index_damage(place, manifest, bad)]
    return found + [item.finding for item in unnamed_files(place, manifest)]


# --- rows and deletions ---


def data_damage(
    place: Place, manifest: Manifest, schema: LiteSchema, progress: Progress = no_progress
) -> list[Damage]:
    """Data files that are not as they were written, and what is left of them."""
    files = list(manifest.files("data_files"))
    found = []
    for number, (partition, relative) in enumerate(files, start=1):
        file = place.folder / "partitions" / partition / relative
        problem = manifest.complaint(file, thorough=True) or _unreadable(manifest, file)
        if problem is not None:
            salvaged = salvage_rows(file, _expected(manifest, schema, file))
            found.append(Damage(file, Finding("", "", problem, ""), partition, relative, salvaged))
        progress("Checking the files", number, len(files))
    return [replace(damage, finding=_rows_finding(place, manifest, damage)) for damage in found]


def _expected(manifest: Manifest, schema: LiteSchema, file: Path) -> Expected:
    known = manifest.checksums.get(manifest.key(file))
    rows = manifest.content(file).get("rows")
    return Expected(schema, known[1] if known else None, rows, _flat_vectors(manifest, schema, file))


def _flat_vectors(manifest: Manifest, schema: LiteSchema, file: Path) -> Vectors | None:
    """The vectors of a file from its exact index, if that is as it was written."""
    flat = index_file(file, schema.ours.vector_field, EXACT)
    if manifest.key(flat) not in manifest.checksums or manifest.complaint(flat, thorough=True) is not None:
        return None
    vectors: Vectors = np.load(flat, mmap_mode="r", allow_pickle=False)
    return vectors


def index_file(file: Path, column: str, kind: str) -> Path:
    """Where the index of a data file is."""
    return file.parent.parent / "indexes" / f"{file.stem}.{column}.{kind.lower()}.idx"


def _unreadable(manifest: Manifest, file: Path) -> str | None:
    """Why a file without a digest cannot be read, or None."""
    if manifest.key(file) in manifest.checksums:
        return None
    try:
        pq.ParquetFile(file, page_checksum_verification=True).read().validate(full=True)
    except (*UNREADABLE, OSError) as error:
        logging.getLogger(__name__).debug("%s: %s", file, error)
        return "cannot be read"
    return None


def _rows_finding(place: Place, manifest: Manifest, damage: Damage) -> Finding:
    salvaged, problem = damage.salvaged, damage.finding.problem
    assert salvaged is not None
    if salvaged.content is not None:
        return place.finding(damage.file, problem, f"{NOTHING}: it can be restored as it was")
    lost = None if salvaged.unknown is None else salvaged.unknown + len(salvaged.lost)
    folders = tuple(map(decode_path, manifest.content(damage.file).get("folders", ())))
    return place.finding(
        damage.file,
        problem,
        f"{lost_text(lost)}; {len(salvaged.rows):,} others of this file are as they were"
        if len(salvaged.rows)
        else lost_text(lost),
        lost=lost,
        paths=tuple(salvaged.paths),
        folders=folders if salvaged.unknown != 0 else (),
    )


def lost_text(lost: int | None) -> str:
    """That pictures have to be encoded again."""
    if lost is None:
        return "an unknown number of pictures must be encoded again"
    return f"{lost:,} picture{'' if lost == 1 else 's'} must be encoded again" if lost else NOTHING


def deletion_damage(place: Place, manifest: Manifest, schema: LiteSchema) -> list[Damage]:
    """Files of deletions that are not as they were written, and what is left of them."""
    found = []
    for partition, relative in manifest.files("delta_files"):
        file = place.folder / "partitions" / partition / relative
        problem = manifest.complaint(file, thorough=True) or _unreadable(manifest, file)
        if problem is not None:
            known = manifest.checksums.get(manifest.key(file))
            salvaged = salvage_deletions(file, schema, known[1] if known else None)
            whole = salvaged.content is not None
            consequence = f"{NOTHING}: it can be restored as it was" if whole else _DELETIONS
            finding = place.finding(file, problem, consequence, folders=() if whole else _all_folders(manifest))
            found.append(Damage(file, finding, partition, relative, salvaged))
    return found


def _all_folders(manifest: Manifest) -> tuple[str, ...]:
    folders = {folder for file in named_files(manifest) for folder in manifest.content(file).get("folders", ())}
    return tuple(sorted(map(decode_path, folders)))


# --- logs ---


@dataclass(frozen=True, slots=True)
class LogDamage(Damage):
    """A damaged log, or the witness.

    Attributes:
        lost: :data:`~.lite_salvage.LOST` columns of rows in it that are lost.
    """

    lost: pa.Table = None


def log_damage(place: Place, manifest: Manifest, schema: LiteSchema) -> list[LogDamage]:
    """Logs that are not as they were written, and what is left of them."""
    logs = place.folder / "wal"
    found = []
    problems = {Path(str(error.file)): error.problem for error in lite_log.problems(logs, manifest.active_log)}
    for file in sorted({*problems, *logs.glob("wal_*.arrow")}):
        content = log_content(file, schema)
        problem = problems.get(file, "is not as it was written" if content.damaged else None)
        if problem is not None:
            acknowledged = lite_log.read_witness(logs).get(file.name, [0])[0]
            kind = ROWS if "_data_" in file.name else DELETIONS
            finding, lost = _log_finding(place, file, problem, content, max(0, acknowledged - content.read))
            if kind == DELETIONS and finding.consequence != NOTHING:
                finding = replace(finding, consequence=_DELETIONS, lost=0, folders=_all_folders(manifest))
            found.append(LogDamage(file, finding, lost=lost))
    witness = lite_log.witness_problem(logs)
    if witness is not None:
        file = logs / lite_log.WITNESS
        consequence = f"{NOTHING}: it tells how much of the log was acknowledged"
        found.append(LogDamage(file, place.finding(file, witness, consequence), lost=LOST.empty_table()))
    return found


def log_content(file: Path, schema: LiteSchema) -> lite_log.Content:
    """All of a log that can be read, under the schema that it should have: damage of its own one is no matter."""
    if not file.exists():
        return lite_log.Content([], [], 0)
    content = lite_log.read_log(file)
    expected = schema.logged_rows if file.name.startswith(f"wal_{ROWS}_") else schema.logged_deletions
    sound, damaged = [], list(content.damaged)
    for batch in content.sound:
        if batch.schema == expected:
            sound.append(batch)
            continue
        try:
            restored = pa.ipc.read_record_batch(batch.serialize(), expected)
            restored.validate(full=True)
            sound.append(restored)
        except (*UNREADABLE, OSError):
            damaged.append(batch)
    return lite_log.Content(sound, damaged, content.read)


def _log_finding(
    place: Place, file: Path, problem: str, content: lite_log.Content, missing: int
) -> tuple[Finding, pa.Table]:
    """What a damaged log costs.

    Args:
        missing: acknowledged bytes that are not there, or cannot be read.
    """
    lost = _lost_of(content.damaged)
    if not content.damaged and not missing:
        return place.finding(file, problem, NOTHING), lost
    paths = tuple(decode_path(path) for path in lost.column("path").to_pylist())
    if not missing:
        number = sum(batch.num_rows for batch in content.damaged)
        return place.finding(file, problem, lost_text(number), lost=number, paths=paths), lost
    rows = sum(batch.num_rows for batch in content.sound)
    about = f", about {-(-missing * rows // content.read):,} pictures" if rows else ""
    text = f"what was in the last {missing:,} bytes{about}, must be encoded again"
    return place.finding(file, problem, text, lost=None, paths=paths), lost


def _lost_of(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The rows of damaged batches whose key and path agree."""
    found: dict[str, list[Any]] = {name: [] for name in LOST.names}
    for batch in batches:
        try:
            batch.validate(full=True)
            columns = [batch.column(name).to_pylist() for name in LOST.names]
            rows = [row for row in zip(*columns, strict=True) if None not in row]
            rows = [row for row in rows if row[0] == picture_id(decode_path(row[2]))]
        except (*UNREADABLE, KeyError, TypeError) as error:
            logging.getLogger(__name__).debug("a damaged batch: %s", error)
            continue
        for row in rows:
            for name, value in zip(LOST.names, row, strict=True):
                found[name].append(value)
    return pa.table(found, schema=LOST)


# --- index ---


def index_damage(place: Place, manifest: Manifest, bad: set[Path]) -> list[Damage]:
    """Index files that are not as they were written.

    Args:
        bad: damaged data files, with which other files cannot be compared.
    """
    found = []
    known = [place.folder / key for key in manifest.checksums if "/indexes/" in key]
    for file in known:
        problem = manifest.complaint(file, thorough=True)
        if problem is not None:
            found.append(Damage(file, place.finding(file, problem, _REBUILT)))
    specs = [spec for column in manifest.index_specs if (spec := IndexSpec.of(manifest, column))]
    for spec in specs:
        for partition, relative in manifest.files("data_files"):
            data = place.folder / "partitions" / partition / relative
            file = index_file(data, spec.column, spec.kind)
            if data not in bad and file not in known and file.exists() and _is_wrong(place.folder, file, spec):
                found.append(Damage(file, place.finding(file, "does not fit its data file", _REBUILT)))
    return found


def _is_wrong(folder: Path, file: Path, spec: IndexSpec) -> bool:
    """Whether an index file without a digest is not that of its data file."""
    partition = file.parent.parent
    segment = Segment(folder, partition.name, f"data/{file.name.partition('.')[0]}.parquet")
    vectors = segment.vectors(spec.column, None)
    try:
        if spec.is_exact:
            return not np.array_equal(np.load(file, allow_pickle=False), vectors)
        LiteIndex(spec, segment, vectors.shape[1])
    except (DamagedError, *UNREADABLE) as error:
        logging.getLogger(__name__).debug("%s: %s", file, error)
        return True
    return False


# --- what nobody needs ---


def unnamed_files(place: Place, manifest: Manifest) -> list[Damage]:
    """Files that an interrupted write left behind."""
    if (place.folder / "snapshots").exists():  # Milvus Lite's, which name files of their own
        return []
    named = set(named_files(manifest))
    stems = {file.stem for file in named}
    found = sorted(place.folder.glob("*.tmp"))
    for file in sorted(place.folder.glob("partitions/*/*/*")):
        is_index = file.parent.name == "indexes"
        needed = file.name.partition(".")[0] in stems and file.suffix != ".tmp" if is_index else file in named
        # When Milvus Lite merges data files, it does not know of codes.
        needed = needed or (file.suffix == ".codes" and not manifest.checksums)
        found += [] if needed else [file]
    text = f"{NOTHING}: an interrupted write left it, and the next that changes the collection removes it"
    return [Damage(file, place.finding(file, "is needed by nothing", text)) for file in found]
