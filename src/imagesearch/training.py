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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.models import catalogue
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.records import Metric, Progress, Skipped, no_progress
from imagesearch.service import ImageSearch
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import ConnectionOptions

if TYPE_CHECKING:
    from imagesearch.learning.contest import Contestant
    from imagesearch.learning.label_sets import LabelledPictures
    from imagesearch.learning.probe import Probe
    from imagesearch.learning.splits import Relations, Split, SplitReport
    from imagesearch.models.embedder import Encoder

# In a folder that this module wrote: what it measured. Other folders are never replaced.
REPORT = "training.json"


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
        force: write although the baseline was not beaten, and replace what an earlier run wrote.
    """

    folder: str
    labels: str | None = None
    out: str | None = None
    held_out: float = 0.2
    folds: int = 5
    balanced: bool = False
    seed: int = 0
    force: bool = False


@dataclass(frozen=True, slots=True)
class Training:
    """What was learnt, and how well.

    Attributes:
        model: the checkpoint that was trained.
        pictures, classes: how many.
        several: whether pictures have several labels.
        split: what was set aside.
        contestants: the baseline first.
        probe: regularisation, temperature and what cross-validation says.
        per_class: measures of the last contestant by class, the worst first.
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
    probe: Probe
    per_class: Mapping[str, dict[str, float]]
    skipped: tuple[Skipped, ...]
    unlabelled: int
    missing: tuple[str, ...]
    encode_seconds: float
    out: str
    written: bool = field(default=False)

    @property
    def beats_baseline(self) -> bool:
        """Whether the last contestant is right more often than the nearest neighbours."""
        gain = self.contestants[-1].gain
        return gain is not None and gain.value > 0

    @property
    def is_sure(self) -> bool:
        """Whether the whole interval of that gain lies above zero."""
        gain = self.contestants[-1].gain
        return gain is not None and gain.is_gain

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        names = ("model", "pictures", "classes", "several", "per_class", "unlabelled", "missing", "encode_seconds")
        probe = ("l2", "temperature", "losses", "accuracy", "calibration_error", "uncalibrated_error")
        return {
            **{name: getattr(self, name) for name in names},
            "skipped": [one.to_dict() for one in self.skipped],
            "split": self.split.to_dict(),
            "methods": [one.to_dict() for one in self.contestants],
            "cross_validation": {name: getattr(self.probe, name) for name in probe},
            "beats_baseline": self.beats_baseline,
            "is_sure": self.is_sure,
            "out": self.out,
            "written": self.written,
        }


def train(config: Config, request: Request, progress: Progress = no_progress) -> Training:
    """Learn a linear probe, compare it with the nearest neighbours, and write it if it is better.

    Args:
        config: the model to train and how pictures are read.
        progress: told of the stages of :meth:`ImageSearch.index`, and of ``"fit"``.

    Raises:
        UsageError: the request makes no sense, there are too few labels, or the folder to write is in use.
        ModelError: the model cannot be loaded, or has no place for a head.
        StoreError: the cache of vectors cannot be used.
    """
    from dataclasses import replace

    from imagesearch.learning.splits import find_relations, report_split, split, unrelated

    out = _place(config, request)
    checkpoint = find_checkpoint(catalogue.features_checkpoint(config.model.name), config.model.revision)
    began = time.monotonic()
    labelled, skipped = _read(config, request, checkpoint, progress)
    encode_seconds = time.monotonic() - began
    relations = find_relations(labelled.pictures, labelled.vectors)
    parts, naive = (
        split(labelled.members, heeded, held_out=request.held_out, seed=request.seed)
        for heeded in (relations, unrelated(len(labelled.pictures)))
    )
    contestants, probe, per_class = _compete(labelled, parts, relations, request, progress)
    found = Training(
        model=checkpoint.name,
        pictures=len(labelled.pictures),
        classes=len(labelled.names),
        several=labelled.is_multi_label,
        split=report_split(labelled, parts, relations, naive),
        contestants=contestants,
        probe=probe,
        per_class=per_class,
        skipped=skipped,
        unlabelled=labelled.unlabelled,
        missing=labelled.missing,
        encode_seconds=encode_seconds,
        out=str(out),
    )
    if not (found.beats_baseline or request.force):
        return found
    found = replace(found, written=True)
    _write(found, labelled, checkpoint, request.seed)
    return found


