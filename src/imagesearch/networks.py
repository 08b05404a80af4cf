"""The configured networks, loaded when they are first used."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from imagesearch.config import Config
from imagesearch.errors import ConfigError, ModelError
from imagesearch.models import catalogue
from imagesearch.models.hub import find_checkpoint
from imagesearch.records import Fingerprint

if TYPE_CHECKING:
    from imagesearch.models.classifier import Classifier
    from imagesearch.models.embedder import Embedder
    from imagesearch.models.opening import Running


class Networks:
    """The network that makes vectors and the one that labels pictures; several threads may ask for them.

    Args:
        config: the settings.
        embedder: a network that makes vectors in place of the configured one.
    """

    def __init__(self, config: Config, embedder: Embedder | None = None) -> None:
        self._config = config
        self._embedder = embedder
        self._classifier: Classifier | None = None
        # Held while a network is loaded, and never both.
        self._embedder_lock = threading.Lock()
        self._classifier_lock = threading.Lock()

    def embedder(self) -> Embedder:
        """The network that makes vectors.

        Raises:
            ModelError: it cannot be loaded.
            ConfigError: ``model.embedding_dim`` is not the dimension of its vectors.
        """
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = self._load_embedder()
            return self._embedder

    def classifier(self) -> Classifier:
        """The network that labels pictures.

        Raises:
            ModelError: it cannot be loaded or has no labels.
        """
        with self._classifier_lock:
            if self._classifier is None:
                self._classifier = self._load_classifier()
            return self._classifier

    def fingerprint(self, there: Fingerprint | None) -> Fingerprint:
        """The configured model's: the collection's, if it was made with the same checkpoint, else the network's.

        So a library in which nothing has changed is refreshed without loading the network.

        Args:
            there: the collection's; None if there is no collection.
        """
        if there is None or self._embedder is not None:
            return self.embedder().fingerprint
        settings = self._config.model
        checkpoint = find_checkpoint(catalogue.features_checkpoint(settings.name), settings.revision)
        same = (
            there.revision == checkpoint.revision
            and there.normalized == settings.normalize
            and settings.pooling in ("auto", there.pooling)
            and settings.embedding_dim in (None, there.dim)
        )
        return there if same else self.embedder().fingerprint

    def _load_embedder(self) -> Embedder:
        from imagesearch.models.opening import open_embedder

        settings = self._config.model
        embedder = open_embedder(
            find_checkpoint(catalogue.features_checkpoint(settings.name), settings.revision),
            self._running,
            pooling=settings.pooling,
            normalize=settings.normalize,
        )
        dim = embedder.fingerprint.dim
        if settings.embedding_dim not in (None, dim):
            raise ConfigError(
                f"{self._config.source_of('model.embedding_dim')}: model.embedding_dim = {settings.embedding_dim}:"
                f" vectors of {settings.name} have dimension {dim} (allowed: {dim}, or leave it out)"
            )
        return embedder

    def _load_classifier(self) -> Classifier:
        from imagesearch.models.opening import open_classifier

        settings = self._config.model
        name = catalogue.labels_checkpoint(settings.name, settings.classifier)
        if name is None:
            raise ModelError(
                f"{settings.classifier or settings.name} does not label pictures; set model.classifier"
                " (--model of 'imagesearch classify'), for example to 'vit'"
            )
        own = name == catalogue.features_checkpoint(settings.name)
        checkpoint = find_checkpoint(name, settings.revision if own else None)
        return open_classifier(checkpoint, self._running)

    @property
    def _running(self) -> Running:
        from imagesearch.models.opening import Running

        settings = self._config.model
        return Running(settings.device, settings.precision, settings.runtime)
