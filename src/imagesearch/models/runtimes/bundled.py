"""The graph that comes with the bundled model: it runs in OpenVINO at once, without PyTorch or a conversion.

Made by ``python -m training.graph``. One graph gives both, vectors and logits; weights are kept in float16, as in
the checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from imagesearch.models import catalogue
from imagesearch.models.digests import file_digest
from imagesearch.models.hub import first_line
from imagesearch.models.network import find_preprocessor
from imagesearch.models.runtimes.cache import Manifest
from imagesearch.models.runtimes.conversion import Source
from imagesearch.models.runtimes.export import (
    GraphRuntime,
    failed_manifest,
    first_faithful,
    load_graph,
    min_cosine_by_precision,
    trial_pictures,
)
from imagesearch.records import Fingerprint

_FILES = ("graph.xml", "graph.bin")
_ABOUT = "about.json"
# Pictures to compare precisions with.
_PICTURES = 32


def has_bundled_graph(source: Source, name: GraphRuntime) -> bool:
    """Whether a graph of this checkpoint for this runtime comes with the program."""
    checkpoint = source.checkpoint
    if name != "openvino" or source.pooling not in ("", "auto", "pooler"):
        return False
    if checkpoint.folder.resolve() != catalogue.STARTER_FOLDER.resolve():
        return False
    about = _about()
    return about is not None and about["weights"] == file_digest(checkpoint.folder / "model.safetensors")


def adopt(source: Source, precision: str, folder: Path) -> Manifest:
    """Copy the graph, and choose the precision for this machine: the graph itself in float32 is the reference.

    That it gives what PyTorch gives is tested where it is made, and by this program's tests.

    Args:
        precision: the setting ``model.precision``.
        folder: where the graph's files go.
    """
    about = _about()
    assert about is not None
    description = about[source.task]
    if source.task == "features":
        fingerprint = Fingerprint.from_json(json.dumps(description))
        description = dataclasses.replace(fingerprint, revision=source.checkpoint.revision).to_json()
    for file in _FILES:
        shutil.copyfile(_folder() / file, folder / file)
    try:
        chosen = _choose_precision(source, precision, folder)
    except (OSError, MemoryError):
        raise  # not the graph's fault: the next attempt may succeed
    except Exception as error:  # noqa: BLE001 - whatever OpenVINO cannot do here, PyTorch can
        return failed_manifest(folder, first_line(error))
    # Not compared with PyTorch, which would have to be imported: it was never as fast.
    return Manifest(description, chosen, speed=1.0, torch_speed=0.0)


def _choose_precision(source: Source, precision: str, folder: Path) -> str:
    pictures = trial_pictures(find_preprocessor(source.checkpoint), _PICTURES)
    reference = load_graph("openvino", folder, "float32", source.task).run(pictures)
    bounds = min_cosine_by_precision("openvino", precision)
    return first_faithful("openvino", folder, source.task, pictures, reference, min_cosine=bounds)[0]


def _folder() -> Path:
    return catalogue.STARTER_FOLDER / "graph"


def _about() -> dict[str, Any] | None:
    """What :mod:`training.graph` wrote about the graph; None if there is none."""
    try:
        about: dict[str, Any] = json.loads((_folder() / _ABOUT).read_bytes())
    except FileNotFoundError:
        return None
    return about