def _place(config: Config, request: Request) -> Path:
    """The folder to write, if it may be written.

    Raises:
        UsageError: it is there already.
    """
    stem = os.path.basename(os.path.abspath(os.path.expanduser(request.folder)))
    name = request.out or f"{stem}-{catalogue.slug(config.model.name)}"
    out = Path(os.path.abspath(os.path.expanduser(name)))
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        if not (out / REPORT).is_file():
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
) -> tuple[LabelledPictures, tuple[Skipped, ...]]:
    """All pictures with vectors and labels, and files that cannot be read."""
    from imagesearch.learning.exact import read_rows
    from imagesearch.learning.label_sets import label_pictures

    update = {"normalize": False, "embedding_dim": None}
    settings = config.model_copy(update={"model": config.model.model_copy(update=update)})
    encoder = _head_inputs(settings, checkpoint)
    with _vectors(settings, request.folder, checkpoint, encoder) as images:
        report = images.index(request.folder, prune=True, progress=progress)
        rows = read_rows(images.collection(), progress)
    return label_pictures(rows.pictures, rows.vectors, request.labels), report.skipped


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
    import platformdirs

    whole = os.path.abspath(os.path.expanduser(folder))
    key = json.dumps([whole, checkpoint.revision, config.model.pooling, encoder is None])
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    place = platformdirs.user_cache_path("imagesearch") / "training"
    place.mkdir(parents=True, exist_ok=True)
    database = DatabaseAddress.parse(str(place / f"{digest}.db")).open(ConnectionOptions())
    update = {"index_type": "auto", "index_params": {}, "search_params": {}, "metric_type": Metric.COSINE}
    settings = config.model_copy(update={"milvus": config.milvus.model_copy(update=update)})
    with ImageSearch(settings, database=database, embedder=encoder) as images:
        yield images


def _compete(
    labelled: LabelledPictures, parts: Split, relations: Relations, request: Request, progress: Progress
) -> tuple[list[Contestant], Probe, Mapping[str, dict[str, float]]]:
    """The baseline and the probe, both measured with the pictures set aside."""
    from imagesearch.learning import contest
    from imagesearch.learning.probe import train_probe

    truth = labelled.members[parts.held_out]
    retrieval = contest.retrieve(labelled, parts, labelled.vectors[parts.held_out], seed=request.seed)
    began = time.monotonic()
    predictions, k = contest.predict_by_neighbours(labelled, parts, relations.groups)
    baseline = contest.measure(
        contest.BASELINE,
        predictions,
        truth,
        retrieval=retrieval,
        detail=f"k = {k}",
        seconds=time.monotonic() - began,
        seed=request.seed,
    )
    began = time.monotonic()
    probe = train_probe(
        labelled.vectors[parts.training],
        labelled.members[parts.training],
        relations.groups[parts.training],
        fold_count=request.folds,
        several=labelled.is_multi_label,
        balanced=request.balanced,
        seed=request.seed,
        progress=progress,
    )
    seconds = time.monotonic() - began
    # A probe leaves the network as it is, and with it the vectors that are searched.
    probed = contest.measure_logits(
        "probe",
        probe.linear.logits(labelled.vectors[parts.held_out]),
        truth,
        several=labelled.is_multi_label,
        retrieval=retrieval,
        baseline=baseline,
        detail=f"L2 {probe.l2:g}",
        seconds=seconds,
        seed=request.seed,
    )
    return [baseline, probed], probe, contest.per_class(probed.predictions, truth, labelled.names)


def _write(found: Training, labelled: LabelledPictures, checkpoint: Checkpoint, seed: int) -> None:
    """Write the folder under another name, and give it its own when it is whole.

    Raises:
        UsageError: it cannot be written; what was there is as it was.
    """
    from imagesearch.learning.model_card import model_card
    from imagesearch.models.new_head import load_with_new_head, write_checkpoint

    out = Path(found.out)
    loaded = load_with_new_head(checkpoint, labelled.names, several=found.several)
    card = model_card(
        base=checkpoint.name,
        name=out.name,
        labelled=labelled,
        parts=found.split,
        contestants=found.contestants,
        probe=found.probe,
        classes=found.per_class,
        seed=seed,
    )
    with _replacing_folder(out) as fresh:
        write_checkpoint(loaded, found.probe.linear.weights, found.probe.linear.bias, fresh)
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
