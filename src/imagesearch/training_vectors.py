"""Vectors of the pictures to learn from, kept in a database of their own in the user's cache.

So another run encodes only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.models.hub import Checkpoint
from imagesearch.records import Metric, Progress, Skipped
from imagesearch.service import ImageSearch
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import ConnectionOptions

if TYPE_CHECKING:
    from imagesearch.learning.label_sets import LabelledPictures
    from imagesearch.models.embedder import Encoder
    from imagesearch.models.fine_tuning import Reader
    from imagesearch.stores.base import Vectors


def read_labelled(
    config: Config, folder: str, labels: str | None, checkpoint: Checkpoint, progress: Progress
) -> tuple[LabelledPictures, tuple[Skipped, ...], bool]:
    """All pictures with vectors and labels, files that cannot be read, and whether searches use these vectors.

    Args:
        config: the model, and how pictures are read.
        folder: the pictures.
        labels: a CSV file of path and label; None: names of sub-folders.
        checkpoint: the model's.
        progress: told of the stages of :meth:`ImageSearch.index`.

    Raises:
        UsageError: too few labels, or no place for a cache.
        ModelError: the model cannot be loaded, or has no place for a head.
        StoreError: the cache of vectors cannot be used.
    """
    from imagesearch.learning.exact import read_rows
    from imagesearch.learning.label_sets import label_pictures

    update = {"normalize": False, "embedding_dim": None}
    settings = config.model_copy(update={"model": config.model.model_copy(update=update)})
    encoder = _head_inputs(settings, checkpoint)
    with _vectors(settings, folder, checkpoint, encoder) as images:
        report = images.index(folder, prune=True, progress=progress)
        rows = read_rows(images.collection(), progress)
    return label_pictures(rows.pictures, rows.vectors, labels), report.skipped, encoder is None


def _head_inputs(config: Config, checkpoint: Checkpoint) -> Encoder | None:
    """The network that gives what a head is given; None where these are the vectors that are searched."""
    from imagesearch.models.heads import is_linear
    from imagesearch.models.new_head import HeadInputs, load_with_new_head

    if is_linear(checkpoint, config.model.pooling):
        return None
    loaded = load_with_new_head(checkpoint, ["first", "second"])
    return HeadInputs(loaded, device=config.model.device, precision=config.model.precision)


def encode_files(config: Config, checkpoint: Checkpoint, read: Reader, paths: Sequence[str]) -> Vectors:
    """The vectors that the untrained model makes for searches, shape (n, dim).

    Args:
        config: the model.
        checkpoint: the model's.
        read: reads a picture.
        paths: n files.

    Raises:
        ModelError, PictureError: the model cannot be loaded, or a picture not be read.
    """
    from imagesearch.models.embedder import Embedder
    from imagesearch.models.network import Network

    network = Network.load(checkpoint, "features", device=config.model.device, precision="float32")
    embedder = Embedder.of_network(network, pooling=config.model.pooling)
    starts = range(0, len(paths), embedder.batch_size)
    batches = (paths[start : start + embedder.batch_size] for start in starts)
    return np.concatenate(
        [embedder.encode([embedder.preprocess(read(path)) for path in batch]) for batch in batches]
    )


@contextmanager
def _vectors(
    config: Config, folder: str, checkpoint: Checkpoint, encoder: Encoder | None
) -> Iterator[ImageSearch]:
    """The cache of vectors of this folder and checkpoint."""
    whole = os.path.abspath(os.path.expanduser(folder))
    key = json.dumps([whole, checkpoint.revision, config.model.pooling, encoder is None])
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    database = DatabaseAddress.parse(str(cache_folder() / f"{digest}.db")).open(ConnectionOptions())
    update = {"index_type": "auto", "index_params": {}, "search_params": {}, "metric_type": Metric.COSINE}
    settings = config.model_copy(update={"milvus": config.milvus.model_copy(update=update)})
    with ImageSearch(settings, database=database, embedder=encoder) as images:
        yield images


def cache_folder() -> Path:
    """Where vectors and unfinished trainings are kept; it may be deleted at any time.

    Raises:
        UsageError: it cannot be made.
    """
    import platformdirs

    place = platformdirs.user_cache_path("imagesearch") / "training"
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot keep vectors in the cache folder {str(place)!r}: {reason}") from error
    return place
