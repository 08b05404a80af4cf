"""What a training found, as tables and sentences: the same on the terminal and in documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagesearch.frontends.evaluation_tables import Table
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from imagesearch.learning.contest import Contestant
    from imagesearch.learning.metrics import Difference, Estimate
    from imagesearch.learning.splits import SplitReport
    from imagesearch.training import Training

# Classes of the table of classes: the worst of many.
_SHOWN_CLASSES = 10
# Pairs of classes of the table of confusions.
_SHOWN_PAIRS = 20


def training_tables(found: Training) -> list[Table]:
    """Methods side by side, and the classes that are most often wrong."""
    columns = {
        "method": "left",
        "chosen": "left",
        "accuracy": "right",
        "95 %": "right",
        "macro F1": "right",
        "gain": "right",
        "95 % ": "right",
        "ECE": "right",
        "retrieval mAP": "right",
        "gain in mAP": "right",
        "95 %  ": "right",
        "seconds": "right",
    }
    title = (
        f"{found.model}: {found.split.held_out:,} pictures set aside, {found.split.training:,} learnt from,"
        f" {found.classes:,} classes"
    )
    gains = any(one.retrieval_gain for one in found.contestants)
    if not gains:  # vectors are as they were
        columns = {name: side for name, side in columns.items() if name not in ("gain in mAP", "95 %  ")}
    methods = Table(title, columns, [_row(one, gains) for one in found.contestants], _cross_validation(found))
    worst = list(found.per_class.items())[:_SHOWN_CLASSES]
    rows = [
        [name, f"{row['pictures']:.0f}", *(f"{row[key]:.3f}" for key in ("precision", "recall", "F1"))]
        for name, row in worst
    ]
    sides = {"class": "fold", **dict.fromkeys(("pictures", "precision", "recall", "F1"), "right")}
    shown = f"the {len(worst)} worst of {len(found.per_class):,} classes"
    return [methods, Table(f"{found.winner.name}: {shown}", sides, rows)]


def report_tables(found: Training) -> list[Table]:
    """What a page has room for besides: every class, what is confused with what, retrieval before and after."""
    tables = [_classes(found)]
    if not found.several:
        tables.append(_confusions(found))
    if any(one.retrieval is not None for one in found.contestants):
        tables.append(_retrieval(found))
    return tables


def _classes(found: Training) -> Table:
    from imagesearch.learning.mistakes import wilson

    seen = found.examination
    numbers = {name: number for number, name in enumerate(seen.names)}
    rows = []
    for name, measures in found.per_class.items():
        said, there = seen.predictions[:, numbers[name]], seen.truth[:, numbers[name]]
        both = int((said & there).sum())
        intervals = [wilson(both, int(labels.sum())) for labels in (said, there)]
        precision, recall = (f"{low:.3f} to {high:.3f}" for low, high in intervals)
        values = (measures["precision"], precision, measures["recall"], recall, measures["F1"])
        cells = [value if isinstance(value, str) else f"{value:.3f}" for value in values]
        rows.append([name, f"{measures['pictures']:.0f}", *cells])
    columns = ["pictures", "precision", "95 %", "recall", "95 % ", "F1"]
    note = "The worst first, by F1; Wilson intervals. Precision without any picture of that label counts as 0."
    title = f"{found.winner.name}: {len(rows):,} classes"
    return Table(title, {"class": "left", **dict.fromkeys(columns, "right")}, rows, note)


def _confusions(found: Training) -> Table:
    from imagesearch.learning.mistakes import confusion_matrix, most_confused

    matrix = confusion_matrix(found.examination)
    pairs = most_confused(matrix, found.examination.names, _SHOWN_PAIRS)
    rows = [[one.truth, one.said, f"{one.pictures:,}", f"{one.part:.1%}"] for one in pairs]
    sides = {"class": "left", "taken for": "left", "pictures": "right", "of the class": "right"}
    note = "" if rows else "No picture that was set aside has a wrong label."
    return Table(f"{found.winner.name}: classes that are confused most often", sides, rows, note)


def _retrieval(found: Training) -> Table:
    from imagesearch.learning.metrics import compare

    before = found.contestants[0]
    rows = []
    for one in found.contestants:
        if one.retrieval is None or one.name == "probe":
            continue
        cells = ["before", f"{one.retrieval.value:.3f}", _interval(one.retrieval), "", ""]
        if one is not before:
            gain = compare(one.average_precisions, before.average_precisions)
            cells[0] = f"after: {one.name}"
            cells[3:] = [f"{gain.value:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}"]
        rows.append(cells)
    columns = ["mAP", "95 %", "gain", "95 % "]
    note = (
        "Each picture set aside is asked for the others of its class among these, by the vectors of searches;"
        " gains are on the same pictures. The probe leaves vectors as they are."
    )
    return Table("Retrieval", {"vectors": "left", **dict.fromkeys(columns, "right")}, rows, note)


def _row(one: Contestant, gains: bool) -> list[str]:
    return [
        one.name,
        one.detail,
        f"{one.accuracy.value:.3f}",
        _interval(one.accuracy),
        f"{one.macro_f1.value:.3f}",
        *_gain(one.gain),
        "" if one.calibration_error is None else f"{one.calibration_error:.3f}",
        "" if one.retrieval is None else f"{one.retrieval.value:.3f}",
        *(_gain(one.retrieval_gain) if gains else ()),
        f"{one.seconds:.1f}",
    ]


def _gain(gain: Difference | None) -> tuple[str, str]:
    return (f"{gain.value:+.3f}", f"{gain.low:+.3f} to {gain.high:+.3f}") if gain else ("", "")


def _interval(value: Estimate) -> str:
    return f"{value.low:.3f} to {value.high:.3f}"


def _cross_validation(found: Training) -> str:
    probe = found.probe
    return (
        f"Probe in cross-validation: accuracy {probe.accuracy:.3f}; temperature {probe.temperature:.2f} brings the"
        f" expected calibration error from {probe.uncalibrated_error:.3f} to {probe.calibration_error:.3f}."
    )


def remarks(found: Training) -> Iterator[str]:
    """What has to be said of the pictures, a sentence each."""
    if found.skipped:
        first = found.skipped[0]
        yield f"{counted(len(found.skipped), 'file')} could not be read; the first, {first.path}: {first.reason}"
    if found.missing:
        yield (
            f"labels of {counted(len(found.missing), 'path')} where no picture was found; the first:"
            f" {found.missing[0]}"
        )
    if found.unlabelled:
        yield f"{counted(found.unlabelled, 'picture')} without a label: left out"
    if found.several:
        yield "some pictures have several labels: each is decided by itself, and a picture is right if all are"
    for method, why in found.stopped.items():
        yield f"{method}: ended early: {why}; the best epoch counts"
    yield from _about_split(found.split)


def _about_split(split: SplitReport) -> Iterator[str]:
    related = {
        "identical": split.identical,
        "nearly identical": split.near_identical,
        "shots of bursts": split.burst,
    }
    if any(related.values()):
        listed = ", ".join(f"{count:,} {kind}" for kind, count in related.items() if count)
        yield (
            f"{listed} pictures were kept together; split without regard to that, {split.leaking:,} of those set"
            " aside would have had a relative among those learnt from"
        )
    if split.conflicts:
        groups = counted(split.conflicts, "group")
        yield f"identical or nearly identical pictures with different labels: {groups}"
    if split.single:
        yield (
            f"{counted(len(split.single), 'class')} with a single picture, which is learnt from: not measured"
            f" ({_some(split.single)})"
        )
    if others := [name for name in split.unmeasured if name not in set(split.single)]:
        yield f"{counted(len(others), 'class')} with related pictures only: not measured ({_some(others)})"


def _some(names: list[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def verdict(found: Training) -> str:
    """Whether training was worth it, in a sentence or two."""
    gain, place = found.gain, found.out
    name, baseline = found.winner.name, found.contestants[0]
    assert gain is not None  # of the baseline alone there is none
    interval = f"{found.measure} {gain.value:+.3f}, 95 % interval {gain.low:+.3f} to {gain.high:+.3f}"
    if found.measure == "accuracy":
        rival = "the nearest neighbours"
        detailed = f"{rival} ({baseline.detail})"
    else:
        rival = detailed = f"the vectors of {found.model}"
    if not found.beats_baseline:
        said = f"the {name} did not beat {detailed}: {interval}"
        if found.written:
            return f"{said}; written to {place} all the same"
        return f"{said}; nothing was written (--force writes it all the same)"
    if not found.is_sure:
        return (
            f"the {name} did better than {rival}, but with so few pictures set aside that is not sure:"
            f" {interval}; written to {place}"
        )
    return f"the {name} beats {rival}: {interval}; written to {place}"
