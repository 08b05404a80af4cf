"""Texts to vectors that can be compared with those of images, where a checkpoint has a text tower."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.devices import choose_device, choose_precision, inference
from imagesearch.models.hub import Checkpoint, require_tokenizer
from imagesearch.models.network import Network, load_text_tower, load_tokenizer
from imagesearch.models.pooling import TEXT_SPACE, features_of, unit_vectors
from imagesearch.records import Fingerprint

if TYPE_CHECKING:
    import torch


# What CLIP saw were sentences, so a bare noun phrase is asked for in several, and their vectors are averaged
# (Radford et al. 2021, section 3.1.4). These seven of the 80 sentences of the paper are those that its authors'
# forward selection found to be as good as all of them together; SigLIP was evaluated with the same ones.
TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
# What is longer is a sentence of its own.
_MOST_WORDS = 3
_NOUN_PHRASE = re.compile(r"(?!(?:an?|the|my|this|two) )[a-z][a-z'-]*(?: [a-z][a-z'-]*)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TextTower:
    """A text tower for inference.

    Attributes:
        checkpoint: where it came from.
        config: the checkpoint's Transformers configuration.
        missing: names of its parameters that the checkpoint did not have.
        device: where it runs.
        reserved: how many of its positions no token gets.
        compute: tokens, by the names of Transformers' arguments, each of shape (n, tokens), to vectors of shape
            (n, dim).
    """

    checkpoint: Checkpoint
    config: Any
    missing: frozenset[str]
    device: str
    reserved: int
    compute: Callable[[dict[str, Any]], torch.Tensor]

    @classmethod
    def load(cls, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto") -> TextTower:
        """Load it alone, or with the whole network where Transformers cannot separate them.

        Raises:
            ModelError: the files are damaged, or the checkpoint has no text tower.
        """
        device = choose_device(device)
        loaded = load_text_tower(checkpoint)
        if loaded is None:
            return cls.of_network(Network.load(checkpoint, "features", device=device, precision=precision))
        dtype = choose_precision(precision, device)
        model = loaded.model.eval().requires_grad_(False).to(device=device, dtype=dtype)

        def compute(tokens: dict[str, Any]) -> torch.Tensor:
            output = model(**tokens)
            features: torch.Tensor = getattr(output, "text_embeds", output.get("pooler_output"))
            return features

        return cls(checkpoint, loaded.config, loaded.missing, device, _reserved(model), compute)

    @classmethod
    def of_network(cls, network: Network) -> TextTower:
        """That of a network that is loaded for ``"features"`` already.

        Raises:
            ModelError: it has none.
        """
        if not hasattr(network.model, "get_text_features"):
            raise ModelError(f"{network.checkpoint.name} {_NO_TOWER}")

        def compute(tokens: dict[str, Any]) -> torch.Tensor:
            return features_of(network.model.get_text_features(**tokens))

        missing = frozenset(weight for weight in network.missing if "text" in weight)
        return cls(network.checkpoint, network.config, missing, network.device, _reserved(network.model), compute)


def _reserved(model: Any) -> int:
    """Positions without tokens: RoBERTa (in AltCLIP) counts from behind the number of its padding token."""
    embeddings = (module for name, module in model.named_modules() if name.endswith("position_embeddings"))
    padding = (getattr(module, "padding_idx", None) for module in embeddings)
    return max((number + 1 for number in padding if number is not None), default=0)


class TextEmbedder:
    """Turns texts into vectors with a text tower such as CLIP's or SigLIP's.

    Attributes:
        fingerprint: that of the images whose vectors these may be compared with.
    """

    def __init__(self, tower: TextTower, fingerprint: Fingerprint) -> None:
        """Load the tokenizer.

        Args:
            fingerprint: of the embedder of images.

        Raises:
            ModelError: the checkpoint has no trained text tower or no tokenizer, or the vectors of images are not
                in the space that texts share.
        """
        require_shared_space(fingerprint)
        if tower.missing:
            raise ModelError(
                f"{tower.checkpoint.name}: the checkpoint lacks {len(tower.missing)} weights of its text tower"
                f" (first: {min(tower.missing)}); vectors of texts would be random"
            )
        require_tokenizer(tower.checkpoint)
        self.fingerprint = fingerprint
        self._tower = tower
        self._tokenizer = load_tokenizer(tower.checkpoint)
        self._tokenizing = threading.Lock()  # tokenizers keep truncation and padding as their state

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts; what does not fit into the text tower (64 tokens or so) is cut off. Thread-safe.

        Args:
            texts: one or more, taken literally.

        Returns:
            float32, shape (n, dim), rows of unit length if those of images are.

        Raises:
            ModelError: memory does not hold the batch.
        """
        tower = self._tower
        with inference(tower.device, tower.checkpoint):
            tokens = {name: tensor.to(tower.device) for name, tensor in self._tokenize(texts).items()}
            vectors: NDArray[np.float32] = tower.compute(tokens).float().cpu().numpy()
        return unit_vectors(vectors) if self.fingerprint.normalized else vectors

    def _tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """Tokens as tensors of shape (n, tokens), in the form that the network was trained on.

        SigLIP saw lower-case texts, padded to the full length (Zhai et al. 2023, Tschannen et al. 2025); not every
        SigLIP tokenizer on the hub lowers the case, as CLIP's does.
        """
        config = self._tower.config
        is_siglip = str(config.model_type).startswith("siglip")
        positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
        longest = self._tokenizer.model_max_length
        if positions:
            longest = min(positions - self._tower.reserved, longest)
        with self._tokenizing:
            tokens = self._tokenizer(
                [text.lower() for text in texts] if is_siglip else list(texts),
                padding="max_length" if is_siglip else True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
        return dict(tokens)


def prompts_for(text: str) -> tuple[str, ...]:
    """The sentences that a query is encoded as: a noun phrase of up to three words in every template, else itself.

    The templates are English, so a text with letters that English does not have is taken literally.

    Examples:
        >>> prompts_for("school bus")[1], len(prompts_for("school bus"))
        ('a bad photo of the school bus.', 7)
        >>> prompts_for("a red car")
        ('a red car',)
    """
    text = " ".join(text.split())
    if len(text.split()) > _MOST_WORDS or not _NOUN_PHRASE.fullmatch(text):
        return (text,)
    return tuple(template.format(text) for template in TEMPLATES)


def encode_queries(
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    texts: Sequence[str],
    *,
    normalized: bool = True,
    templates: Sequence[str] = (),
) -> NDArray[np.float32]:
    """One vector per text: the mean direction of its prompts' vectors (:func:`prompts_for`), all encoded at once.

    Args:
        encode: literal texts to vectors of shape (n, dim), such as :meth:`TextEmbedder.encode`.
        texts: one or more.
        normalized: whether to give vectors of unit length; else of the prompts' mean length.
        templates: sentences with ``{}`` where the text stands, in place of those of :func:`prompts_for`.

    Returns:
        float32, shape (number of texts, dim).

    Raises:
        ModelError: see ``encode``.
    """
    prompts = [
        tuple(template.replace("{}", text) for template in templates) if templates else prompts_for(text)
        for text in texts
    ]
    vectors = encode([prompt for several in prompts for prompt in several])
    ends = np.cumsum([len(several) for several in prompts])[:-1]
    rows = []
    for group in np.split(vectors, ends):
        direction = unit_vectors(unit_vectors(group).mean(axis=0, keepdims=True))
        rows.append(direction if normalized else direction * np.linalg.norm(group, axis=1).mean())
    return np.concatenate(rows).astype(np.float32, copy=False)


def require_shared_space(fingerprint: Fingerprint) -> None:
    """Make sure, before anything is loaded, that vectors of images lie in a space that texts share.

    Raises:
        ModelError: the checkpoint has no text tower, or ``model.pooling`` leaves out the projection.
    """
    if fingerprint.pooling != TEXT_SPACE:
        raise ModelError(f"{fingerprint.model} (pooling {fingerprint.pooling!r}) {_NO_TOWER}")


def claims_text_tower(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint's settings speak of a text tower beside one for images; nothing is loaded."""
    try:
        settings = json.loads((checkpoint.folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its settings: {error}") from error
    if not isinstance(settings, dict) or not {"text_config", "vision_config"} <= set(settings):
        return False
    # Such as CLIPForImageClassification, which keeps the settings of both towers, and the weights of one.
    return "ForImageClassification" not in str(settings.get("architectures"))


_NO_TOWER = (
    "has no text tower in whose space its image vectors lie: it cannot encode texts; choose a model that has one"
    " (--model clip or --model siglip2), with model.pooling at auto"
)
