"""What the tools do: each a call of the library, its result as values and as compact text for a model to read.

Nothing here writes, and nothing reads a file that is not in the collection. What comes from files (names, cameras,
annotations) is shown with its control characters as escapes and cut to a bounded length: a name with a line end
cannot pretend to be a line of the answer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from imagesearch.errors import ImageSearchError, ModelError, UsageError
from imagesearch.frontends.mcp import schemas
from imagesearch.frontends.mcp.results import ToolResult
from imagesearch.frontends.text import counted, printable
from imagesearch.images.find import changed_ns
from imagesearch.records import Hit, ImageRecord, Skipped, parse_annotations
from imagesearch.search.answers import Answer, moment, moment_of
from imagesearch.search.browsing import browse
from imagesearch.search.filters import Filter
from imagesearch.search.image_encoding import ImageReading
from imagesearch.search.query import Query, SearchOptions

if TYPE_CHECKING:
    from imagesearch.service import ImageSearch

_log = logging.getLogger(__name__)

# Characters of a name or a path, of any other text from a file, and entries of a list, that are shown.
_MOST_OF_PATH = 1000
_MOST_OF_TEXT = 500
_MOST_ENTRIES = 100
# Words that 'status' names unless asked for all.
_EXAMPLES_OF_WORDS = 30


def call_tool(images: ImageSearch, name: str, arguments: Mapping[str, Any]) -> ToolResult:
    """Call one of :data:`schemas.TOOLS`; what goes wrong is an answer, too, in one line.

    Args:
        name: the tool's.
        arguments: as the client sent them; None stands for "not given".
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    try:
        checked = schemas.TOOLS[name].arguments.model_validate(given)
        text, values, jpeg = _CALLS[name](images, checked)
    except ValidationError as error:
        return failure(_said(error))
    except ImageSearchError as error:
        return failure("; ".join(str(error).splitlines()))
    except Exception as error:  # noqa: BLE001 - a mistake in this program must not end the server
        _log.exception("tool %s failed", name)
        return failure(f"{name} failed, which is a mistake in this program: {type(error).__name__}: {error}")
    return ToolResult(text, values.model_dump(mode="json", exclude_none=True), jpeg)


def failure(message: str) -> ToolResult:
    """The answer that says why there is none, in one line."""
    return ToolResult(_bounded(message, 2 * _MOST_OF_PATH), {}, is_error=True)


def _said(error: ValidationError) -> str:
    """Which arguments are wrong and what they must be; not what was given, which may be long."""
    problems = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(map(str, problem["loc"]))
        problems.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return "; ".join(problems[:5])


_Answered = tuple[str, schemas.Values, bytes | None]


def _search_text(images: ImageSearch, asked: schemas.SearchText) -> _Answered:
    return _search(images, Query.words(asked.text), asked)


def _search_similar(images: ImageSearch, asked: schemas.SearchSimilar) -> _Answered:
    return _search(images, Query.stored(int(asked.id)), asked)


def _search_examples(images: ImageSearch, asked: schemas.SearchExamples) -> _Answered:
    weights = asked.liked_weights or [1.0] * len(asked.liked)
    query = Query(())
    for picture, weight in zip(asked.liked, weights, strict=True):
        query += weight * Query.stored(int(picture))
    for picture in asked.disliked:
        query -= asked.disliked_weight * Query.stored(int(picture))
    return _search(images, query, asked)


def _search(images: ImageSearch, query: Query, asked: schemas.Searched) -> _Answered:
    options = SearchOptions(
        asked.k, offset=asked.offset, only_confident=asked.only_confident, where=_filter(images, asked)
    )
    (found,) = images.answer([query], options)
    hits = found.require()
    name = images.spec.name
    notes = [_bounded(note) for note in _notes(found, options)]
    listed = [
        schemas.FoundHit(
            **_found(hit.picture),
            rank=hit.rank,
            score=hit.score,
            confidence=None if hit.confidence is None else round(hit.confidence, 4),
        )
        for hit in hits
    ]
    asked_for = _bounded(str(query))
    lines = [f"{counted(len(hits), 'picture')} of collection {name} most like {asked_for}"]
    lines += [f"note: {note}" for note in notes]
    if hits:
        lines += ["rank  score  sure  id  date  path", *map(_hit_line, hits)]
    return "\n".join(lines), schemas.SearchResult(query=asked_for, collection=name, hits=listed, notes=notes), None


