"""What ``imagesearch classify --evaluate`` and ``--undo`` print."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from imagesearch.frontends.cli.output import Format, note, print_facts, print_line, print_result, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.learning.confidence_evaluation import Bin
    from imagesearch.learning.label_quality import LabelQuality
    from imagesearch.reports import UndoReport

# Classes named of those that have no label.
_NAMED = 10


def print_quality(found: LabelQuality, output: Format) -> None:
    """How right labels are, and a reliability table."""
    print_result(found, output, partial(_show_quality, found))
    if found.unknown:
        more = f" and {len(found.unknown) - _NAMED} more" if len(found.unknown) > _NAMED else ""
        note(f"classes without a label, which do not count: {', '.join(found.unknown[:_NAMED])}{more}")


def _show_quality(found: LabelQuality, out: Console) -> None:
    share = found.accuracy
    facts = {
        "pictures": f"{found.pictures:,} of {found.classes:,} classes",
        "accuracy": f"{share.value:.1%} (95 % interval {share.low:.1%} to {share.high:.1%})",
        "mean score": f"{found.confidence:.1%}",
        "calibration error": f"{found.calibration_error:.1%}",
    }
    if found.threshold:
        right = "-" if found.covered_accuracy is None else f"{found.covered_accuracy:.1%} of them right"
        facts[f"at least {found.threshold:.0%}"] = f"{found.covered:.1%} of the pictures, {right}"
    if found.skipped:
        facts["not readable"] = f"{found.skipped:,}"
    print_facts(out, facts)
    print_line(out, ("", ""))
    columns = {"score": "left", "pictures": "right", "mean score": "right", "right": "right"}
    width = 1 / len(found.bins)
    rows = [
        [f"{width * place:.0%} to {width * (place + 1):.0%}", f"{one.hits:,}", *_shares(one)]
        for place, one in enumerate(found.bins)
    ]
    print_table(out, columns, rows)


def _shares(one: Bin) -> list[str]:
    return [f"{one.confidence:.1%}", f"{one.related:.1%}"] if one.hits else ["-", "-"]


def print_undone(report: UndoReport, output: Format) -> None:
    """What was taken back; what was not, and why, on stderr."""
    for skipped in report.kept:
        note(f"{skipped.path}: {skipped.reason}")
    print_result(report, output, partial(_show_undone, report))


def _show_undone(report: UndoReport, out: Console) -> None:
    facts = {
        "moved back": f"{report.restored:,}",
        "removed": f"{report.removed:,}",
        "kept": f"{len(report.kept):,}",
    }
    print_facts(out, facts)
