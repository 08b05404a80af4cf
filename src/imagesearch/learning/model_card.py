"""The model card of a trained checkpoint: what it learnt from, and how well it does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from imagesearch.learning.contest import BASELINE, Contestant
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.probe import Probe
from imagesearch.learning.splits import SplitReport

# What means something to Markdown within a line.
_MARKUP = re.compile(r"[\\`*_\[\]<>|~&#$]")
# Classes of the table of classes: the worst of many.
_SHOWN = 50
_METHODS = {
    "probe": "a linear probe: the rest of the network is as it was",
    "last": "the last block and the head were fine-tuned",
    "lora": "fine-tuned by LoRA, merged into the weights",
    "full": "all weights were fine-tuned",
}


def model_card(
    *,
    base: str,
    name: str,
    labelled: LabelledPictures,
    parts: SplitReport,
    contestants: Sequence[Contestant],
    winner: Contestant,
    probe: Probe,
    classes: Mapping[str, Mapping[str, float]],
    seed: int,
) -> str:
    """The card, as Markdown with the Hugging Face hub's header.

    Args:
        base: the checkpoint that was trained further: of the hub ``"owner/name"``.
        name: of the new one.
        labelled: the pictures.
        parts: what was learnt from, and what was set aside.
        contestants: the baseline first.
        winner: the one that was written.
        probe: how the probe came about.
        classes: measures by class; see :func:`~imagesearch.learning.contest.per_class`.
        seed: of the split.
    """
    return "\n".join(
        [
            *_header(base, name, winner),
            f"# {_literal(name)}",
            "",
            f"{base} for {len(labelled.names)} labels, learnt from {parts.training:,} pictures by"
            f" `imagesearch train` ({_METHODS[winner.name]}; {winner.detail}).",
            "",
            "```python",
            "from transformers import pipeline",
            "",
            'classify = pipeline("image-classification", model="PATH_OF_THIS_FOLDER")',
            "```",
            "",
            "## Pictures",
            "",
            *_pictures(labelled, parts),
            "",
            "## Measures",
            "",
            f"On {parts.held_out:,} pictures that were set aside (seed {seed}), with 95 % intervals:",
            "",
            *_measures(contestants),
            "",
            f"The probe's regularisation (L2 {probe.l2:g}) and the temperature of its scores"
            f" ({probe.temperature:.3f}, part of the weights) were chosen by cross-validation among the pictures"
            f" learnt from; there its expected calibration error is {probe.calibration_error:.3f}, and was"
            f" {probe.uncalibrated_error:.3f} before.",
            "",
            "## Classes",
            "",
            *_classes(classes),
            "",
        ]
    )


def _header(base: str, name: str, winner: Contestant) -> list[str]:
    """YAML; strings are written as JSON, which is YAML too."""
    return [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-classification",
        # The hub takes it for a repository there, which other checkpoints are not.
        *([f"base_model: {json.dumps(base)}"] if "/" in base else []),
        "tags: [imagesearch]",
        "model-index:",
        f"- name: {json.dumps(name)}",
        "  results:",
        "  - task: {type: image-classification}",
        '    dataset: {name: "pictures set aside", type: imagefolder}',
        "    metrics:",
        f"    - {{type: accuracy, value: {winner.accuracy.value:.4f}}}",
        f"    - {{type: f1, name: macro F1, value: {winner.macro_f1.value:.4f}}}",
        "---",
        "",
    ]


def _pictures(labelled: LabelledPictures, parts: SplitReport) -> list[str]:
    counts = sorted(labelled.members.sum(axis=0).tolist())
    lines = [
        f"- {len(labelled.pictures):,} pictures; {counts[0]:,} to {counts[-1]:,} of a class"
        f" (median {counts[len(counts) // 2]:,})" + (", several labels each" if labelled.is_multi_label else ""),
        f"- {parts.training:,} learnt from, {parts.held_out:,} set aside",
        f"- related pictures, which were kept together: {parts.identical:,} identical,"
        f" {parts.near_identical:,} nearly identical, {parts.burst:,} of bursts",
    ]
    if parts.unmeasured:
        lines.append(f"- {len(parts.unmeasured):,} classes have no picture set aside, and no measure")
    return lines


def _measures(contestants: Sequence[Contestant]) -> list[str]:
    columns = ["method", "accuracy", "macro F1", f"gain over {BASELINE}", "retrieval mAP", "gain in mAP"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for one in contestants:
        gains = [
            f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})" if gain else ""
            for gain in (one.gain, one.retrieval_gain)
        ]
        values = [
            f"{part.value:.3f} ({part.low:.3f} to {part.high:.3f})" if part else ""
            for part in (one.accuracy, one.macro_f1, one.retrieval)
        ]
        cells = [one.name, *values[:2], gains[0], values[2], gains[1]]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _classes(classes: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = ["| class | pictures set aside | precision | recall | F1 |", "|---|---:|---:|---:|---:|"]
    for name, row in list(classes.items())[:_SHOWN]:
        cells = [
            _literal(name),
            f"{row['pictures']:.0f}",
            *(f"{row[key]:.3f}" for key in ("precision", "recall", "F1")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if len(classes) > _SHOWN:
        lines += ["", f"The {_SHOWN} classes with the lowest F1 of {len(classes):,}."]
    return lines


def _literal(name: str) -> str:
    r"""A name that Markdown shows as it is.

    Examples:
        >>> print(_literal("<unknown> | __background__"))
        \<unknown\> \| \_\_background\_\_
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(name.split()))