def _notes(found: Answer, options: SearchOptions) -> list[str]:
    notes = list(found.meanings)
    if found.best is not None and found.best.expected is None and options.only_confident:
        notes.append(
            "only_confident: it is not known what scores come by chance, so everything was left out: ask without"
        )
    elif not found.hits:
        if found.best is None:
            notes.append("no picture matches the filter" if options.where else "there are no more pictures")
        else:
            notes.append(
                f"nothing is similar enough; the closest, {found.best.picture.id}, has {found.best.score:.3f}"
            )
    return notes


def _hit_line(hit: Hit) -> str:
    sure = "-" if hit.confidence is None else f"{hit.confidence:.0%}"
    return f"{hit.rank}  {hit.score:.3f}  {sure}  {_picture_line(hit.picture)}"


def _picture_line(record: ImageRecord) -> str:
    return f"{record.id}  {moment_of(record)[:10]}  {_path(record)}"


def _describe_picture(images: ImageSearch, asked: schemas.DescribePicture) -> _Answered:
    record = _records(images, [asked.id])[asked.id]
    if record is None:
        raise UsageError(_not_there(images, asked.id))
    notes = parse_annotations(record.annotations)
    values = schemas.PictureDescription(
        **_found(record),
        folder=_bounded(record.root, _MOST_OF_PATH),
        width=record.width,
        height=record.height,
        bytes=record.size,
        taken=None if record.taken is None else _bounded(record.taken),
        changed=moment(None, record.mtime_ns),
        camera=None if record.camera is None else _bounded(record.camera),
        latitude=record.latitude,
        longitude=record.longitude,
        annotations={
            _bounded(name): _bounded(value) if isinstance(value, str) else value
            for name, value in list(notes.items())[:_MOST_ENTRIES]
        },
        file=_state(record),
    )
    shown = values.model_dump(exclude_none=True, exclude={"annotations", "date"})
    lines = [f"{name}: {value}" for name, value in shown.items()]
    lines += [f"annotation {name}: {value}" for name, value in values.annotations.items()]
    return "\n".join(lines), values, None


def _list_pictures(images: ImageSearch, asked: schemas.ListPictures) -> _Answered:
    where = _filter(images, asked)
    page = browse(images.collection(), asked.k, offset=asked.offset, order=asked.order, where=where)
    name, last = images.spec.name, asked.offset + len(page.pictures)
    which = f"{asked.offset + 1:,} to {last:,}" if page.pictures else "none"
    lines = [f"{which} of {counted(page.total, 'picture')} in collection {name}, order: {asked.order}"]
    if page.pictures:
        lines += ["id  date  path", *map(_picture_line, page.pictures)]
    listed = [schemas.Found(**_found(record)) for record in page.pictures]
    return "\n".join(lines), schemas.PictureList(collection=name, total=page.total, pictures=listed), None


def _label_pictures(images: ImageSearch, asked: schemas.LabelPictures) -> _Answered:
    records = _some_records(images, asked.ids)
    paths = [record.path for record in records.values() if record is not None]
    labelled = iter(images.classify_all(paths, asked.top))
    pictures, lines = [], []
    for key, record in records.items():
        if record is None:
            pictures.append(schemas.Labelled(id=key, note=_not_there(images, key)))
            lines.append(f"{key}  {pictures[-1].note}")
            continue
        _, result = next(labelled)
        labels: list[schemas.Label] = []
        note = _CHANGED if _state(record) == "changed" else None
        if isinstance(result, Skipped):
            note = _bounded(result.reason)
        else:
            labels = [schemas.Label(label=one.label, probability=round(one.score, 4)) for one in result]
        shown = _path(record)
        pictures.append(schemas.Labelled(id=key, path=shown, labels=labels, note=note))
        said = ", ".join(f"{one.label} {one.probability:.0%}" for one in labels)
        lines.append("  ".join(filter(None, (key, shown, said, note and f"note: {note}"))))
    return "\n".join(lines), schemas.LabelResult(pictures=pictures), None


def _contact_sheet(images: ImageSearch, asked: schemas.ContactSheet) -> _Answered:
    from imagesearch.frontends.mcp.sheet import Cell, draw_sheet

    records = _some_records(images, asked.ids)
    cells = [
        Cell(None, _not_there(images, key)) if record is None else Cell(record.path)
        for key, record in records.items()
    ]
    sheet = draw_sheet(cells, _reading(images))
    pictures, lines = [], []
    for number, ((key, record), note) in enumerate(zip(records.items(), sheet.notes, strict=True), start=1):
        has_changed = record is not None and _state(record) == "changed"
        said = _bounded(note) if note else _CHANGED if has_changed else None
        path = None if record is None else _path(record)
        pictures.append(schemas.SheetPicture(number=number, id=key, path=path, note=said))
        lines.append("  ".join(filter(None, (f"{number}", key, path, said and f"note: {said}"))))
    values = schemas.SheetResult(width=sheet.width, height=sheet.height, columns=sheet.columns, pictures=pictures)
    return "\n".join(["number  id  path", *lines]), values, sheet.jpeg


