"""Learning to label from a folder of labelled pictures: split, baseline, probe, and the result as a checkpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesearch.atomic import replacing_folder, require_place
from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.learning.outcomes import MAIN
from imagesearch.models import catalogue
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.trained import REPORT, public_name, remember
from imagesearch.records import Progress, Skipped, no_progress
from imagesearch.training_vectors import cache_folder, encode_files, read_labelled

if TYPE_CHECKING:
    from imagesearch.learning.contest import Contestant
    from imagesearch.learning.label_sets import LabelledPictures
    from imagesearch.learning.match import Terms
    from imagesearch.learning.metrics import Difference
    from imagesearch.learning.mistakes import Examination
    from imagesearch.learning.probe import Probe
    from imagesearch.learning.splits import SplitReport
    from imagesearch.models.network import LoadedModel
    from imagesearch.models.objectives import Loss
    from imagesearch.models.processes import Team
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
        loss: of fine-tuning, of :data:`~imagesearch.models.objectives.LOSSES`. All but the first one train the
            vectors that are searched, and retrieval decides what is best and whether it is written.
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
    loss: str = "cross-entropy"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.0
    force: bool = False

    @property
    def terms(self) -> Terms:
        """What is the same for all contestants."""
        from imagesearch.learning.match import Terms

        return Terms(self.held_out, self.folds, self.balanced, self.seed)

    def plan(self, method: Method, loss: Loss, several: bool, pooling: str) -> Plan:
        """How to fine-tune."""
        from imagesearch.models.trainer import Plan

        return Plan(
            method=method,
            loss=loss,
            pooling=pooling,
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
        best: the place of the one that is right most often, not counting the baseline; or whose vectors find
            best, of those that were trained for retrieval.
        measure: what decides: ``"accuracy"`` or ``"mAP"``.
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
    measure: str
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
    def gain(self) -> Difference | None:
        """What the winner gains by the measure that decides: in accuracy over the neighbours, or in mAP."""
        return self.winner.retrieval_gain if self.measure == MAIN else self.winner.gain

    @property
    def beats_baseline(self) -> bool:
        """Whether the winner does better than the nearest neighbours, or the untrained model, by the measure."""
        return self.gain is not None and self.gain.value > 0

    @property
    def is_sure(self) -> bool:
        """Whether the whole interval of that gain lies above zero."""
        return self.gain is not None and self.gain.is_gain

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = (
            "model",
            "pictures",
            "classes",
            "several",
            "per_class",
            "histories",
            "stopped",
            "unlabelled",
            "measure",
        )
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
    from imagesearch.models.devices import choose_device
    from imagesearch.models.processes import joined, leading

    with joined(choose_device(config.model.device)) as team, leading(team):
        return _train(config, request, progress, team)


def help_train(config: Config) -> None:
    """Take part in a training of several processes, in every process but the first, which calls :func:`train`.

    Args:
        config: the same as there.

    Raises:
        ModelError: the first process failed, or this one.
        PictureError: a picture cannot be read any more.
    """
    from imagesearch.images.sources import load_image
    from imagesearch.learning.fine_tuned import help_fine_tune
    from imagesearch.models.devices import choose_device
    from imagesearch.models.processes import joined

    read = partial(load_image, max_megapixels=config.data.max_megapixels)
    device = config.model.device
    with joined(choose_device(device)) as team:
        help_fine_tune(team, partial(_find, config), read=read, device=device)


def _train(config: Config, request: Request, progress: Progress, team: Team) -> Training:
    from imagesearch.images.sources import load_image
    from imagesearch.learning.match import Match
    from imagesearch.learning.splits import check_held_out
    from imagesearch.models.objectives import is_for_retrieval

    methods, loss = _methods(request), _loss(request)
    check_held_out(request.held_out)
    out = _place(config, request)
    checkpoint = _find(config)
    began = time.monotonic()
    labelled, skipped, is_searchable = read_labelled(config, request.folder, request.labels, checkpoint, progress)
    encode_seconds = time.monotonic() - began
    for_retrieval = is_for_retrieval(loss)
    if for_retrieval and labelled.is_multi_label:
        raise UsageError(f"--loss {loss}: pictures need one label each")
    read = partial(load_image, max_megapixels=config.data.max_megapixels)
    encode = partial(encode_files, config, checkpoint, read) if for_retrieval else None
    match = Match(labelled, request.terms, is_searchable=is_searchable, encode=encode, progress=progress)
    match.add_neighbours()
    match.add_probe()
    for method in methods:
        plan = request.plan(method, loss, labelled.is_multi_label, config.model.pooling)
        match.add_fine_tuned(
            plan, checkpoint, read=read, folder=cache_folder(), device=config.model.device, team=team
        )
    contestants = match.contestants
    best = match.best_for_retrieval() if for_retrieval else match.best_for_labels()
    found = Training(
        model=checkpoint.name,
        pictures=len(labelled.pictures),
        classes=len(labelled.names),
        several=labelled.is_multi_label,
        split=match.split_report,
        contestants=contestants,
        best=best,
        measure=MAIN if for_retrieval else "accuracy",
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
    if found.beats_baseline or request.force:
        found = replace(found, written=True)
        _write(found, labelled, match.network(best, checkpoint), request.seed)
        remember(out)
        match.forget_checkpoints()  # without a result they stay, for --force
    return found


def _find(config: Config) -> Checkpoint:
    return find_checkpoint(catalogue.features_checkpoint(config.model.name), config.model.revision)


def _loss(request: Request) -> Loss:
    """The loss of fine-tuning.

    Raises:
        UsageError: it is not known.
    """
    from imagesearch.models.objectives import LOSSES

    for loss in LOSSES:
        if request.loss == loss:
            return loss
    raise UsageError(f"loss {request.loss!r}: must be one of {', '.join(LOSSES)}")


def _methods(request: Request) -> list[Method]:
    """The ways of fine-tuning, in order.

    Raises:
        UsageError: one is not known, there is none although a loss was chosen, or the learning rate is no rate.
        ModelError: a package is missing.
    """
    from imagesearch.models.fine_tuning import require_packages
    from imagesearch.models.objectives import is_for_retrieval
    from imagesearch.models.trainer import METHODS, check_rate

    check_rate(request.learning_rate)
    if unknown := [name for name in request.methods if name not in METHODS]:
        raise UsageError(f"method {unknown[0]!r}: must be one of probe, {', '.join(METHODS)}, all")
    chosen = [name for name in METHODS if name in request.methods]
    loss = _loss(request)
    if is_for_retrieval(loss) and not chosen:
        raise UsageError(
            f"--loss {loss} trains the network: say which weights, by --method {', '.join(METHODS)} or all"
        )
    for method in chosen:
        require_packages(method, loss)
    return chosen


def _place(config: Config, request: Request) -> Path:
    """The folder to write, if it may be written.

    Raises:
        UsageError: it is there already, or cannot be written.
    """
    stem = os.path.basename(os.path.abspath(os.path.expanduser(request.folder)))
    name = request.out or f"{stem}-{catalogue.slug(config.model.name)}"
    out = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        str(out).encode()
    except UnicodeEncodeError as error:  # nothing that reads weights could open it
        raise UsageError(f"{str(out)!r} cannot hold a model, as its name is not UTF-8: choose --out") from error
    with _writing(out):
        require_place(out)
        is_taken = out.exists() and not (out.is_dir() and not any(out.iterdir()))
    if is_taken:
        if not (out / REPORT).is_file():  # other folders are never replaced
            raise UsageError(
                f"{str(out)!r} is there already, and was not made by 'imagesearch train': choose --out"
            )
        if not request.force:
            raise UsageError(
                f"{str(out)!r} holds an earlier result: choose another --out, or replace it with --force"
            )
    return out


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
    with _writing(out), replacing_folder(out) as fresh:
        write_checkpoint(network, fresh)
        (fresh / "README.md").write_text(card, encoding="utf-8", errors="surrogateescape")
        (fresh / REPORT).write_text(json.dumps(found.to_dict(), indent=1) + "\n", encoding="ascii")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """
    Raises:
        UsageError: in place of an error of the file system.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot write {str(out)!r}: {(error.strerror or str(error)).lower()}") from error
