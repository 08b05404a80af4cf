"""What a checkpoint's files say of themselves, looked at before any library acts on it.

Checkpoints come from strangers. Transformers would build a network of ten million layers until it is stopped,
resize pictures to a million pixels a side, and wait for ever to read from a pipe. What no vision model has is
refused here, in time and memory that do not depend on what the files say.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagesearch.errors import ModelError
from imagesearch.models.hub import SETTINGS, Checkpoint, weights_files

# config.json with the names of all 21,000 classes of ImageNet has 1.5 MB.
_MOST_BYTES = 16 * 2**20
# A network has at least one tensor per layer; the largest vision models have some hundred layers.
_MOST_LAYERS = 1_000
_LAYERS = re.compile(r"layers?\b|depths?\b|blocks?\b|layers?_per_|repeats?\b", re.IGNORECASE)
_MOST_PIXELS = 4_096
_FILTERS = range(6)  # Pillow's numbers
# Tensors hardly shrink when they are compressed, and PyTorch does not compress them.
_INFLATED = 4


def require_plausible(checkpoint: Checkpoint) -> None:
    """Check the settings and weights' files of a checkpoint.

    Raises:
        ModelError: a file is not what Transformers writes, or says what no vision model has.
    """
    try:
        settings = {name: _settings(checkpoint, name) for name in SETTINGS if (checkpoint.folder / name).exists()}
        tensors = sum(_count_tensors(checkpoint, file) for file in weights_files(checkpoint.folder))
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{checkpoint.name}: cannot read {error.filename!r}: {reason}") from error
    layers = max(_MOST_LAYERS, tensors)
    for name, values in settings.items():
        for key, value in _numbers(values, ""):
            if (problem := _problem(name, key, value, layers)) is not None:
                raise ModelError(f"{checkpoint.name}: {name} says {key} = {value!r}: {problem}")


def _problem(name: str, key: str, value: float, layers: int) -> str | None:
    last = key.rpartition(".")[2]
    if name == "config.json":
        too_many = _LAYERS.search(last) and isinstance(value, int) and value > layers
        return f"more layers than its weights can have ({layers})" if too_many else None
    if not math.isfinite(value):
        return "not a number"
    if last == "resample" and value not in _FILTERS:
        return "no such filter (0 to 5)"
    if last in ("height", "width", "shortest_edge", "size", "crop_size") and not 0 < value <= _MOST_PIXELS:
        return f"pictures must have 1 to {_MOST_PIXELS} pixels a side"
    return None


def claims_labels(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was saved as a classifier of images, or does not say as what; nothing is loaded.

    Raises:
        ModelError: its settings cannot be read.
    """
    settings = _settings(checkpoint, SETTINGS[0])
    saved_as = settings.get("architectures") if isinstance(settings, dict) else None
    return not isinstance(saved_as, list) or any("Classification" in str(name) for name in saved_as)


def _settings(checkpoint: Checkpoint, name: str) -> Any:
    file = checkpoint.folder / name
    if not file.is_file():
        raise ModelError(f"{checkpoint.name}: {name} is not a file")
    if file.stat().st_size > _MOST_BYTES:
        raise ModelError(f"{checkpoint.name}: {name} has more than {_MOST_BYTES / 2**20:.0f} MB")
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"{checkpoint.name}: {name} is not JSON") from None


def _numbers(values: Any, key: str) -> Iterator[tuple[str, float]]:
    """All numbers of nested values with their dotted keys, but those that are names of labels."""
    waiting = [(key, values)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [
                (f"{key}.{name}".lstrip("."), inner) for name, inner in value.items() if name != "label2id"
            ]
        elif isinstance(value, list):
            waiting.extend((key, element) for element in value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield key, value


def _count_tensors(checkpoint: Checkpoint, file: Path) -> int:
    """Number of tensors in a file of weights; 0 if it is of a kind that cannot be counted.

    Raises:
        ModelError: it is damaged, or would grow many times larger when it is read.
        OSError: it cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            return _count_in_safetensors(file)
        size = file.stat().st_size
        if not zipfile.is_zipfile(file):  # written by PyTorch before 1.6: one pickle after the other
            return 0
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > _INFLATED * size + 2**20:
            raise ModelError(f"{checkpoint.name}: {file.name} would be many times larger when unpacked")
        return len(entries)
    except (ValueError, struct.error, RecursionError, zipfile.BadZipFile, NotImplementedError):
        raise ModelError(f"{checkpoint.name}: cannot be loaded: {file.name} is damaged") from None


def _count_in_safetensors(file: Path) -> int:
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(_MOST_BYTES, file.stat().st_size):
            raise ValueError("its header is too long")
        return len(json.loads(stream.read(length)))
