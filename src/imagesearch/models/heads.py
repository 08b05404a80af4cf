"""The linear head of a classifier, whose rows say where in the space of pooled vectors each label lies.

Where logits are ``W v + b`` of the very vector v that is searched, row c of W points to where pictures of class c
lie: scaled to unit length, it is a prototype that pictures can be searched by, as by any vector. Whether it is so
is tried, once per checkpoint and machine, by running both networks.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.atomic import replacing
from imagesearch.errors import ModelError
from imagesearch.models import catalogue
from imagesearch.models.classifier import Classifier
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint, first_line, weights_files
from imagesearch.models.inspection import require_plausible
from imagesearch.models.network import Network, load_model
from imagesearch.models.pooling import unit_vectors
from imagesearch.models.runtimes.export import trial_pictures

# To be raised whenever earlier findings must not be used any more.
_FORMAT = 1
# Checkpoints in the user's list, at most; the oldest are forgotten first.
_MOST = 200
# Of the bundled model it is known, and tested; its word searches need no PyTorch, not even once.
_BUNDLED = "classifier.1.weight"
# Both networks compute in float32; only rounding may differ, relative to how far logits lie apart.
_PICTURES, _ROUNDING = 4, 1e-3
# Fewer labels are none to rank by, see Head.can_rank.
_LABELS_PER_DIMENSION = 1 / 3
_NUMPY_TYPES = ("F16", "F32", "F64")
_NO_NAME = re.compile(r"LABEL_\d+|\d+")

_lock = threading.Lock()


@dataclass(frozen=True, eq=False, slots=True)
class Head:
    """What a classifier knows by name.

    Attributes:
        model: what messages call the checkpoint.
        labels: n names; the position is the class's number.
        prototypes: float32, shape (n, dim), rows of unit length, in the space of the checkpoint's pooled vectors.
    """

    model: str
    labels: tuple[str, ...]
    prototypes: NDArray[np.float32]

    @property
    def can_rank(self) -> bool:
        """Whether pictures compared by these labels alone are compared better, not worse, than by their vectors.

        Few labels leave too much of a picture out. Of random parts of two heads, on two sets each, a third as many
        labels as vectors have numbers gain as much mAP as vectors do (MobileNetV2) or three times as much (bundled
        model); an eighth lose most of it.
        """
        labels, dim = self.prototypes.shape
        return bool(labels >= _LABELS_PER_DIMENSION * dim)


@dataclass(frozen=True, slots=True)
class _Finding:
    """Which of a network's weights are the head's rows; or why there are none."""

    weight: str | None
    problem: str | None = None


def open_head(checkpoint: Checkpoint, pooling: str) -> Head:
    """The head of a checkpoint whose vectors are searched; only its rows are read, once the checkpoint is known.

    Args:
        pooling: how its vectors are made: :attr:`Fingerprint.pooling`, or the setting ``model.pooling``.

    Raises:
        ModelError: it has no trained head, or none that is one linear layer on these vectors, or labels without
            names; or its files are damaged.
    """
    finding = _find(checkpoint, pooling)
    if finding.weight is None:
        raise ModelError(no_words(checkpoint.name, str(finding.problem)))
    require_plausible(checkpoint)
    rows, labels = _rows(checkpoint, finding.weight), _labels(checkpoint)
    if len(rows) != len(labels):
        raise ModelError(f"{checkpoint.name}: config.json names {len(labels)} labels, its head has {len(rows)}")
    if all(_NO_NAME.fullmatch(label) for label in labels):
        raise ModelError(no_words(checkpoint.name, "its labels are numbers without names"))
    return Head(checkpoint.name, labels, unit_vectors(rows))


def is_linear(checkpoint: Checkpoint, pooling: str) -> bool:
    """Whether a checkpoint has a head that is one linear layer on the vectors that are searched.

    Raises:
        ModelError: see :func:`open_head`.
    """
    return _find(checkpoint, pooling).weight is not None


def no_words(model: str, reason: str) -> str:
    """The message for a model that cannot be searched by words."""
    return f"{model} cannot be searched by words: {reason}. {free_text()}"


def free_text() -> str:
    """Which models understand any words, in a sentence for messages."""
    presets = ", ".join(spec.preset for spec in catalogue.PRESETS.values() if spec.text)
    return f"Free text is understood by the models {presets}: index the pictures with --model"


def _find(checkpoint: Checkpoint, pooling: str) -> _Finding:
    if checkpoint.folder.resolve() == catalogue.STARTER_FOLDER.resolve() and pooling in ("auto", "pooler"):
        return _Finding(_BUNDLED)
    known = _read().get(_key(checkpoint, pooling))
    if isinstance(known, dict) and set(known) == {"weight", "problem"} and any(known.values()):
        return _Finding(**known)
    finding, resolved = _try(checkpoint, pooling)
    _remember(checkpoint, {pooling, resolved}, finding)
    return finding


def _try(checkpoint: Checkpoint, pooling: str) -> tuple[_Finding, str]:
    """Run both networks on a few pictures, and compare logits with what each linear layer makes of the vectors.

    Returns:
        What was found, and the pooling that was chosen.

    Raises:
        ModelError: a network cannot be loaded.
    """
    import torch

    features = Network.load(checkpoint, "features", device="cpu", precision="float32")
    embedder = Embedder.of_network(features, pooling=pooling, normalize=False)
    pictures = trial_pictures(features.preprocessor, _PICTURES)
    vectors, resolved = embedder.encode(pictures), embedder.fingerprint.pooling
    del features, embedder  # so that two large networks are never in memory at once
    network = Network.load(checkpoint, "labels", device="cpu", precision="float32")
    if network.missing:
        return _Finding(None, "it has no trained classification head"), resolved
    logits = Classifier.of_network(network).runtime.run(pictures)
    for name, module in network.model.named_modules():
        if isinstance(module, torch.nn.Linear) and module.weight.shape == (logits.shape[1], vectors.shape[1]):
            bias = 0.0 if module.bias is None else module.bias.numpy()
            if np.abs(vectors @ module.weight.numpy().T + bias - logits).max() <= _ROUNDING * np.ptp(logits):
                return _Finding(f"{name}.weight"), resolved
    problem = f"its classification head is not one linear layer on the vectors that are searched ({resolved})"
    return _Finding(None, problem), resolved


def _rows(checkpoint: Checkpoint, weight: str) -> NDArray[np.float32]:
    """The head's rows, float32, shape (labels, dim): from the file alone, where NumPy can read it."""
    from safetensors import SafetensorError, safe_open

    try:
        for file in weights_files(checkpoint.folder):
            if file.suffix != ".safetensors":
                continue
            with safe_open(file, "np") as tensors:
                if weight in tensors.keys() and tensors.get_slice(weight).get_dtype() in _NUMPY_TYPES:  # noqa: SIM118
                    rows: NDArray[np.float32] = np.asarray(tensors.get_tensor(weight), dtype=np.float32)
                    return rows
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its weights: {first_line(error)}") from error
    parameter: NDArray[np.float32] = load_model(checkpoint, "labels").model.get_parameter(weight).detach().numpy()
    return parameter


def _labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    try:
        names = json.loads((checkpoint.folder / "config.json").read_bytes())["id2label"]
        return tuple(str(names[number]) for number in sorted(names, key=int))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(no_words(checkpoint.name, "its config.json names no labels (id2label)")) from None


def _list() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "heads.json"


def _key(checkpoint: Checkpoint, pooling: str) -> str:
    return f"{_FORMAT} {checkpoint.revision} {pooling}"


def _read() -> dict[str, Any]:
    """What is remembered; nothing if the list cannot be read: then networks are tried again."""
    try:
        known = json.loads(_list().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _remember(checkpoint: Checkpoint, poolings: set[str], finding: _Finding) -> None:
    entry = {"weight": finding.weight, "problem": finding.problem}
    with _lock, contextlib.suppress(OSError):  # where nothing can be kept, they are tried again the next time
        known = _read()
        known.update({_key(checkpoint, pooling): entry for pooling in sorted(poolings)})
        place = _list()
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as fresh:
            fresh.write_text(json.dumps(dict(list(known.items())[-_MOST:])), encoding="ascii")
