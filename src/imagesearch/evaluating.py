"""Evaluating models, ranking methods and indexes on the user's own pictures.

A folder is indexed into a database of its own in a temporary folder, by the engine that local collections have, so
that times are those of real searches; without a folder the configured collection is evaluated as it is.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesearch.config import Config
from imagesearch.errors import UnsupportedIndexError, UsageError
from imagesearch.managing import connection_options
from imagesearch.models import catalogue
from imagesearch.records import Progress, no_progress
from imagesearch.search.image_encoding import checked_views
from imagesearch.search.patches import PatchMatcher
from imagesearch.search.ranking import QUICK_METHODS, by_patches, check_method
from imagesearch.searching import reading_of
from imagesearch.service import ImageSearch
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import ConnectionOptions, VectorDatabase
from imagesearch.yaml_files import write_setting

if TYPE_CHECKING:
    from imagesearch.learning.confidence_evaluation import ConfidenceReport
    from imagesearch.learning.copies import CopiesReport
    from imagesearch.learning.exact import Rows
    from imagesearch.learning.index_quality import IndexReport
    from imagesearch.learning.metrics import Difference
    from imagesearch.learning.outcomes import Choice, Cost, LabelReport
    from imagesearch.learning.pictures import PictureFiles
    from imagesearch.learning.words_evaluation import WordSummary

# Queries that an index is probed with, and how far, in parts of its length, each is moved off the vector of a row:
# a stored vector is the easiest of all to find.
_PROBES, _OFF = 200, 0.2
# Random halves of the labels that confidence is measured with.
_SPLITS = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What to evaluate.

    Attributes:
        folders: indexed for the purpose; none: the configured collection.
        labels: a CSV file of path and label; None: names of sub-folders.
        models: to compare, names or folders; none: the configured one.
        methods: ranking methods to compare with ``"none"``.
        views: how pictures are seen that are asked for, besides as a whole.
        copies: look for originals from distorted copies; None: if there are no labels.
        index: measure the index.
        words: ask for each label by its name.
        confidence: measure how well confidence is calibrated, with half of the labels absent.
        k: results that measures at k look at.
        queries: at most so many pictures are asked for.
        originals: at most so many pictures are distorted.
        seed: of everything random.
    """

    folders: tuple[str, ...] = ()
    labels: str | None = None
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("none",)
    views: tuple[str, ...] = ()
    copies: bool | None = None
    index: bool = False
    words: bool = False
    confidence: bool = False
    k: int = 10
    queries: int = 1000
    originals: int = 100
    seed: int = 0

    def check(self) -> None:
        """Refuse what makes no sense, before any work.

        Raises:
            UsageError: says what.
        """
        for method in self.methods:
            check_method(method)
        for views in self.views:
            checked_views(views)
        for name in ("k", "queries", "originals"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.confidence and self.copies:
            raise UsageError("confidence is measured by labels, not by copies")
        if len(set(self.models)) != len(self.models):
            raise UsageError(f"models to compare: {', '.join(self.models)}: each once")


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """What was found for one model.

    Attributes:
        model: its name.
        encode_ms: milliseconds to read and encode one picture, median; None if none could be read.
        labels, copies, index, words, confidence: what was measured.
        unknown: labels whose names the model does not know.
    """

    model: str
    encode_ms: float | None
    labels: LabelReport | None = None
    copies: CopiesReport | None = None
    index: IndexReport | None = None
    words: WordSummary | None = None
    unknown: tuple[str, ...] = ()
    confidence: ConfidenceReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("labels", "copies", "index", "words", "confidence")
        parts = {name: getattr(self, name) for name in names}
        return {
            "model": self.model,
            "encode_ms": self.encode_ms,
            "unknown": list(self.unknown),
            **{name: part.to_dict() if part else None for name, part in parts.items()},
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found.

    Attributes:
        models: in the order asked for.
        comparisons: for each model but the first, the first compared with it, by measure.
        choice: the ranking method that :func:`tune` recommends.
        written: the settings file that it was written into.
    """

    models: list[ModelEvaluation]
    comparisons: dict[str, dict[str, Difference]] = field(default_factory=dict)
    choice: Choice | None = None
    written: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "models": [one.to_dict() for one in self.models],
            "comparisons": {
                model: {name: one.to_dict() for name, one in measures.items()}
                for model, measures in self.comparisons.items()
            },
            "choice": self.choice.to_dict() if self.choice else None,
            "written": self.written,
        }


def evaluate(config: Config, request: Request, progress: Progress = no_progress) -> Evaluation:
    """Measure what is asked for, model by model.

    Raises:
        UsageError: the request makes no sense, or there are neither pictures nor labels.
        ImageSearchError: a model or the database cannot be used.
    """
    from imagesearch.learning.outcomes import compare_models

    request.check()
    found = []
    for settings, folders in _libraries(config, request):
        with _opened(settings, folders, progress) as (images, database):
            found.append(_evaluate_model(images, database, request, progress))
    comparisons = {}
    for other in found[1:]:
        ours, theirs = found[0].labels or found[0].copies, other.labels or other.copies
        if ours is not None and theirs is not None:
            comparisons[other.model] = compare_models(ours, theirs, request.seed)
    return Evaluation(found, comparisons)


def tune(config: Config, request: Request, progress: Progress = no_progress) -> Evaluation:
    """Try the quick ranking methods, and write the best into the settings file if its gain is sure.

    The file is the one that was read, or else ``config.yaml`` in the working directory.

    Raises:
        ConfigError: the file cannot be written.
        UsageError, ImageSearchError: see :func:`evaluate`.
    """
    from dataclasses import replace

    from imagesearch.learning.copies import MAIN as COPIES_MAIN
    from imagesearch.learning.outcomes import MAIN, choose_method

    if len(request.models) > 1:
        raise UsageError("a ranking method is tuned for one model at a time: leave out the comparison")
    done = evaluate(config, replace(request, methods=QUICK_METHODS, views=()), progress)
    report = done.models[0].labels or done.models[0].copies
    if report is None:
        raise UsageError("nothing was measured that a ranking method could be chosen by")
    measure = MAIN if done.models[0].labels else COPIES_MAIN
    choice = choose_method(report.methods, measure, request.seed)
    written = None
    if choice.is_sure:
        file = Path(config.file) if config.file else Path.cwd() / "config.yaml"
        write_setting(file, "search", "rerank", choice.method)
        written = str(file)
    return replace(done, choice=choice, written=written)


def _libraries(config: Config, request: Request) -> Iterator[tuple[Config, Sequence[str]]]:
    """For each model its settings, and the folders to index for it; none: its collection is there."""
    if not request.models:
        yield config, request.folders
        return
    folders: Sequence[str] = request.folders
    several = "{model}" in config.milvus.collection_name
    if not folders:
        with ImageSearch(config) as images:
            images.collection()  # says what is missing
            folders = images.indexed_folders()
    for model in request.models:
        settings = with_model(config, model)
        yield settings, () if not request.folders and several and _is_indexed(settings) else folders


def with_model(config: Config, model: str) -> Config:
    """The settings with another model, a preset, hub name or folder, for vectors and labels."""
    name = os.path.abspath(os.path.expanduser(model))
    if model in catalogue.PRESETS or not os.path.isdir(name):
        name = model
    if name == config.model.name:
        return config
    # What the settings say of the configured model does not hold for another one.
    update = {"name": name, "classifier": None, "revision": None, "embedding_dim": None, "pooling": "auto"}
    return config.model_copy(update={"model": config.model.model_copy(update=update)})


def _is_indexed(config: Config) -> bool:
    with ImageSearch(config) as images:
        return images.find_collection() is not None


@contextlib.contextmanager
def _opened(
    config: Config, folders: Sequence[str], progress: Progress
) -> Iterator[tuple[ImageSearch, VectorDatabase]]:
    """The configured collection; or one of these folders in a database that is gone afterwards."""
    if not folders:
        database = config.database_address.open(connection_options(config))
        with ImageSearch(config, database=database) as images:
            yield images, database
        return
    with tempfile.TemporaryDirectory(prefix="imagesearch-evaluate-") as place:
        database = DatabaseAddress.parse(os.path.join(place, "evaluate.db")).open(ConnectionOptions())
        with ImageSearch(_for_engine(config, database), database=database) as images:
            images.index(list(folders), progress=progress)
            yield images, database


def _for_engine(config: Config, database: VectorDatabase) -> Config:
    """The settings, without an index type that only another engine has."""
    try:
        database.check(config.collection_spec)
    except UnsupportedIndexError:
        update = {"index_type": "auto", "index_params": {}, "search_params": {}}
        return config.model_copy(update={"milvus": config.milvus.model_copy(update=update)})
    return config


def _evaluate_model(
    images: ImageSearch, database: VectorDatabase, request: Request, progress: Progress
) -> ModelEvaluation:
    from imagesearch.learning.copies import CopiesPlan, evaluate_copies
    from imagesearch.learning.evaluation import evaluate_labels
    from imagesearch.learning.exact import read_rows
    from imagesearch.learning.index_quality import evaluate_index
    from imagesearch.learning.labels import file_labels, folder_labels
    from imagesearch.learning.outcomes import Plan
    from imagesearch.learning.pictures import PictureFiles

    collection = images.collection()
    axes = images.networks.label_axes(collection.fingerprint)
    rows = read_rows(collection, progress, axes)
    file, pictures = request.labels, rows.pictures
    labels = folder_labels(pictures) if file is None else file_labels(file, pictures)
    is_labelled = file is not None or len({label for label in labels if label is not None}) > 1
    wants_copies = not is_labelled if request.copies is None else request.copies
    reading, networks = reading_of(images.config), images.networks
    files = PictureFiles(networks.embedder, PatchMatcher(networks.patch_encoder, reading), reading)
    costs, encoding = _costs(images, rows, files, request, always=wants_copies)
    model = collection.fingerprint.model
    by_labels = by_copies = by_index = None
    if is_labelled:
        plan = Plan(request.methods, request.views, request.k, request.queries, request.seed)
        by_labels = evaluate_labels(rows, labels, plan, model=model, costs=costs, files=files, progress=progress)
    if wants_copies:
        copies = CopiesPlan(request.originals, request.methods, request.views, request.seed)
        by_copies = evaluate_copies(rows, files, copies, costs=costs, progress=progress)
    if request.index:
        probes = _probes(rows, request.seed)
        by_index = evaluate_index(database, collection.spec, rows, probes, k=request.k, progress=progress)
    milliseconds = None if encoding is None else 1000 * encoding
    words, unknown = _by_words(images, rows, labels) if request.words else (None, ())
    sure = _by_confidence(images, rows, labels, request.seed) if request.confidence else None
    return ModelEvaluation(model, milliseconds, by_labels, by_copies, by_index, words, unknown, sure)


def _costs(
    images: ImageSearch, rows: Rows, files: PictureFiles, request: Request, *, always: bool
) -> tuple[dict[str, Cost], float | None]:
    """Of each way of asking, if there are several; and seconds to read and encode a picture, then or if wanted."""
    from imagesearch.learning.costs import encoding_seconds, measure_costs, measure_patches, with_views

    re_ranks = set(request.methods) != {"none"} or bool(set(request.views) - {"whole"})
    if not always and not re_ranks:
        return {}, None
    others = tuple(checked_views(views) for views in request.views if views != "whole")
    seconds = encoding_seconds(files, rows, others)
    if not re_ranks:
        return {}, seconds["whole"]
    encoding, probes = seconds["whole"] or 0.0, _probes(rows, request.seed)
    costs = measure_costs(images.collection(), probes, request.methods, encoding, rows.label_axes)
    for method in filter(by_patches, request.methods):
        costs[method] = measure_patches(files, rows, costs["none"], encoding)
    whole = dict(costs)
    for views in others:
        costs.update(with_views(whole, views, (seconds[views] or 0.0) - encoding, encoding))
    return costs, seconds["whole"]


def _by_words(
    images: ImageSearch, rows: Rows, labels: Sequence[str | None]
) -> tuple[WordSummary | None, tuple[str, ...]]:
    """How well labels are found by their names, and those that the model does not know."""
    from imagesearch.learning.words_evaluation import evaluate_words, summary, word_of

    words, unknown, there = {}, [], images.describe().fingerprint
    for label in sorted({label for label in labels if label is not None}):
        try:
            (meaning,) = images.networks.words([word_of(label)], there)
        except UsageError:  # the model does not know it: that is said
            unknown.append(label)
        else:
            words[label] = meaning.vectors
    by_path = {row.path: label for row, label in zip(rows.pictures, labels, strict=True) if label is not None}
    scores = evaluate_words(images.collection(), by_path, words)
    return summary(scores) if scores else None, tuple(unknown)


def _by_confidence(images: ImageSearch, rows: Rows, labels: Sequence[str | None], seed: int) -> ConfidenceReport:
    from imagesearch.learning.confidence_evaluation import evaluate_confidence, split_classes

    known = [place for place, label in enumerate(labels) if label is not None]
    _, numbers = np.unique([str(labels[place]) for place in known], return_inverse=True)
    vectors = rows.vectors[known]
    splits = (split_classes(vectors, numbers.astype(np.int64), seed=seed + turn) for turn in range(_SPLITS))
    return evaluate_confidence(splits, fingerprint=images.describe().fingerprint, metric=rows.metric)


def _probes(rows: Rows, seed: int) -> np.ndarray:
    """Queries near to rows, as those of pictures that are not in the collection are: float32, shape (q, dim)."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(rows.pictures))[:_PROBES]
    vectors = rows.vectors[chosen]
    noise = random.standard_normal(vectors.shape).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    moved = vectors + _OFF * lengths * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    # Of the same length: where vectors have unit length, those of queries do, too.
    scale = np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(moved * lengths / scale, np.float32)
