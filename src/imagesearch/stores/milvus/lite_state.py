"""What a collection of Milvus Lite is made of, even where ``schema.json`` or the manifest is damaged.

Both have a copy. Without either, the manifest is made of the files that are there; but nothing else says which
model the vectors are of. Nothing is changed here.
"""

from __future__ import annotations

import logging
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imagesearch.errors import DamagedError, ForeignCollectionError
from imagesearch.images.paths import decode_path
from imagesearch.reports import Finding
from imagesearch.stores.milvus import lite_log, lite_manifest, lite_schema
from imagesearch.stores.milvus.lite_manifest import Manifest
from imagesearch.stores.milvus.lite_salvage import Salvaged
from imagesearch.stores.milvus.lite_schema import LiteSchema
from imagesearch.stores.milvus.schema import RECORD_PROPERTY

NOTHING = "nothing is lost"

# What Arrow, FAISS and NumPy raise at files that hold something else.
UNREADABLE = (pa.ArrowException, RuntimeError, ValueError, EOFError, SyntaxError, tokenize.TokenError)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection is.

    Attributes:
        folder: its own.
        root: the database's.
    """

    folder: Path
    root: Path

    def finding(self, file: Path, problem: str, consequence: str, **more: Any) -> Finding:
        """A finding about one of its files."""
        return Finding(self.folder.name, file.relative_to(self.root).as_posix(), problem, consequence, **more)


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged file.

    Attributes:
        file, finding: which one, and what is wrong with it.
        partition, relative: where the manifest has a data file.
        salvaged: what is left of it.
    """

    file: Path
    finding: Finding
    partition: str = ""
    relative: str = ""
    salvaged: Salvaged | None = None


