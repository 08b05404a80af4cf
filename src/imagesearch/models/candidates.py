"""Labels that somebody names in place of a model's own: by its text tower, or by part of its head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError, UsageError
from imagesearch.models.classifier import Classifier, most_probable, probabilities
from imagesearch.models.heads import free_text
from imagesearch.models.hub import Checkpoint, first_line, weights_files
from imagesearch.models.network import load_model
from imagesearch.models.pooling import unit_vectors
from imagesearch.models.preprocessing import Pixels
from imagesearch.models.text import claims_text_tower, encode_queries
from imagesearch.models.vocabulary import Vocabulary
from imagesearch.records import Prediction

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.models.embedder import Encoder

# Where in a template the label stands.
_GAP = "{}"


@dataclass(frozen=True, slots=True)
class Logits:
    """How cosines of pictures and texts become probabilities.

    Attributes:
        scale, bias: a logit is scale * cosine + bias.
        each_alone: whether each label is asked for by itself (SigLIP: a sigmoid), so that none, one or several of
            them can be probable; else the labels share the whole (CLIP: a softmax).
    """

    scale: float
    bias: float
    each_alone: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Logits:
        """What a checkpoint was trained with; of its weights only these numbers are read.

        Raises:
            ModelError: it has none, or its files are damaged.
        """
        family = str(_settings(checkpoint).get("model_type"))
        if family == "align":  # its logits are cosines divided by a temperature
            found = _numbers(checkpoint, ("temperature",))
            scale = 1 / found["temperature"] if found.get("temperature") else None
        else:
            found = _numbers(checkpoint, ("logit_scale", "logit_bias"))
            scale = float(np.exp(np.float32(found["logit_scale"]))) if "logit_scale" in found else None
        if scale is None:
            raise ModelError(f"{checkpoint.name} has no logit_scale: how sure it is of a text is not known")
        return cls(scale, found.get("logit_bias", 0.0), family.startswith("siglip"))

    def scores(self, cosines: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities, float32, shape (pictures, labels)."""
        logits = np.float32(self.scale) * cosines + np.float32(self.bias)
        return probabilities(logits, several=self.each_alone)


class ZeroShotClassifier:
    """Labels pictures with any words, by the text tower of their model (Radford et al. 2021, section 3.1).

    A label's vector is the mean direction of its sentences' vectors.

    Attributes:
        labels: as they were named.
    """

    def __init__(
        self, embedder: Encoder, logits: Logits, labels: Sequence[str], templates: Sequence[str] = ()
    ) -> None:
        """Encode the labels.

        Args:
            embedder: of pictures and texts.
            logits: of the same checkpoint.
            labels: at least one, or two where they share the whole.
            templates: sentences with ``{}`` in the label's place; none: see :func:`text.prompts_for`.

        Raises:
            UsageError: there are too few labels, or a template has no ``{}``.
            ModelError: the model cannot encode texts.
        """
        _require_several(labels, 1 if logits.each_alone else 2)
        for template in templates:
            if _GAP not in template:
                raise UsageError(f"template {template!r}: has no {_GAP} where the label is to stand")
        self.labels = tuple(labels)
        self._embedder, self._logits = embedder, logits
        self._texts = encode_queries(embedder.encode_texts, self.labels, templates=templates)

    @property
    def decode_side(self) -> int | None:
        """See :func:`preprocessing.decode_side`."""
        return self._embedder.decode_side

    @property
    def batch_size(self) -> int:
        """How many pictures to label at once where nobody says."""
        return self._embedder.batch_size

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as input of :meth:`predict`. Thread-safe."""
        return self._embedder.preprocess(image)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed pictures; see :meth:`Classifier.predict`."""
        cosines = unit_vectors(self._embedder.encode(batch)) @ self._texts.T
        return most_probable(self._logits.scores(cosines), self.labels, top)


