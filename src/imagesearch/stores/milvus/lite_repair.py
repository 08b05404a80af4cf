"""Repairing the files of one collection of Milvus Lite, so that it can be opened again.

Each step is complete on the disk before the next, and finds out by itself what is to be done: what was interrupted
can be repeated. Damaged originals are kept in ``imagesearch-damaged`` beside the collections, except files of an
index, which holds nothing that is not in the data files. What is lost stays lost: its rows are deleted, so that no
older row of the same picture shows instead, and pictures that are still there can be encoded again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from imagesearch.records import Progress, no_progress
from imagesearch.reports import Finding
from imagesearch.stores.columns import ID
from imagesearch.stores.milvus import lite_log, lite_schema
from imagesearch.stores.milvus.lite_check import (
    LogDamage,
    data_damage,
    deletion_damage,
    index_damage,
    log_content,
    log_damage,
    unnamed_files,
)
from imagesearch.stores.milvus.lite_files import sync_file, sync_folder
from imagesearch.stores.milvus.lite_log import DELETIONS, ROWS
from imagesearch.stores.milvus.lite_manifest import COPY, NAME, PARTITION, Manifest
from imagesearch.stores.milvus.lite_recent import RecentRows
from imagesearch.stores.milvus.lite_schema import LiteSchema
from imagesearch.stores.milvus.lite_segment import SEQUENCE, summary, write_data, write_deletions
from imagesearch.stores.milvus.lite_state import Damage, Place, manifest_state, schema_state

_KEPT = "imagesearch-damaged"


def repair_collection(folder: Path, root: Path, progress: Progress = no_progress) -> list[Finding]:
    """Repair a collection; nobody may have it open.

    Returns:
        What was wrong. A finding is repaired if nothing of it is left but rows to be encoded again.
    """
    place = Place(folder, root)
    schema, found = _repair_schema(place)
    if schema is None:
        return found
    manifest, more = _repair_manifest(place)
    found += more
    bad = data_damage(place, manifest, schema, progress)
    found += _repair_rows(place, manifest, schema, bad)
    found += _repair_deletions(place, manifest, deletion_damage(place, manifest, schema))
    found += _repair_logs(place, manifest, schema, log_damage(place, manifest, schema))
    damage = index_damage(place, manifest, {item.file for item in bad if not item.file.exists()})
    gone = [item.file for item in damage]
    if gone:
        manifest.forget(gone)
        manifest.save()
    leftovers = unnamed_files(place, manifest)
    for file in [*gone, *(item.file for item in leftovers)]:
        file.unlink(missing_ok=True)
    return found + _repaired([*damage, *leftovers])


def _repaired(damage: Iterable[Damage]) -> list[Finding]:
    return [replace(item.finding, is_repaired=True) for item in damage]


# --- keeping what is damaged ---


def _keep(place: Place, files: Iterable[Path]) -> None:
    """Let damaged files have a second name, under which they stay."""
    for file in files:
        if not file.exists():
            continue
        target = place.root / _KEPT / place.folder.name / file.relative_to(place.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        name, number = target, 1
        while name.exists() and not os.path.samefile(name, file):
            name, number = target.with_name(f"{target.name}.{number}"), number + 1
        if not name.exists():
            _link(file, name)
        sync_folder(name.parent)


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # some file systems have no links
        shutil.copy2(file, name)
        sync_file(name)


def _replace(file: Path, content: bytes) -> None:
    """Give a file another content in one step, durably."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(file.parent)


# --- schema and manifest ---


def _repair_schema(place: Place) -> tuple[LiteSchema | None, list[Finding]]:
    state = schema_state(place)
    if state.is_lost:
        return None, [_set_aside(place, finding) for finding in state.findings]
    if state.schema is None or state.payload is None:
        return None, list(state.findings)
    folder = place.folder
    if state.findings:
        _keep(place, [folder / lite_schema.NAME, folder / lite_schema.COPY])
        lite_schema.write_payload(folder, state.payload)
    elif not (folder / lite_schema.COPY).exists():
        lite_schema.write_copy(folder, state.payload)  # an earlier version made none
    return state.schema, [replace(finding, is_repaired=True) for finding in state.findings]


def _set_aside(place: Place, finding: Finding) -> Finding:
    """Move a folder away of which nobody knows what is in it; without pictures it is deleted."""
    if finding.lost == 0:
        shutil.rmtree(place.folder)
        return replace(finding, is_repaired=True)
    target = place.root / _KEPT / place.folder.name
    name, number = target, 1
    while name.exists():
        name, number = target.with_name(f"{target.name}.{number}"), number + 1
    name.parent.mkdir(parents=True, exist_ok=True)
    os.rename(place.folder, name)
    sync_folder(name.parent)
    return replace(finding, consequence=f"{finding.consequence} (its files are in {name})", is_repaired=True)