# --- schema ---


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What is known of the columns.

    Attributes:
        schema: None if it is lost, or if another program made the collection.
        payload: content of ``schema.json`` as it should be.
        is_lost: whether there is none, and no copy.
        findings: what is wrong.
    """

    schema: LiteSchema | None
    payload: dict[str, Any] | None
    is_lost: bool
    findings: tuple[Finding, ...]


def schema_state(place: Place) -> SchemaState:
    """Compare ``schema.json`` with its copy."""
    name, file, copy_file = place.folder.name, place.folder / lite_schema.NAME, place.folder / lite_schema.COPY
    copy, copy_damage = None, None
    try:
        copy = lite_schema.read_copy(place.folder)
    except DamagedError as error:
        copy_damage = place.finding(copy_file, error.problem, f"{NOTHING}: it is a copy of {lite_schema.NAME}")
    findings = (copy_damage,) if copy_damage else ()
    try:
        payload = lite_schema.read_payload(place.folder)
        schema = lite_schema.parse_payload(name, payload, file)
        if copy is None or _agree(payload, copy, name):
            return SchemaState(schema, payload, False, findings)
        problem = "is not as it was written"
    except DamagedError as error:
        problem = error.problem
    except ForeignCollectionError:
        if copy is None:
            return SchemaState(None, None, False, ())
        problem = "is not as it was written"
    if copy is None:
        consequence, lost = _without_schema(place)
        finding = place.finding(file, problem, consequence, lost=lost, folders=_folders(place))
        return SchemaState(None, None, True, (finding,))
    restored = {**copy, "collection_name": name}
    finding = place.finding(file, problem, f"{NOTHING}: there is a copy")
    return SchemaState(lite_schema.parse_payload(name, restored, copy_file), restored, False, (finding,))


def _agree(payload: dict[str, Any], copy: dict[str, Any], name: str) -> bool:
    """Whether they differ in no more than what Milvus Lite or an interrupted change may have written."""
    varying = ("collection_name", "fields", "properties")
    one, other = ({key: value for key, value in each.items() if key not in varying} for each in (payload, copy))
    record = RECORD_PROPERTY
    return (
        one == other
        and payload["collection_name"] in (copy["collection_name"], name)
        and payload["fields"][: len(copy["fields"])] == copy["fields"]
        and payload["properties"].get(record) == copy["properties"].get(record)
    )


def _without_schema(place: Place) -> tuple[str, int | None]:
    files = list(place.folder.glob("partitions/*/data/*.parquet"))
    if not files and not any(place.folder.glob("wal/*.arrow")):
        return "nothing is lost: there are no pictures in it", 0
    return "it is not known which model its vectors are of: all its pictures must be encoded again", None


def _folders(place: Place) -> tuple[str, ...]:
    """Where the pictures of data files were found, as far as these can be read."""
    found: set[str] = set()
    for file in place.folder.glob("partitions/*/data/*.parquet"):
        try:
            roots = pq.ParquetFile(file, page_checksum_verification=True).read(columns=["root"])
            found.update(roots.column("root").unique().to_pylist())
        except (*UNREADABLE, OSError, KeyError) as error:
            logging.getLogger(__name__).debug("%s: %s", file, error)
    return tuple(sorted(decode_path(folder) for folder in found if folder))


# --- manifest ---


def manifest_state(place: Place) -> tuple[Manifest, list[Damage], bool]:
    """The manifest as it should be, what is wrong with it, and whether it is made of the files that are there."""
    folder = place.folder
    file, copy_file = folder / lite_manifest.NAME, folder / lite_manifest.COPY
    copy = _manifest_copy(folder)
    try:
        manifest = Manifest.load(folder)
        if not _is_lost(manifest):
            return manifest, _copy_damage(place, manifest, copy), False
        problem = "is missing"
    except DamagedError as error:
        problem = error.problem
    files = set(folder.glob("partitions/*/data/*.parquet")) | set(folder.glob("partitions/*/delta/*.parquet"))
    if copy is not None and copy.checksums and files <= set(named_files(copy)):
        return copy, [Damage(file, place.finding(file, problem, f"{NOTHING}: there is a copy"))], False
    consequence = f"{NOTHING}: it is made again of the files that are there"
    found = [Damage(file, place.finding(file, problem, consequence))]
    if copy is None and copy_file.exists():
        found.append(Damage(copy_file, place.finding(copy_file, "is not as it was written", consequence)))
    return _rebuilt(folder, files, copy), found, True


def _is_lost(manifest: Manifest) -> bool:
    has_files = any(manifest.folder.glob("partitions/*/*/*"))
    return manifest.is_new and has_files and 1 not in lite_log.numbers(manifest.folder / "wal")


def _manifest_copy(folder: Path) -> Manifest | None:
    file = folder / lite_manifest.COPY
    try:
        return Manifest(folder, lite_manifest.parse(file.read_text(encoding="utf-8"), file))
    except (FileNotFoundError, UnicodeDecodeError, DamagedError):
        return None


def _copy_damage(place: Place, manifest: Manifest, copy: Manifest | None) -> list[Damage]:
    """Milvus Lite keeps an older one in its place, and so does a crash."""
    file = place.folder / lite_manifest.COPY
    if not manifest.checksums or (copy is not None and copy.number < manifest.number):
        return []
    if copy is not None and copy.payload == manifest.payload:
        return []
    problem = "is not as it was written" if file.exists() else "is missing"
    return [Damage(file, place.finding(file, problem, f"{NOTHING}: it is a copy of {lite_manifest.NAME}"))]


def named_files(manifest: Manifest) -> Iterator[Path]:
    """Data files and files of deletions that a manifest names."""
    for kind in ("data_files", "delta_files"):
        for partition, relative in manifest.files(kind):
            yield manifest.folder / "partitions" / partition / relative


def _rebuilt(folder: Path, files: set[Path], copy: Manifest | None) -> Manifest:
    """A manifest that names all files; a row that is in two of them counts once."""
    manifest = Manifest(folder, None if copy is None else {**copy.payload, "partitions": {}})
    for file in sorted(files):
        partition = file.parent.parent.name
        manifest.payload["partitions"].setdefault(partition, {"data_files": [], "delta_files": []})
        kind = f"{file.parent.name}_files"
        manifest.add(kind, partition, f"{file.parent.name}/{file.name}")
        highest = file.stem.rpartition("_")[2]
        if highest.isdigit():
            manifest.last_sequence = int(highest)
    return manifest