def _status(images: ImageSearch, asked: schemas.Status) -> _Answered:
    info = images.describe()
    known, understood = _words(images)
    words = known if asked.list_words else known[:_EXAMPLES_OF_WORDS]
    values = schemas.StatusResult(
        collection=info.name,
        pictures=info.rows,
        folders=[_bounded(folder, _MOST_OF_PATH) for folder in images.indexed_folders()[:_MOST_ENTRIES]],
        model=_bounded(info.fingerprint.model),
        database=_bounded(images.engine),
        skipped=len(images.skipped()),
        text_search=understood,
        word_count=len(known),
        words=[_bounded(word) for word in words[: schemas.MAX_WORDS]],
    )
    lines = [
        f"collection {values.collection}: {counted(info.rows, 'picture')}, model {values.model}",
        f"database: {values.database}",
        *(f"folder: {folder}" for folder in values.folders),
        f"skipped: {counted(values.skipped, 'file')}",
        f"text search: {understood}",
    ]
    if values.words:
        which = "words" if len(values.words) == len(known) else f"some of {len(known):,} words"
        lines.append(f"{which}: {'; '.join(values.words)}")
    return "\n".join(lines), values, None


def _words(images: ImageSearch) -> tuple[tuple[str, ...], Any]:
    """The words that the model knows, and which kind of text it understands."""
    try:
        known = images.networks.known_words()
    except ModelError:  # it has no text tower, nor labels of its own
        return (), "none"
    return ((), "free text") if known is None else (known, "known words")


_CHANGED = "the file has changed since it was indexed"


def _filter(images: ImageSearch, asked: schemas.Filtered) -> Filter | None:
    """Which pictures count; a relative folder is below any of those that were indexed, not the working directory.

    Raises:
        UsageError: a date or a folder makes no sense.
    """
    if "\0" in asked.under:
        raise UsageError("under: no folder has a null character in its name")
    under: tuple[str, ...] = ()
    if asked.under:
        roots = ("",) if os.path.isabs(asked.under) else tuple(images.indexed_folders())
        under = tuple(os.path.join(root, asked.under) for root in roots)
    where = Filter(
        under=under, after=asked.after or None, before=asked.before or None, camera=asked.camera or None
    )
    return where or None


def _records(images: ImageSearch, ids: Sequence[str]) -> dict[str, ImageRecord | None]:
    """The row of each id, in their order, each once."""
    keys = dict.fromkeys(ids)
    rows, _ = images.collection().fetch([int(key) for key in keys])
    there = {str(record.id): record for record in rows}
    return {key: there.get(key) for key in keys}


def _some_records(images: ImageSearch, ids: Sequence[str]) -> dict[str, ImageRecord | None]:
    """The same.

    Raises:
        UsageError: none of them is in the collection.
    """
    records = _records(images, ids)
    if not any(records.values()):
        raise UsageError(_not_there(images, *records))
    return records


def _not_there(images: ImageSearch, *keys: str) -> str:
    return f"collection {images.spec.name} has no picture {', '.join(keys)}"


def _reading(images: ImageSearch) -> ImageReading:
    extraction, data = images.config.extraction, images.config.data
    return ImageReading(extraction.batch_size, extraction.decode_threads, data.max_megapixels, data.read_timeout)


def _state(record: ImageRecord) -> schemas.FileState:
    try:
        now = os.stat(record.path)
    except OSError:
        return "missing"
    return "there" if (now.st_size, changed_ns(now)) == (record.size, record.mtime_ns) else "changed"


def _found(record: ImageRecord) -> dict[str, str]:
    return {"id": str(record.id), "path": _path(record), "date": moment_of(record)[:19]}


def _path(record: ImageRecord) -> str:
    return _bounded(record.path, _MOST_OF_PATH)


def _bounded(text: str, most: int = _MOST_OF_TEXT) -> str:
    """Text that is safe to show, its middle cut out where it is long."""
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most * 2 // 3]}…{shown[-most // 3 :]}"


_CALLS: dict[str, Callable[[ImageSearch, Any], _Answered]] = {
    "search_text": _search_text,
    "search_similar": _search_similar,
    "search_examples": _search_examples,
    "describe_picture": _describe_picture,
    "list_pictures": _list_pictures,
    "label_pictures": _label_pictures,
    "contact_sheet": _contact_sheet,
    "status": _status,
}