def _repair_manifest(place: Place) -> tuple[Manifest, list[Finding]]:
    manifest, damage, is_rebuilt = manifest_state(place)
    if damage:
        _keep(place, [place.folder / NAME, place.folder / COPY])
        if is_rebuilt and not manifest.index_specs:  # which index it was is not known any more
            for file in place.folder.glob("partitions/*/indexes/*"):
                file.unlink()
        manifest.save()
    return manifest, _repaired(damage)


# --- rows and deletions ---


def _repair_rows(place: Place, manifest: Manifest, schema: LiteSchema, damage: Sequence[Damage]) -> list[Finding]:
    """Restore data files, or put a smaller one in the place of each, with the rows that are left."""
    folder = place.folder / "partitions" / PARTITION
    for item in damage:
        assert item.salvaged is not None
        _keep(place, [item.file])
        if item.salvaged.content is not None:
            _replace(item.file, item.salvaged.content)
            continue
        manifest.remove("data_files", item.partition, [item.relative])
        indexes = [file for file in _noted(manifest) if _is_index_of(file, item.file)]
        manifest.forget([item.file, *indexes])
        rows, lost = item.salvaged.rows, item.salvaged.lost
        if rows.num_rows:
            relative = write_data(rows, folder, schema.ours.vector_field)
            manifest.add("data_files", PARTITION, relative)
            manifest.note(folder / relative, **summary(rows))
        _name_deletions(manifest, folder, lost.select([ID, SEQUENCE]).cast(schema.deletions))
        _save(manifest, folder)
        for file in [item.file, *indexes]:
            file.unlink(missing_ok=True)
    return _repaired(damage)


def _noted(manifest: Manifest) -> list[Path]:
    return [manifest.folder / key for key in manifest.checksums]


def _is_index_of(file: Path, data: Path) -> bool:
    return file.parent == data.parent.parent / "indexes" and file.name.partition(".")[0] == data.stem


def _name_deletions(manifest: Manifest, folder: Path, deletions: pa.Table) -> None:
    if deletions.num_rows:
        relative = write_deletions(deletions, folder)
        manifest.add("delta_files", PARTITION, relative)
        manifest.note(folder / relative, rows=deletions.num_rows)


def _save(manifest: Manifest, partition: Path) -> None:
    for folder in (partition / "data", partition / "delta", partition, partition.parent, manifest.folder):
        if folder.exists():
            sync_folder(folder)
    manifest.save()


def _repair_deletions(place: Place, manifest: Manifest, damage: Sequence[Damage]) -> list[Finding]:
    for item in damage:
        assert item.salvaged is not None
        _keep(place, [item.file])
        if item.salvaged.content is not None:
            _replace(item.file, item.salvaged.content)
        else:
            manifest.remove("delta_files", item.partition, [item.relative])
            manifest.forget([item.file])
            manifest.save()
            item.file.unlink(missing_ok=True)
    return _repaired(damage)


# --- logs ---


def _repair_logs(
    place: Place, manifest: Manifest, schema: LiteSchema, damage: Sequence[LogDamage]
) -> list[Finding]:
    """Make data files of what can be read of all logs."""
    if not damage:
        return []
    logs = place.folder / "wal"
    numbers = lite_log.numbers(logs)
    files = [lite_log.path_of(logs, kind, number) for number in numbers for kind in (ROWS, DELETIONS)]
    _keep(place, [item.file for item in damage])
    recent = RecentRows()
    for file in filter(Path.exists, files):
        is_rows = file.name.startswith(f"wal_{ROWS}_")
        for batch in log_content(file, schema).sound:
            (recent.insert if is_rows else recent.delete)(batch)
    for item in damage:
        if item.lost.num_rows:
            recent.delete(item.lost.select([ID, SEQUENCE]).combine_chunks().to_batches()[0])
    folder = place.folder / "partitions" / PARTITION
    rows, deletions = recent.table(), recent.deletions(schema.deletions)
    if rows is not None:
        relative = write_data(rows.select(schema.rows.names), folder, schema.ours.vector_field)
        manifest.add("data_files", PARTITION, relative)
        manifest.note(folder / relative, **summary(rows))
    if deletions is not None:
        _name_deletions(manifest, folder, deletions)
    manifest.last_sequence = recent.last_sequence
    manifest.active_log = max([*numbers, (manifest.active_log or 1) - 1]) + 1
    _save(manifest, folder)
    lite_log.delete_logs(logs, max(numbers, default=0))
    return _repaired(damage)
