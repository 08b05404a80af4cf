"""Images, and texts where the checkpoint has a text tower, to vectors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.network import Network
from imagesearch.models.pooling import pooled, resolve_pooling, unit_vectors
from imagesearch.models.preprocessing import Pixels, Preprocessor
from imagesearch.models.runtimes.base import PictureModel, Runtime
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.models.text import TextEmbedder, TextTower, require_shared_space
from imagesearch.records import Fingerprint

if TYPE_CHECKING:
    from PIL import Image


class PictureEncoder(Protocol):
    """What makes numbers of images."""

    @property
    def decode_side(self) -> int | None:
        """See :func:`preprocessing.decode_side`."""

    @property
    def batch_size(self) -> int:
        """How many images to encode at once where nobody says."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB image as input of :meth:`encode`. Thread-safe."""

    def encode(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """What is known of preprocessed images: float32, shape (n, ...)."""


class Encoder(PictureEncoder, Protocol):
    """What indexing and searching ask of a model: :class:`Embedder`, or something in its place.

    Its :meth:`encode` gives one vector per image: float32, shape (n, dim).
    """

    @property
    def fingerprint(self) -> Fingerprint:
        """What its vectors may be compared with."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, comparable with those of images: float32, shape (n, dim).

        Raises:
            ModelError: the model cannot encode texts.
        """


class Embedder(PictureModel):
    """Turns images and texts into comparable vectors with one network.

    Attributes:
        fingerprint: what its vectors may be compared with.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        runtime: Runtime,
        fingerprint: Fingerprint,
        load_texts: Callable[[Fingerprint], TextEmbedder],
    ) -> None:
        """Put together what was loaded.

        Args:
            load_texts: loads the text tower; called when a text is first encoded.
        """
        super().__init__(preprocessor, runtime)
        self.fingerprint = fingerprint
        self._load_texts = load_texts
        self._texts: TextEmbedder | None = None
        self._loading_texts = threading.Lock()

    @classmethod
    def of_network(cls, network: Network, *, pooling: str = "auto", normalize: bool = True) -> Embedder:
        """Choose the pooling and find out the vectors' length.

        Args:
            network: loaded for ``"features"``.
            pooling: ``"auto"`` (see :func:`pooling.choose_pooling`), ``"pooler"``, ``"cls"`` or ``"mean"``.
            normalize: scale vectors to unit length.

        Raises:
            ModelError: the network cannot be pooled that way, or makes several vectors of a picture.
        """
        pooling = resolve_pooling(network, pooling)
        runtime = TorchRuntime(network, pooled(network, pooling))
        vectors = runtime.run([network.blank])
        if vectors.ndim != 2:  # FLAVA's projection, and those before a language model, are of every token
            raise ModelError(
                f"{network.checkpoint.name} makes no single vector of a picture: use another checkpoint"
                " ('imagesearch models' lists some)"
            )
        fingerprint = Fingerprint(
            model=network.checkpoint.name,
            revision=network.checkpoint.revision,
            earlier_revisions=network.checkpoint.earlier_revisions,
            pooling=pooling,
            input_size=network.input_size,
            dim=vectors.shape[1],
            normalized=normalize,
        )

        def load_texts(fingerprint: Fingerprint) -> TextEmbedder:
            return TextEmbedder(TextTower.of_network(network), fingerprint)

        return cls(network.preprocessor, runtime, fingerprint, load_texts)

    def encode(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Vectors of preprocessed images.

        Args:
            batch: one or more results of :meth:`preprocess`.

        Returns:
            float32, shape (n, dim), rows of unit length unless configured otherwise.

        Raises:
            ModelError: memory does not hold the batch.
        """
        vectors = self.runtime.run(batch)
        return unit_vectors(vectors) if self.fingerprint.normalized else vectors

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, comparable with those of images; the first call loads the text tower.

        Args:
            texts: one or more; see :meth:`TextEmbedder.encode`.

        Returns:
            float32, shape (n, dim), rows of unit length unless configured otherwise.

        Raises:
            ModelError: the checkpoint has no text tower or no tokenizer, or memory does not hold the batch.
        """
        require_shared_space(self.fingerprint)
        with self._loading_texts:
            if self._texts is None:
                self._texts = self._load_texts(self.fingerprint)
            embedder = self._texts
        return embedder.encode(texts)