class ChosenLabels:
    """Labels pictures with some of the labels that a classifier knows, as if there were no others.

    A word that several of them have in common ("dog") has the sum of their probabilities; where a picture may have
    several labels, the largest.

    Attributes:
        labels: as they were named.
    """

    def __init__(self, classifier: Classifier, labels: Sequence[str], model: str) -> None:
        """Find out what the labels mean.

        Args:
            classifier: the network with its head.
            labels: two or more; one is enough where a picture may have several.
            model: what messages call it.

        Raises:
            UsageError: it does not know one of them; names the nearest that it knows. Or two mean the same.
        """
        _require_several(labels, 1 if classifier.several else 2)
        self.labels = tuple(labels)
        self._classifier = classifier
        meant = _meant(Vocabulary(classifier.labels), self.labels, model)
        self._classes = np.array([number for numbers in meant for number in numbers])
        self._starts = np.cumsum([0, *(len(numbers) for numbers in meant[:-1])])

    @property
    def decode_side(self) -> int | None:
        """See :func:`preprocessing.decode_side`."""
        return self._classifier.decode_side

    @property
    def batch_size(self) -> int:
        """How many pictures to label at once where nobody says."""
        return self._classifier.batch_size

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as input of :meth:`predict`. Thread-safe."""
        return self._classifier.preprocess(image)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed pictures; see :meth:`Classifier.predict`."""
        several = self._classifier.several
        shares = probabilities(self._classifier.logits(batch)[:, self._classes], several=several)
        together = np.maximum if several else np.add
        return most_probable(together.reduceat(shares, self._starts, axis=1), self.labels, top)


def labels_by_text(checkpoint: Checkpoint) -> bool:
    """Whether labels may be any words: it has a text tower, and was not made a classifier of some labels since.

    Raises:
        ModelError: its settings cannot be read.
    """
    kinds = _settings(checkpoint).get("architectures")
    is_classifier = isinstance(kinds, list) and any(str(kind).endswith("ForImageClassification") for kind in kinds)
    return claims_text_tower(checkpoint) and not is_classifier


def _require_several(labels: Sequence[str], least: int) -> None:
    if len(labels) < least:
        raise UsageError(f"labels: {len(labels)} named, and at least {least} are needed to choose from")


def _meant(vocabulary: Vocabulary, labels: Sequence[str], model: str) -> list[list[int]]:
    """For each label the classes that it means; a class that several mean belongs to the one that means fewest."""
    meant: dict[int, set[int]] = {}
    for place, label in enumerate(labels):
        match = vocabulary.match(label)
        if match is None or match.known_as is not None:
            nearest = ", ".join(vocabulary.nearest(label))
            like = f"the nearest words that it knows: {nearest}" if nearest else "nor anything like it"
            raise UsageError(f"{model} does not know the label {label!r}; {like}. {free_text()}")
        meant[place] = set(match.indices)
    taken: dict[int, int] = {}
    for place in sorted(meant, key=lambda place: len(meant[place])):
        own = meant[place] - taken.keys()
        if not own:
            other = labels[taken[min(meant[place])]]
            raise UsageError(f"labels: {labels[place]!r} and {other!r} mean the same to {model}: leave one out")
        taken.update(dict.fromkeys(own, place))
    return [sorted(number for number, owner in taken.items() if owner == place) for place in range(len(labels))]


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        settings = json.loads((checkpoint.folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its settings: {error}") from error
    return settings if isinstance(settings, dict) else {}


def _numbers(checkpoint: Checkpoint, names: Sequence[str]) -> dict[str, float]:
    """Parameters of one number each, by name, as far as the checkpoint has them."""
    from safetensors import SafetensorError, safe_open

    files = [file for file in weights_files(checkpoint.folder) if file.suffix == ".safetensors"]
    found: dict[str, float] = {}
    try:
        for file in files:
            with safe_open(file, "pt") as tensors:  # NumPy has no bfloat16
                there = set(tensors.keys()) & set(names)
                found.update({name: float(tensors.get_tensor(name).reshape(-1)[0]) for name in there})
    except (SafetensorError, OSError, IndexError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its weights: {first_line(error)}") from error
    if not files:  # a pickle, which can only be read as a whole
        parameters = dict(load_model(checkpoint, "features").model.named_parameters())
        found = {name: float(parameters[name].detach().reshape(-1)[0]) for name in names if name in parameters}
    return found
