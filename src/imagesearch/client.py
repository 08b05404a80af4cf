"""The Python API of a server (``imagesearch serve``): the methods of :class:`ImageSearch`, asked over HTTP.

Only the standard library's HTTP client is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from imagesearch.client_connection import API, Connection, Form
from imagesearch.client_jobs import followed
from imagesearch.client_pictures import MOST_TOGETHER, Pictures, size_of, together
from imagesearch.client_queries import answer_several
from imagesearch.errors import (
    CollectionNotFoundError,
    ImageSearchError,
    PictureError,
    UsageError,
)
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.find import list_of
from imagesearch.images.sources import ImageSource, several
from imagesearch.records import CollectionInfo, Hit, Prediction, Progress, Skipped, no_progress
from imagesearch.reports import AnnotateReport, ForgetReport, IndexReport
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.wire import (
    error_from_dict,
    forget_report_from_dict,
    index_report_from_dict,
    info_from_dict,
    predictions_from_list,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from imagesearch.client_labels import ServedLabelSession
    from imagesearch.stores.base import Vectors

_SKIPPED_PER_PAGE = 1000


class Client:
    """Search and index by way of a server, with the methods, values and errors of :class:`ImageSearch`.

    Pictures that are not in the collection are sent to the server. Folders are those of the server's machine.
    Several threads may use one object.

    Examples:
        >>> with Client("http://127.0.0.1:8000") as images:  # doctest: +SKIP
        ...     for hit in images.search("holiday.jpg", k=5):
        ...         print(f"{hit.score:.3f} {hit.path}")
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 60.0,
        max_megapixels: float = MAX_MEGAPIXELS,
        allow_insecure_token: bool = False,
    ) -> None:
        """Check the address; nothing is sent yet.

        Args:
            url: of the server: ``http://HOST:PORT`` or ``https://HOST``, perhaps with a path.
            token: what lets one in; sent in a header, to this server only.
            timeout: seconds to wait for an answer.
            max_megapixels: larger pictures are refused.
            allow_insecure_token: send the token over ``http://`` to another machine, too.

        Raises:
            UsageError: the address is none, or the token is none or would be sent in the clear.
        """
        self._connection = Connection(url, token, timeout, allow_insecure_token=allow_insecure_token)
        self._pictures = Pictures(self._connection, self._served, max_megapixels)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    def index(
        self,
        *folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        prune: bool = False,
        retry_skipped: bool = False,
        dry_run: bool = False,
        progress: Progress = no_progress,
    ) -> IndexReport:
        """See :meth:`ImageSearch.index`: the server does it as a job, which ends with whoever waits for it.

        Args:
            folders: on the server's machine; which ones are allowed is up to the server.
            prune, retry_skipped, dry_run: see :meth:`ImageSearch.index`.
            progress: called as the work goes on; an error or an interrupt (Ctrl-C) meanwhile cancels the job.

        Raises:
            UsageError: a folder does not exist or is not allowed.
            ImageSearchError: the job failed, or somebody cancelled it.
        """
        places = [_absolute(folder) for folder in list_of(*folders)]
        order = {"folders": places, "prune": prune, "retry_skipped": retry_skipped, "dry_run": dry_run}
        job = self._connection.post(f"{API}/jobs", order, repeatable=False)
        path = f"{API}/jobs/{quote(job['id'], safe='')}"
        try:
            job = followed(self._connection, path, progress)
        except BaseException:
            with contextlib.suppress(ImageSearchError):  # the first error is the one to tell
                self._connection.delete(path)
            raise
        if job["state"] == "done":
            return index_report_from_dict(job["report"])
        if job["state"] == "failed":
            raise error_from_dict(job["problem"] or {"detail": job["error"]})
        raise ImageSearchError("somebody cancelled the job; what was indexed so far is kept")

    def forget(self, *folders: str | os.PathLike[str], dry_run: bool = False) -> ForgetReport:
        """See :meth:`ImageSearch.forget`; only the owner of the database may.

        Raises:
            UsageError: somebody else asks.
            CollectionNotFoundError: nothing has been indexed with this model yet.
        """
        order = {"folders": [_absolute(folder) for folder in folders], "dry_run": dry_run}
        return forget_report_from_dict(self._connection.post(f"{API}/forget", order))

    def annotate(
        self, table: str | os.PathLike[str], on: str = "path", *, progress: Progress = no_progress
    ) -> AnnotateReport:
        """See :meth:`ImageSearch.annotate`; only the owner of the database may.

        Args:
            table: read here: a CSV file with a header, or a Parquet file.
            on: the column that says which picture.
            progress: called once, at the end.

        Raises:
            UsageError: it cannot be read or kept, or somebody else asks.
            CollectionNotFoundError: nothing has been indexed yet.
        """
        from imagesearch.client_annotations import annotated
        from imagesearch.library.annotations import read_annotations

        read = read_annotations(table, on)
        report = annotated(self._connection, read, on, self._served()["max_upload_bytes"])
        progress("annotate", report.pictures, report.pictures)
        return report

    def search(self, image: ImageSource | Query, k: int | None = None, **options: Any) -> list[Hit]:
        """See :meth:`ImageSearch.search`.

        Raises:
            UsageError, PictureError, CollectionNotFoundError, ModelMismatchError: see :meth:`ImageSearch.search`.
            StoreUnreachableError: the server does not answer.
        """
        return self.search_all([image], k, **options)[0]

    def search_all(
        self, images: Iterable[ImageSource | Query], k: int | None = None, **options: Any
    ) -> list[list[Hit]]:
        """See :meth:`ImageSearch.search_all`.

        Raises:
            ImageSearchError: see :meth:`search`.
        """
        wanted = self._served()["top_k"] if k is None else k
        return [found.require() for found in self.answer(images, SearchOptions(wanted, **options))]

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions | None = None) -> list[Answer]:
        """See :meth:`ImageSearch.answer`: a query that fails does not stop others.

        Raises:
            UsageError, CollectionNotFoundError, ModelMismatchError: see :meth:`search`.
            StoreUnreachableError: the server does not answer.
        """
        options = options or SearchOptions(self._served()["top_k"])
        options.check()
        # A list is no single picture; asking whether something else is one imports Pillow.
        asked = [Query.of(query) for query in (queries if isinstance(queries, list) else several(queries))]
        for query in asked:
            query.check()
        return answer_several(self._connection, self._pictures, self.describe, asked, options)

    def embed(self, images: Iterable[ImageSource]) -> Vectors:
        """See :meth:`ImageSearch.embed`.

        Returns:
            float32, shape (number of pictures, dimension).

        Raises:
            UsageError: a single picture was given, or one of them is of another type.
            PictureError: one of them cannot be read.
            CollectionNotFoundError: there are no pictures, and no collection to tell the dimension.
        """
        sources, made = list(several(images)), []
        for batch in self._pictures.batches(sources):
            files = [("images", str(number), data) for number, (_, data) in enumerate(batch)]
            try:
                made += self._connection.post(f"{API}/embed", form=Form(files, {}))["vectors"]
            except PictureError as error:
                source, _ = batch[int(error.path)]
                raise self._pictures.error_of(source, error) from error
        if not made:
            return np.empty((0, self.describe().fingerprint.dim), np.float32)
        return np.asarray(made, np.float32)

    def classify(self, image: ImageSource, top: int = 5) -> list[Prediction]:
        """See :meth:`ImageSearch.classify`.

        Raises:
            UsageError: ``top`` is less than 1.
            PictureError: the picture cannot be read.
            ModelError: the server's model has no labels.
        """
        _, result = next(self.classify_all([image], top))
        if isinstance(result, Skipped):
            raise result.error()
        return result

    def classify_all(
        self, images: Iterable[ImageSource], top: int = 5
    ) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
        """See :meth:`ImageSearch.classify_all`.

        Raises:
            UsageError: ``top`` is less than 1.
            ModelError: the server's model has no labels.
        """
        from imagesearch.search.labels import check_top

        check_top(top)
        for some in together(images if isinstance(images, list) else several(images), MOST_TOGETHER, size_of):
            yield from zip(some, self._labelled(some, top), strict=True)

    def label_session(
        self,
        labels: Sequence[str] = (),
        *,
        under: str | os.PathLike[str] | None = None,
        release: bool = False,  # noqa: ARG002 - as the library has it
    ) -> ServedLabelSession:
        """See :meth:`ImageSearch.label_session`: the server keeps the session; it must let one label.

        Args:
            labels: see :class:`LabelSession`.
            under: a folder of the server's machine.
            release: means nothing here: a server never lets go of its database.

        Raises:
            CollectionNotFoundError, UsageError, StoreError: see :class:`LabelSession`.
            ImageSearchError: the server does not let one label, or does not answer.
        """
        from imagesearch.client_labels import ServedLabelSession

        place = None if under is None else os.path.abspath(os.path.expanduser(os.fsdecode(under)))
        return ServedLabelSession(self._connection, labels, place)

    def skipped(self) -> list[Skipped]:
        """See :meth:`ImageSearch.skipped`."""
        found: list[Skipped] = []
        while True:
            page = self._connection.get(f"{API}/skipped?offset={len(found)}&limit={_SKIPPED_PER_PAGE}")["skipped"]
            found += [Skipped(**one) for one in page]
            if len(page) < _SKIPPED_PER_PAGE:
                return found

    def describe(self) -> CollectionInfo:
        """The collection that is searched.

        Raises:
            CollectionNotFoundError: nothing has been indexed yet.
        """
        served = self._served()
        if served["collection"] is None:
            raise CollectionNotFoundError(
                f"there is no collection {served['name']!r} in {served['engine']}; index some pictures first"
            )
        return info_from_dict(served["collection"])

    def index_mismatch(self) -> tuple[str, str] | None:
        """See :meth:`ImageSearch.index_mismatch`; None, too, if nothing has been indexed yet."""
        found = self._served()["index_mismatch"]
        return (found[0], found[1]) if found else None

    def collections(self) -> dict[str, CollectionInfo | None]:
        """Every collection of the server's database by name; None for those that other programs made."""
        found = self._connection.get(f"{API}/collections")
        infos = {values["name"]: info_from_dict(values) for values in found["collections"]}
        return {**infos, **dict.fromkeys(found["foreign"])}

    def indexed_folders(self) -> list[str]:
        """See :meth:`ImageSearch.indexed_folders`."""
        return list(self.status()["folders"])

    def status(self) -> dict[str, Any]:
        """What is served, and how busy the server is: see ``GET /api/v1/status``."""
        found: dict[str, Any] = self._connection.get(f"{API}/status")
        return found

    @property
    def engine(self) -> str:
        """Human-readable name and place of the server's database."""
        return str(self._served()["engine"])

    @property
    def place(self) -> str:
        """Where the server's database is, without credentials: of a local one its path, without links."""
        return str(self._served()["place"])

    def picture(self, key: int) -> bytes:
        """The file of a picture in the collection, by its id (``hit.picture.id``).

        Raises:
            UsageError: there is none of this id.
            PictureError: it cannot be read any more.
        """
        return self._connection.ask("GET", f"{API}/pictures/{int(key)}/image?download=true")

    def thumbnail(self, key: int, size: int = 320) -> bytes:
        """A small JPEG of a picture in the collection, by its id.

        Args:
            size: longest side in pixels, 1 to 1,600; the server rounds it up to one of the sizes that it keeps.

        Raises:
            UsageError: there is none of this id, or the size makes no sense.
            PictureError: it cannot be read any more.
        """
        return self._connection.ask("GET", f"{API}/pictures/{int(key)}/thumbnail?size={int(size)}")

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _served(self) -> dict[str, Any]:
        found: dict[str, Any] = self._connection.get(f"{API}/served")
        return found

    def _labelled(self, sources: Sequence[ImageSource], top: int) -> list[list[Prediction] | Skipped]:
        results: dict[int, list[Prediction] | Skipped] = {}
        with self._pictures.uploading() as upload:
            keys: dict[int, str] = {}
            for number, source in enumerate(sources):
                try:
                    keys[number], _ = upload(source, None)
                except PictureError as error:
                    results[number] = Skipped(error.path, error.reason, error.retryable)
            order = {"uploads": list(keys.values()), "top": top}
            found = self._connection.post(f"{API}/classify/several", order)["results"] if keys else []
        for number, values in zip(keys, found, strict=True):
            if "error" in values:
                failed = self._pictures.error_of(sources[number], error_from_dict(values["error"]))
                results[number] = Skipped(failed.path, failed.reason, failed.retryable)
            else:
                results[number] = predictions_from_list(values["predictions"])
        return [results[number] for number in range(len(sources))]


def _absolute(path: str | os.PathLike[str]) -> str:
    """A path that means the same to the server's process.

    Raises:
        UsageError: it is empty, such as an unset variable of a script.
    """
    place = os.fsdecode(path)
    if not place:
        raise UsageError("the name of a folder is empty")
    return os.path.abspath(os.path.expanduser(place))
