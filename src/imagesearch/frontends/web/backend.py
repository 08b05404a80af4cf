"""What the routes use: one :class:`ImageSearch` that owns the database, and what serving it takes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from imagesearch.errors import CollectionNotFoundError, ImageSearchError, ModelError
from imagesearch.frontends.web.batching import BusyError, SearchBatcher
from imagesearch.frontends.web.browsing import Browser
from imagesearch.frontends.web.decoding import DecodingThreads, decoded
from imagesearch.frontends.web.failures import ForbiddenError
from imagesearch.frontends.web.jobs import Jobs, Order
from imagesearch.frontends.web.label_sessions import LabelSessions
from imagesearch.frontends.web.schemas import Part, PathPart, PicturePart, UploadPart, VectorPart, WordsPart
from imagesearch.frontends.web.thumbnails import Thumbnails
from imagesearch.frontends.web.uploads import NotFoundError, Uploads
from imagesearch.images.sources import ImageSource
from imagesearch.records import LARGEST_ID, ImageRecord, Prediction, Progress, Skipped
from imagesearch.reports import IndexReport
from imagesearch.search.answers import Answer
from imagesearch.search.image_encoding import Preprocessed, checked_views, load_region, preprocess, shortest_side
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.ranking import by_patches
from imagesearch.service import ImageSearch

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Backend:
    """Everything that one server shares among its requests.

    Args:
        images: what is served; closed with this object.
        folders: below which anybody who may search may index, besides what is indexed already.
        cache: where thumbnails are kept; default: the user's cache folder.
    """

    def __init__(self, images: ImageSearch, folders: tuple[str, ...] = (), cache: Path | None = None) -> None:
        self.images = images
        self.settings = images.config.server
        self.folders = tuple(os.path.realpath(os.path.expanduser(folder)) for folder in folders)
        self.max_megapixels = images.config.data.max_megapixels
        self.searches = SearchBatcher(
            images.answer, batch_size=self.settings.batch_size, queue_size=self.settings.queue_size
        )
        self.uploads = Uploads()
        most_bytes = int(self.settings.thumbnail_cache_mb * 1e6)
        self.thumbnails = Thumbnails(cache or _cache_folder(), most_bytes, self.max_megapixels)
        self.browser = Browser(images.collection)
        self.jobs = Jobs(self._index, self.browser.forget_orders)
        self._decoding = DecodingThreads(os.cpu_count() or 1)
        self._labelling = threading.Lock()
        # Those that take long, one after the other; the limiter belongs to the event loop.
        self._apart: anyio.CapacityLimiter | None = None
        self._waiting_apart = 0
        self.label_sessions = LabelSessions(images)

    def warm_up(self) -> None:
        """Load the network and open the database, so that the first search need not wait for them."""
        try:
            self.images.embedder  # noqa: B018 - loads it
            self.images.find_collection()
        except ImageSearchError as error:  # requests tell it, too
            _log.warning("%s", error)

    def close(self) -> None:
        """Finish the batch that is being written, answer what waits, and let go of the database."""
        self.jobs.close()
        self.label_sessions.close()
        self._decoding.close()
        self.searches.close()
        self.thumbnails.close()
        self.uploads.close()
        self.images.close()

    async def decoding(self, work: Callable[..., T], *given: Any, **options: Any) -> T:
        """Do something in a thread that decodes pictures, of which there are never more at work than cores."""
        return await self._decoding.run(partial(work, *given, **options))

    async def search(self, query: Query, options: SearchOptions) -> Answer:
        """The answer, found together with those to others who ask at this time.

        Raises:
            BusyError: too many wait.
        """
        if by_patches(options.rerank or self.images.config.search.rerank):  # which would hold up others
            (found,) = await self.search_apart([query], options)
            return found
        return await asyncio.wrap_future(self.searches.submit(query, options))

    async def search_apart(self, queries: Sequence[Query], options: SearchOptions) -> list[Answer]:
        """The answers to queries that take long, apart from the others, whom they would hold up.

        Raises:
            BusyError: too many wait.
        """
        if self._apart is None:
            self._apart = anyio.CapacityLimiter(1)
        if self._waiting_apart >= self.images.config.server.queue_size:
            raise BusyError(f"{self._waiting_apart} long searches wait already: try again in a moment")
        self._waiting_apart += 1
        try:
            return await anyio.to_thread.run_sync(self.images.answer, queries, options, limiter=self._apart)
        finally:
            self._waiting_apart -= 1

    def query(self, parts: list[Part], views: str | None = None) -> Query:
        """What is asked for; pictures are decoded here, so that a large one holds up nobody else.

        Args:
            views: see :class:`~imagesearch.search.query.SearchOptions`.

        Raises:
            NotFoundError: an upload or a picture is not there.
            PictureError: a picture cannot be read.
            UsageError: a region makes no sense.
        """
        query = Query(())
        for part in parts:
            query += part.weight * self.one(part, views=views)
        query.check()
        return query

    def one(self, part: Part, *, views: str | None = None, lazily: bool = False) -> Query:
        """The same for one part, without its weight.

        Args:
            views: see :meth:`query`.
            lazily: let whoever encodes the picture read it.
        """
        if isinstance(part, WordsPart):
            return Query.words(part.text)
        if isinstance(part, VectorPart):
            return Query.vector(part.values)  # type: ignore[arg-type]
        if isinstance(part, PathPart):
            return _called(part.name, Query.stored(part.path))
        if isinstance(part, PicturePart) and part.region is None:
            return _called(part.name, Query.stored(int(part.id)))
        if isinstance(part, PicturePart):
            source = self.picture(part.id).path
            name = part.name or os.path.basename(source)
        else:
            source, name = str(self.uploads.path(part.id)), part.name or self.uploads.get(part.id).name
        if lazily:
            return Query.image(source, region=part.region, name=name)
        return self.query_for(source, part.region, name, views)

    def query_for(self, source: ImageSource, region: str | None, name: str, views: str | None = None) -> Query:
        """A query for a picture, decoded and preprocessed: what one thread does for all need only run the network.

        Raises:
            PictureError: it cannot be read, or the region lies outside.
            UsageError: the region is none.
        """
        query = Query.image(source, region=region, name=name)
        (part,) = query.parts
        embedder, seen = self.images.embedder, checked_views(views or self.images.config.search.views)

        def load(source: ImageSource) -> Preprocessed:
            image = load_region(source, part.region, self.max_megapixels, shortest_side(embedder, seen))
            return preprocess(embedder, image, seen)

        return Query((replace(part, value=decoded(source, load), region=None, name=part.label),))

    def picture(self, key: str) -> ImageRecord:
        """A picture of the collection.

        Raises:
            NotFoundError: there is none of this id.
        """
        records = self.pictures([key])
        if not records:
            raise NotFoundError(f"there is no picture {key} in the collection")
        return records[0]

    def pictures(self, keys: Sequence[str]) -> list[ImageRecord]:
        """Those of some pictures that are in the collection, in no particular order."""
        numbers = sorted({number for number in map(int, keys) if number <= LARGEST_ID})
        try:
            return self.images.collection().fetch(numbers)[0]
        except CollectionNotFoundError:
            return []

    def source_of(self, part: PicturePart | UploadPart) -> ImageSource:
        """The file of a picture in the collection, or the bytes of an upload.

        Raises:
            NotFoundError: it is not there.
        """
        return self.picture(part.id).path if isinstance(part, PicturePart) else self.uploads.read(part.id)

    def classify(self, part: PicturePart | UploadPart, top: int) -> list[Prediction]:
        """The most probable labels of a picture, or of a region of it.

        Raises:
            NotFoundError, PictureError: it is not there, or cannot be read.
            ModelError: the model has no labels.
        """
        return self.label(self.image(self.source_of(part), part.region), top)

    def image(self, source: ImageSource, region: str | None = None) -> Image.Image:
        """A picture, or a region of it, decoded as a whole.

        Raises:
            PictureError: it cannot be read, or the region lies outside.
            UsageError: the region is none.
        """
        cut = Query.image(b"", region=region).parts[0].region

        def load(source: ImageSource) -> Image.Image:
            return load_region(source, cut, self.max_megapixels)

        return decoded(source, load)

    def label(self, image: Image.Image, top: int) -> list[Prediction]:
        """The most probable labels of an image; raises what :meth:`classify` does."""
        with self._labelling:  # one at a time is as fast, and memory is bounded
            return self.images.classify(image, top)

    def classify_several(self, keys: Sequence[str], top: int) -> list[list[Prediction] | Skipped]:
        """The most probable labels of uploads, in batches, or why they cannot be read.

        Raises:
            NotFoundError: one is not there.
            ModelError: the model has no labels.
        """
        files = [str(self.uploads.path(key)) for key in keys]
        with self._labelling:
            return [result for _, result in self.images.classify_all(files, top)]

    def words(self) -> Words:
        """Which words can be searched for."""
        try:
            known = self.images.networks.known_words()
        except ModelError as error:
            return Words(False, (), str(error))
        return Words(known is None, known or (), "")

    @property
    def classifier(self) -> str | None:
        """The model that labels pictures, as the settings call it; None if there is none."""
        model = self.images.config.model
        try:
            has_labels = self.images.networks.has_labels()
        except ModelError:  # every search tells it
            return None
        return (model.classifier or model.name) if has_labels else None

    @property
    def decode_side(self) -> int | None:
        """Pixels of the shorter side that the network needs of a picture; None: all, or there is no network."""
        try:
            return self.images.embedder.decode_side
        except ImageSearchError:  # requests that need it tell why
            return None

    def may_index(self, folders: tuple[str, ...]) -> None:
        """Refuse folders that only the owner of the database may index.

        Raises:
            UsageError: names the first one.
        """
        allowed = {*self.folders, *self.images.indexed_folders()}
        for folder in folders:
            place = os.path.realpath(os.path.expanduser(folder))
            if not any(place == one or place.startswith(one.rstrip(os.sep) + os.sep) for one in allowed):
                raise ForbiddenError(
                    f"{folder!r} lies in no folder that was indexed before or named when the server was started:"
                    " start it with 'imagesearch serve FOLDER', or index it on the command line"
                )

    def _index(self, order: Order, progress: Progress) -> IndexReport:
        return self.images.index(
            list(order.folders),
            prune=order.prune,
            retry_skipped=order.retry_skipped,
            dry_run=order.dry_run,
            progress=progress,
        )


@dataclass(frozen=True, slots=True)
class Words:
    """Which words can be searched for.

    Attributes:
        free_text: whether any text can.
        known: labels that can, where it is not any text.
        explanation: why none can; empty if some can.
    """

    free_text: bool
    known: tuple[str, ...]
    explanation: str


def _called(name: str, query: Query) -> Query:
    return Query(tuple(replace(part, name=name) for part in query.parts)) if name else query


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "thumbnails"
