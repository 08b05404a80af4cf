"""Models that this user trained with this program: where their folders are, and how well they do.

Every folder has a small file of its own in the user's data folder, so that programs which train at the same time
cannot lose each other's. A folder that is gone, or on a disk that is not there now, is not listed, and not
forgotten either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesearch.atomic import replacing
from imagesearch.records import PlainValues

# In a folder that 'imagesearch train' wrote: what it measured.
REPORT = "training.json"
# Larger files are none of ours: a report of ten thousand classes has 2 MB.
_MOST_BYTES = 2**25


@dataclass(frozen=True, slots=True)
class TrainedModel(PlainValues):
    """A model that was trained here.

    Attributes:
        folder: where it is; the name for ``--model``.
        base: the checkpoint that was trained further.
        method: how, ``"probe"`` or a way of fine-tuning.
        pictures, classes: how many it learnt from and was measured with.
        several: whether a picture may have several labels.
        accuracy, low, high: on pictures that were set aside, with its 95 % interval.
    """

    folder: str
    base: str
    method: str
    pictures: int
    classes: int
    several: bool
    accuracy: float
    low: float
    high: float


def remember(folder: Path) -> None:
    """Have a folder listed from now on; where nothing can be kept, it is listed in its own surroundings only."""
    path = os.path.abspath(folder)
    digest = hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()
    with contextlib.suppress(OSError):
        place = _registry()
        place.mkdir(parents=True, exist_ok=True)
        with replacing(place / f"{digest}.json") as fresh:
            fresh.write_text(json.dumps({"folder": path}), encoding="ascii")


def trained_models(folder: str | os.PathLike[str] = ".") -> list[TrainedModel]:
    """Those that are remembered and there, and those in a folder, as somebody may have moved them; by folder.

    Args:
        folder: whose sub-folders are looked at.
    """
    # As others may have named them: through links, or by another spelling.
    places = {os.path.realpath(place): place for place in (*_beside(folder), *_remembered())}
    found = (_read(place) for place in places.values())
    return sorted((one for one in found if one is not None), key=lambda one: one.folder)


def _registry() -> Path:
    import platformdirs

    return platformdirs.user_data_path("imagesearch") / "trained"


def _remembered() -> Iterator[str]:
    with contextlib.suppress(OSError):  # nothing was trained yet
        for entry in sorted(_registry().glob("*.json")):
            folder = _read_json(entry).get("folder")
            if isinstance(folder, str) and "\0" not in folder:
                yield folder


def _beside(folder: str | os.PathLike[str]) -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(os.path.abspath(folder)) as entries:
        yield from (entry.path for entry in entries if os.path.isfile(os.path.join(entry.path, REPORT)))


def _read(folder: str) -> TrainedModel | None:
    """What is said of a folder; None where there is no model of ours, or no longer."""
    if not os.path.isfile(os.path.join(folder, "config.json")):
        return None
    said = _read_json(Path(folder, REPORT))
    try:
        best = next(one for one in said["methods"] if one["name"] == said["best"])
        accuracy = {name: float(best["accuracy"][name]) for name in ("value", "low", "high")}
        if not all(map(math.isfinite, accuracy.values())):
            return None
        return TrainedModel(
            folder=folder,
            base=str(said["model"]),
            method=str(said["best"]),
            pictures=int(said["pictures"]),
            classes=int(said["classes"]),
            several=bool(said["several"]),
            accuracy=accuracy["value"],
            low=accuracy["low"],
            high=accuracy["high"],
        )
    except (KeyError, TypeError, ValueError, StopIteration):  # another program's file of this name
        return None


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a folder that was written here; empty where it is no such folder."""
    return _read_json(folder / REPORT) if _read(os.fspath(folder)) is not None else {}


def public_name(model: str) -> str:
    """A model's name without the folders of this machine above it."""
    return os.path.basename(model.rstrip(os.sep)) if os.path.isabs(model) else model


def _read_json(file: Path) -> dict[str, Any]:
    """An object; empty where there is none that can be read."""
    try:
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return {}
        said = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
