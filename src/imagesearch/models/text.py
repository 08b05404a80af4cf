"""Texts to vectors that can be compared with those of images, where a checkpoint has a text tower."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.hub import require_tokenizer
from imagesearch.models.network import Network, load_tokenizer
from imagesearch.models.pooling import TEXT_SPACE, features_of, unit_vectors
from imagesearch.records import Fingerprint


class TextEmbedder:
    """Turns texts into vectors with the text tower of a network such as CLIP or SigLIP.

    Attributes:
        fingerprint: that of the images whose vectors these may be compared with.
    """

    def __init__(self, network: Network, fingerprint: Fingerprint) -> None:
        """Load the tokenizer.

        Args:
            network: loaded for ``"features"``.
            fingerprint: of the embedder of images.

        Raises:
            ModelError: the checkpoint has no trained text tower or no tokenizer, or the vectors of images are not
                in the space that texts share.
        """
        require_shared_space(fingerprint)
        name = network.checkpoint.name
        if not hasattr(network.model, "get_text_features"):
            raise ModelError(f"{name} {_NO_TOWER}")
        if missing := [weight for weight in network.missing if "text" in weight]:
            raise ModelError(
                f"{name}: the checkpoint lacks {len(missing)} weights of its text tower (first: {min(missing)});"
                " vectors of texts would be random"
            )
        require_tokenizer(network.checkpoint)
        self.fingerprint = fingerprint
        self._network = network
        self._tokenizer = load_tokenizer(network.checkpoint)
        self._tokenizing = threading.Lock()  # tokenizers keep truncation and padding as their state

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts; what does not fit into the text tower (64 tokens or so) is cut off. Thread-safe.

        Args:
            texts: one or more.

        Returns:
            float32, shape (n, dim), rows of unit length if those of images are.

        Raises:
            ModelError: memory does not hold the batch.
        """
        network = self._network
        with network.inference():
            tokens = {name: tensor.to(network.device) for name, tensor in self._tokenize(texts).items()}
            features = features_of(network.model.get_text_features(**tokens))
            vectors: NDArray[np.float32] = features.float().cpu().numpy()
        return unit_vectors(vectors) if self.fingerprint.normalized else vectors

    def _tokenize(self, texts: Sequence[str]) -> dict[str, Any]:
        """Tokens as tensors of shape (n, tokens), in the form that the network was trained on.

        SigLIP saw lower-case texts, padded to the full length (Zhai et al. 2023, Tschannen et al. 2025); not every
        SigLIP tokenizer on the hub lowers the case, as CLIP's does.
        """
        config = self._network.config
        is_siglip = str(config.model_type).startswith("siglip")
        positions = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
        longest = min(positions or self._tokenizer.model_max_length, self._tokenizer.model_max_length)
        with self._tokenizing:
            tokens = self._tokenizer(
                [text.lower() for text in texts] if is_siglip else list(texts),
                padding="max_length" if is_siglip else True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            )
        return dict(tokens)


def require_shared_space(fingerprint: Fingerprint) -> None:
    """Make sure, before anything is loaded, that vectors of images lie in a space that texts share.

    Raises:
        ModelError: the checkpoint has no text tower, or ``model.pooling`` leaves out the projection.
    """
    if fingerprint.pooling != TEXT_SPACE:
        raise ModelError(f"{fingerprint.model} (pooling {fingerprint.pooling!r}) {_NO_TOWER}")


_NO_TOWER = (
    "has no text tower in whose space its image vectors lie: it cannot encode texts; choose a model that has one"
    " (--model clip or --model siglip2), with model.pooling at auto"
)
