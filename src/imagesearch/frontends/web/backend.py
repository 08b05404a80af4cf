"""What the routes use: one :class:`ImageSearch` that owns the database, and what serving it takes."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesearch.errors import CollectionNotFoundError, ImageSearchError, ModelError, UsageError
from imagesearch.frontends.web.batching import SearchBatcher
from imagesearch.frontends.web.browsing import Browser
from imagesearch.frontends.web.jobs import Jobs, Order
from imagesearch.frontends.web.rendering import decoded
from imagesearch.frontends.web.schemas import Part, PathPart, PicturePart, UploadPart, VectorPart, WordsPart
from imagesearch.frontends.web.thumbnails import Thumbnails
from imagesearch.frontends.web.uploads import NotFoundError, Uploads
from imagesearch.images.sources import ImageSource
from imagesearch.models import catalogue
from imagesearch.records import ImageRecord, Prediction, Progress
from imagesearch.reports import IndexReport
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.vectors import load_region
from imagesearch.service import ImageSearch

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
        self._labelling = threading.Lock()

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
        self.searches.close()
        self.thumbnails.close()
        self.uploads.close()
        self.images.close()

    async def search(self, query: Query, options: SearchOptions) -> Answer:
        """The answer, found together with those to others who ask at this time.

        Raises:
            BusyError: too many wait.
        """
        return await asyncio.wrap_future(self.searches.submit(query, options))

    def query(self, parts: list[Part]) -> Query:
        """What is asked for; pictures are decoded here, so that a large one holds up nobody else.

        Raises:
            NotFoundError: an upload or a picture is not there.
            PictureError: a picture cannot be read.
            UsageError: a region makes no sense.
        """
        query = Query(())
        for part in parts:
            query += part.weight * self._one(part)
        query.check()
        return query

    def _one(self, part: Part) -> Query:
        if isinstance(part, WordsPart):
            return Query.words(part.text)
        if isinstance(part, VectorPart):
            return Query.vector(part.values)  # type: ignore[arg-type]
        if isinstance(part, PathPart):
            return Query.stored(part.path)
        if isinstance(part, PicturePart):
            if part.region is None:
                return Query.stored(_number(part.id))
            record = self.picture(part.id)
            return self.query_for(record.path, part.region, os.path.basename(record.path))
        upload = self.uploads.get(part.id)
        return self.query_for(self.uploads.read(part.id), part.region, upload.name)

    def query_for(self, source: ImageSource, region: str | None, name: str) -> Query:
        """A query for a picture, decoded to about the size that the network sees.

        Raises:
            PictureError: it cannot be read, or the region lies outside.
            UsageError: the region is none.
        """
        query = Query.image(source, region=region, name=name)
        (part,) = query.parts
        side = self.images.embedder.decode_side

        def load(source: ImageSource) -> Any:
            return load_region(source, part.region, self.max_megapixels, side)

        return Query.image(decoded(source, load), name=part.label)

    def picture(self, key: str) -> ImageRecord:
        """A picture of the collection.

        Raises:
            NotFoundError: there is none of this id.
        """
        try:
            records, _ = self.images.collection().fetch([_number(key)])
        except CollectionNotFoundError:
            records = []
        if not records:
            raise NotFoundError(f"there is no picture {key} in the collection")
        return records[0]

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
        region = Query.image(b"", region=part.region).parts[0].region

        def load(source: ImageSource) -> Any:
            return load_region(source, region, self.max_megapixels)

        image = decoded(self.source_of(part), load)
        with self._labelling:  # one at a time is as fast, and memory is bounded
            return self.images.classify(image, top)

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
        has_labels = catalogue.labels_checkpoint(model.name, model.classifier) is not None
        return (model.classifier or model.name) if has_labels else None

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


class ForbiddenError(UsageError):
    """Whoever asked may not do this."""


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


def _number(key: str) -> int:
    if (number := int(key)) >= 2**63:
        raise NotFoundError(f"there is no picture {key} in the collection")
    return number


def _cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "thumbnails"
