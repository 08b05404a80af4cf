"""Learning to label, from a folder of labelled pictures: split, baseline, probe, and the result as a checkpoint.

Vectors are kept in a database of their own in the user's cache, so that another run encodes only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.models import catalogue
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.trained import REPORT, public_name, remember
from imagesearch.records import Metric, Progress, Skipped, no_progress
from imagesearch.service import ImageSearch
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import ConnectionOptions

if TYPE_CHECKING:
    from imagesearch.learning.contest import Contestant
    from imagesearch.learning.label_sets import LabelledPictures
    from imagesearch.learning.match import Terms
    from imagesearch.learning.mistakes import Examination
    from imagesearch.learning.probe import Probe
    from imagesearch.learning.splits import SplitReport
    from imagesearch.models.embedder import Encoder
    from imagesearch.models.network import LoadedModel
    from imagesearch.models.trainer import Method, Plan


@dataclass(frozen=True, slots=True)
class Request:
    """What to learn from, and how.

    Attributes:
        folder: of class folders; or of the pictures that the file of labels names.
        labels: a CSV file of path and label, a line per label; None: names of sub-folders.
        out: the folder to write; None: named after folder and model, in the working directory.
        held_out: the part of the pictures to measure with.
        folds: of cross-validation.
        balanced: whether rare classes count as much as frequent ones.
        seed: of everything random.
        methods: ways of fine-tuning to compare with the probe, of :data:`~imagesearch.models.trainer.METHODS`.
        epochs, batch_size, learning_rate: of fine-tuning; see :class:`~imagesearch.models.trainer.Plan`.
        force: write although the baseline was not beaten, and replace what an earlier run wrote.
    """

    folder: str
    labels: str | None = None
    out: str | None = None
    held_out: float = 0.2
    folds: int = 5
    balanced: bool = False
    seed: int = 0
    methods: tuple[str, ...] = ()
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.0
    force: bool = False

    @property
    def terms(self) -> Terms:
        """What is the same for all contestants."""
        from imagesearch.learning.match import Terms

        return Terms(self.held_out, self.folds, self.balanced, self.seed)

    def plan(self, method: Method, several: bool) -> Plan:
        """How to fine-tune."""
        from imagesearch.models.trainer import Plan

        return Plan(
            method=method,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            several=several,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Training:
    """What was learnt, and how well.

    Attributes:
        model: the checkpoint that was trained.
        pictures, classes: how many.
        several: whether pictures have several labels.
        split: what was set aside.
        contestants: the baseline first, then the probe, then what was fine-tuned.
        best: the place of the one that is right most often, not counting the baseline.
        probe: regularisation, temperature and what cross-validation says.
        histories: losses and accuracy by epoch of what was fine-tuned.
        stopped: why fine-tuning ended early, by method.
        per_class: measures of the best by class, the worst first.
        examination: what the best says of each picture set aside; not part of :meth:`to_dict`.
        skipped: files that could not be read.
        unlabelled: pictures without a label.
        missing: paths in the file of labels that are no pictures.
        encode_seconds: to read and encode the pictures.
        out: the folder that was or would have been written.
        written: whether it was.
    """

    model: str
    pictures: int
    classes: int
    several: bool
    split: SplitReport
    contestants: list[Contestant]
    best: int
    probe: Probe
    histories: Mapping[str, list[dict[str, float]]]
    stopped: Mapping[str, str]
    per_class: Mapping[str, dict[str, float]]
    examination: Examination
    skipped: tuple[Skipped, ...]
    unlabelled: int
    missing: tuple[str, ...]
    encode_seconds: float
    out: str
    written: bool = field(default=False)

    @property
    def winner(self) -> Contestant:
        """The best of those that were trained."""
        return self.contestants[self.best]

    @property
    def beats_baseline(self) -> bool:
        """Whether the winner is right more often than the nearest neighbours."""
        gain = self.winner.gain
        return gain is not None and gain.value > 0

    @property
    def is_sure(self) -> bool:
        """Whether the whole interval of that gain lies above zero."""
        gain = self.winner.gain
        return gain is not None and gain.is_gain

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("model", "pictures", "classes", "several", "per_class", "histories", "stopped", "unlabelled")
        probe = ("l2", "temperature", "losses", "accuracy", "calibration_error", "uncalibrated_error")
        return {
            **{name: getattr(self, name) for name in names},
            "missing": list(self.missing),
            "encode_seconds": self.encode_seconds,
            "skipped": [one.to_dict() for one in self.skipped],
            "split": self.split.to_dict(),
            "methods": [one.to_dict() for one in self.contestants],
            "cross_validation": {name: getattr(self.probe, name) for name in probe},
            "best": self.winner.name,
            "beats_baseline": self.beats_baseline,
            "is_sure": self.is_sure,
            "out": self.out,
            "written": self.written,
        }


def train(config: Config, request: Request, progress: Progress = no_progress) -> Training:
    """Learn, compare what was learnt with the nearest neighbours, and write the best if it beats them.

    Args:
        config: the model to train and how pictures are read.
        progress: told of the stages of :meth:`ImageSearch.index`, of ``"fit"`` and of ``"train"``.

    Raises:
        UsageError: the request makes no sense, there are too few labels, or the folder to write is in use.
        ModelError: the model cannot be loaded, or has no place for a head; or fine-tuning failed.
        StoreError: the cache of vectors cannot be used.
    """
    from imagesearch.images.sources import load_image
    from imagesearch.learning.match import Match

    methods = _methods(request)
    out = _place(config, request)
    checkpoint = find_checkpoint(catalogue.features_checkpoint(config.model.name), config.model.revision)
    began = time.monotonic()
    labelled, skipped, is_searchable = _read(config, request, checkpoint, progress)
    encode_seconds = time.monotonic() - began
    match = Match(labelled, request.terms, is_searchable=is_searchable, progress=progress)
    match.add_neighbours()
    match.add_probe()
    read = partial(load_image, max_megapixels=config.data.max_megapixels)
    for method in methods:
        plan = request.plan(method, labelled.is_multi_label)
        match.add_fine_tuned(plan, checkpoint, read=read, folder=_cache(), device=config.model.device)
    contestants = match.contestants
    best = max(range(1, len(contestants)), key=lambda place: (contestants[place].accuracy.value, -place))
    found = Training(
        model=checkpoint.name,
        pictures=len(labelled.pictures),
        classes=len(labelled.names),
        several=labelled.is_multi_label,
        split=match.split_report,
        contestants=contestants,
        best=best,
        probe=match.probe,
        histories={name: one.tuned.history for name, one in match.tuned.items()},
        stopped={name: one.tuned.stopped for name, one in match.tuned.items() if one.tuned.stopped},
        per_class=match.per_class(best),
        examination=match.examination(best),
        skipped=skipped,
        unlabelled=labelled.unlabelled,
        missing=labelled.missing,
        encode_seconds=encode_seconds,
        out=str(out),
    )
    if not (found.beats_baseline or request.force):
        return found
    found = replace(found, written=True)
    _write(found, labelled, match.network(best, checkpoint), request.seed)
    remember(out)
    return found


def _methods(request: Request) -> list[Method]:
    """The ways of fine-tuning, in order.

    Raises:
        UsageError: one is not known.
        ModelError: a package is missing.
    """
    from imagesearch.models.fine_tuning import require_packages
    from imagesearch.models.trainer import METHODS

    if unknown := [name for name in request.methods if name not in METHODS]:
        raise UsageError(f"method {unknown[0]!r}: must be one of probe, {', '.join(METHODS)}, all")
    chosen = [name for name in METHODS if name in request.methods]
    for method in chosen:
        require_packages(method)
    return chosen


def _place(config: Config, request: Request) -> Path:
    """The folder to write, if it may be written.

    Raises:
        UsageError: it is there already.
    """
    stem = os.path.basename(os.path.abspath(os.path.expanduser(request.folder)))
    name = request.out or f"{stem}-{catalogue.slug(config.model.name)}"
    out = Path(os.path.abspath(os.path.expanduser(name)))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out / REPORT).is_file():  # other folders are never replaced
            raise UsageError(
                f"{str(out)!r} is there already, and was not made by 'imagesearch train': choose --out"
            )
        if not request.force:
            raise UsageError(
                f"{str(out)!r} holds an earlier result: choose another --out, or replace it with --force"
            )
    return out


def _read(
    config: Config, request: Request, checkpoint: Checkpoint, progress: Progress
) -> tuple[LabelledPictures, tuple[Skipped, ...], bool]:
    """All pictures with vectors and labels, files that cannot be read, and whether searches use these vectors."""
    from imagesearch.learning.exact import read_rows
    from imagesearch.learning.label_sets import label_pictures

    update = {"normalize": False, "embedding_dim": None}
    settings = config.model_copy(update={"model": config.model.model_copy(update=update)})
    encoder = _head_inputs(settings, checkpoint)
    with _vectors(settings, request.folder, checkpoint, encoder) as images:
        report = images.index(request.folder, prune=True, progress=progress)
        rows = read_rows(images.collection(), progress)
    return label_pictures(rows.pictures, rows.vectors, request.labels), report.skipped, encoder is None


def _head_inputs(config: Config, checkpoint: Checkpoint) -> Encoder | None:
    """The network that gives what a head is given; None where these are the vectors that are searched."""
    from imagesearch.models.heads import is_linear
    from imagesearch.models.new_head import HeadInputs, load_with_new_head

    if is_linear(checkpoint, config.model.pooling):
        return None
    loaded = load_with_new_head(checkpoint, ["first", "second"])
    return HeadInputs(loaded, device=config.model.device, precision=config.model.precision)


@contextmanager
def _vectors(
    config: Config, folder: str, checkpoint: Checkpoint, encoder: Encoder | None
) -> Iterator[ImageSearch]:
    """The cache of vectors of this folder and checkpoint."""
    whole = os.path.abspath(os.path.expanduser(folder))
    key = json.dumps([whole, checkpoint.revision, config.model.pooling, encoder is None])
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    database = DatabaseAddress.parse(str(_cache() / f"{digest}.db")).open(ConnectionOptions())
    update = {"index_type": "auto", "index_params": {}, "search_params": {}, "metric_type": Metric.COSINE}
    settings = config.model_copy(update={"milvus": config.milvus.model_copy(update=update)})
    with ImageSearch(settings, database=database, embedder=encoder) as images:
        yield images


def _cache() -> Path:
    """Where vectors and unfinished trainings are kept; it may be deleted at any time."""
    import platformdirs

    place = platformdirs.user_cache_path("imagesearch") / "training"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _write(found: Training, labelled: LabelledPictures, network: LoadedModel, seed: int) -> None:
    """Write the folder.

    Raises:
        UsageError: it cannot be written; what was there is as it was.
    """
    from imagesearch.learning.model_card import model_card
    from imagesearch.models.new_head import write_checkpoint

    out = Path(found.out)
    card = model_card(
        base=public_name(found.model),
        name=out.name,
        labelled=labelled,
        parts=found.split,
        contestants=found.contestants,
        winner=found.winner,
        probe=found.probe,
        classes=found.per_class,
        seed=seed,
    )
    with _replacing_folder(out) as fresh:
        write_checkpoint(network, fresh)
        (fresh / "README.md").write_text(card, encoding="utf-8", errors="surrogateescape")
        (fresh / REPORT).write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="ascii")


@contextmanager
def _replacing_folder(out: Path) -> Iterator[Path]:
    """An empty folder that takes the place of another one if the block ends without an error.

    Raises:
        UsageError: it cannot be written; what was there is as it was.
    """
    fresh, former = (out.with_name(f"{out.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if out.exists():
            out.rename(former)
        fresh.rename(out)
    except OSError as error:
        if former.exists() and not out.exists():
            former.rename(out)
        raise UsageError(f"cannot write {str(out)!r}: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)
