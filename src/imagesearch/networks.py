"""The configured networks, loaded when they are first used."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagesearch.config import Config
from imagesearch.errors import ConfigError, ModelError, UsageError
from imagesearch.models import catalogue
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.records import Fingerprint, Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imagesearch.models.classifier import Classifier
    from imagesearch.models.embedder import Embedder, Encoder
    from imagesearch.models.heads import Head
    from imagesearch.models.network import Task
    from imagesearch.models.patches import PatchEncoder
    from imagesearch.models.runtimes.base import RuntimeOptions
    from imagesearch.models.text import TextEmbedder
    from imagesearch.models.words import WordQuery
    from imagesearch.search.labels import Labeller

_log = logging.getLogger(__name__)


class Networks:
    """The network that makes vectors and the one that labels images; several threads may ask for them.

    Args:
        config: the settings.
        embedder: a model that makes vectors in place of the configured one.
    """

    def __init__(self, config: Config, embedder: Encoder | None = None) -> None:
        self._config = config
        self._is_given = embedder is not None
        self._embedder = embedder
        self._classifier: Classifier | None = None
        self._texts: TextEmbedder | None = None
        self._patch_encoder: PatchEncoder | None = None
        self._heads: dict[str, Head] = {}
        # By pooling; None: there are none.
        self._label_axes: dict[str, NDArray[np.float64] | None] = {}
        # Held while a network is loaded, and never both.
        self._embedder_lock = threading.Lock()
        self._classifier_lock = threading.Lock()
        self._words_lock = threading.Lock()
        self._patches_lock = threading.Lock()
        self._axes_lock = threading.Lock()
        # Held while graphs are made. Who wants a network meanwhile gets the one that there is.
        self._optimizing = threading.Lock()

    def embedder(self) -> Encoder:
        """The network that makes vectors.

        Raises:
            ModelError: it cannot be loaded.
            ConfigError: ``model.embedding_dim`` is not the dimension of its vectors.
        """
        with self._embedder_lock:
            if self._embedder is None:
                self._embedder = self._load_embedder()
            return self._embedder

    def patch_encoder(self) -> PatchEncoder:
        """What makes vectors of pictures' patches, in PyTorch; loaded when it is first asked for.

        Raises:
            ModelError: it cannot be loaded, or the embedder was given and is no network.
        """
        from imagesearch.models.embedder import Embedder
        from imagesearch.models.network import Network
        from imagesearch.models.patches import PatchEncoder
        from imagesearch.models.runtimes.torch import TorchRuntime

        embedder = self.embedder()
        with self._patches_lock:
            if self._patch_encoder is None:
                settings = self._config.model
                if isinstance(embedder, Embedder) and isinstance(embedder.runtime, TorchRuntime):
                    network = embedder.runtime.network
                elif self._is_given:
                    raise ModelError("an embedder that was given has no patches: rank by another method")
                else:
                    network = Network.load(
                        self._checkpoint("features"),
                        "features",
                        device=settings.device,
                        precision=settings.precision,
                    )
                self._patch_encoder = PatchEncoder(network)
            return self._patch_encoder

    def classifier(self) -> Classifier:
        """The network that labels images.

        Raises:
            ModelError: it cannot be loaded or has no labels.
        """
        with self._classifier_lock:
            if self._classifier is None:
                self._classifier = self._load_classifier()
            return self._classifier

    def choosing(self, labels: Sequence[str], templates: Sequence[str] = ()) -> Labeller:
        """What chooses from these labels: the text tower of the model that labels pictures, or part of its head.

        Args:
            labels, templates: see :class:`~imagesearch.search.labels.LabelOptions`.

        Raises:
            UsageError: the model does not know one of them; names the nearest that it knows.
            ModelError: it cannot be loaded, or neither encodes texts nor has labels.
        """
        from imagesearch.models.candidates import ChosenLabels, Logits, ZeroShotClassifier
        from imagesearch.models.runtimes.selection import open_embedder

        settings, checkpoint = self._config.model, self._labels_by_text()
        name = settings.classifier or settings.name
        if checkpoint is not None:
            embedder = self.embedder() if name == settings.name else open_embedder(checkpoint, self._options)
            return ZeroShotClassifier(embedder, Logits.of(checkpoint), labels, templates)
        if templates:
            raise UsageError(f"templates are sentences, which {name} does not understand: leave them out")
        return ChosenLabels(self.classifier(), labels, name)

    def optimize_for_choice(self, images: int, progress: Progress = no_progress) -> None:
        """Call :meth:`optimize_for` for what :meth:`choosing` uses, where it is the configured model's."""
        settings = self._config.model
        if self._labels_by_text() is None:
            self.optimize_for(images, "labels", progress)
        elif settings.classifier in (None, settings.name):
            self.optimize_for(images, "features", progress)

    def _labels_by_text(self) -> Checkpoint | None:
        """The checkpoint that labels pictures, if it takes any words as labels."""
        from imagesearch.models.candidates import labels_by_text

        settings = self._config.model
        name = settings.classifier or settings.name
        if name in catalogue.PRESETS and not catalogue.PRESETS[name].text:
            return None
        revision = settings.revision if name == settings.name else None
        checkpoint = find_checkpoint(catalogue.features_checkpoint(name), revision)
        return checkpoint if labels_by_text(checkpoint) else None

    def embedder_for(self, images: int, progress: Progress = no_progress) -> Encoder:
        """Like :meth:`embedder`, optimised for this machine first where so many images make that worthwhile."""
        self.optimize_for(images, "features", progress)
        return self.embedder()

    def optimize_for(self, images: int, task: Task, progress: Progress = no_progress) -> None:
        """Call :meth:`optimize` where encoding so many images makes it worthwhile.

        What goes wrong is logged: without a graph, PyTorch does the work.
        """
        from imagesearch.models.runtimes.selection import worth_optimizing

        if self._is_given and task == "features":
            return
        checkpoint = self._checkpoint(task)
        try:
            if worth_optimizing(checkpoint, images):
                self.optimize(task, progress)
        except ModelError as error:
            _log.warning("%s; PyTorch goes on", error)

    def optimize(self, task: Task, progress: Progress = no_progress) -> bool:
        """Make the graphs that are missing on this machine and use them: see :func:`selection.optimize`.

        Returns:
            Whether there is a graph that is better than PyTorch; never for an embedder that was given.

        Raises:
            ModelError: the network cannot be loaded, or a graph did not come about for a reason that may be gone
                the next time.
        """
        from imagesearch.models.runtimes.selection import optimize

        if self._is_given and task == "features":
            return False
        checkpoint, pooling = self._checkpoint(task), self._config.model.pooling
        with self._optimizing:
            if not optimize(checkpoint, task, self._options, pooling=pooling, progress=progress):
                return False
            self._replace(task)
        return True

    def _replace(self, task: Task) -> None:
        """Load a network again that PyTorch runs, now that there is a graph; its memory is free afterwards."""
        from imagesearch.models.embedder import Embedder
        from imagesearch.models.runtimes.torch import TorchRuntime
        from imagesearch.models.tuning import release_memory

        if task == "features":
            with self._patches_lock:  # it may hold the network that is replaced
                self._patch_encoder = None
            with self._embedder_lock:
                if isinstance(self._embedder, Embedder) and isinstance(self._embedder.runtime, TorchRuntime):
                    self._embedder = self._load_embedder()
        else:
            with self._classifier_lock:
                if self._classifier is not None and isinstance(self._classifier.runtime, TorchRuntime):
                    self._classifier = self._load_classifier()
        release_memory()

    def fingerprint(self, there: Fingerprint | None) -> Fingerprint:
        """The configured model's: the collection's, if it was made with the same checkpoint, else the network's.

        So a library in which nothing has changed is refreshed without loading the network.

        Args:
            there: the collection's; None if there is no collection.
        """
        if there is None or self._embedder is not None:
            return self.embedder().fingerprint
        settings = self._config.model
        checkpoint = self._checkpoint("features")
        same = (
            there.revision in (checkpoint.revision, *checkpoint.earlier_revisions)
            and there.normalized == settings.normalize
            and settings.pooling in ("auto", there.pooling)
            and settings.embedding_dim in (None, there.dim)
        )
        return there if same else self.embedder().fingerprint

    def words(self, texts: Sequence[str], fingerprint: Fingerprint) -> list[WordQuery]:
        """What texts mean to the configured model: by its text tower, or by the labels of its classification head.

        The network for pictures is not loaded for it.

        Args:
            texts: one or more.
            fingerprint: of the collection that is searched, which is the configured model's (:meth:`fingerprint`,
                :func:`~imagesearch.stores.base.require_same_model`).

        Returns:
            One query per text, in their order.

        Raises:
            UsageError: a text is empty, or the model does not know it; names the nearest words that it knows.
            ModelError: the model has neither a text tower nor a head that says where its labels lie.
        """
        from imagesearch.models.pooling import TEXT_SPACE
        from imagesearch.models.words import words_by_head, words_by_text_tower

        if self._is_given:
            return words_by_text_tower(self.embedder().encode_texts, texts, normalized=fingerprint.normalized)
        if fingerprint.pooling == TEXT_SPACE:
            encode = self._text_embedder(fingerprint).encode
            return words_by_text_tower(encode, texts, normalized=fingerprint.normalized)
        return words_by_head(self._open_head(fingerprint.pooling), texts)

    def known_words(self) -> tuple[str, ...] | None:
        """The labels by whose names pictures can be searched; None for a model that understands free text.

        Raises:
            ModelError: see :meth:`words`.
        """
        from imagesearch.models.text import claims_text_tower

        pooling, preset = self._config.model.pooling, catalogue.PRESETS.get(self._config.model.name)
        if pooling in ("auto", "pooler"):
            known = preset.text if preset else claims_text_tower(self._checkpoint("features"))
            if known:
                return None
        return self._open_head(pooling).labels

    def label_axes(self, fingerprint: Fingerprint) -> NDArray[np.float64] | None:
        """What rankings compare pictures by, besides vectors: :func:`imagesearch.models.label_axes.label_axes`.

        None where the model's own head is not linear, or has too few labels (``Head.can_rank``). Found out once
        per checkpoint and machine, which runs its networks; the bundled model's is known.

        Args:
            fingerprint: of the collection that is searched.

        Returns:
            float64, shape (axes, dim).
        """
        pooling = fingerprint.pooling
        with self._axes_lock:
            if pooling not in self._label_axes:
                self._label_axes[pooling] = None if self._is_given else self._find_label_axes(pooling)
            return self._label_axes[pooling]

    def _find_label_axes(self, pooling: str) -> NDArray[np.float64] | None:
        from imagesearch.models.inspection import claims_labels
        from imagesearch.models.label_axes import label_axes

        try:
            if claims_labels(self._checkpoint("features")) and (head := self._open_head(pooling)).can_rank:
                return label_axes(head, self._checkpoint("features").revision)
        except ModelError as error:
            _log.debug("rankings cannot look at labels: %s", error)
        return None

    def has_labels(self) -> bool:
        """Whether pictures can be labelled, as far as is known without loading a network.

        Raises:
            ModelError: the checkpoint is not there or cannot be read.
        """
        from imagesearch.models.inspection import claims_labels

        settings = self._config.model
        labels = catalogue.labels_checkpoint(settings.name, settings.classifier)
        if labels is None or labels != catalogue.features_checkpoint(settings.name):
            return labels is not None  # one that was chosen for its labels
        return claims_labels(self._checkpoint("labels"))

    def _text_embedder(self, fingerprint: Fingerprint) -> TextEmbedder:
        from imagesearch.models.runtimes.selection import open_text_embedder

        with self._words_lock:
            if self._texts is None:
                self._texts = open_text_embedder(self._checkpoint("features"), fingerprint, self._options)
            return self._texts

    def _open_head(self, pooling: str) -> Head:
        from imagesearch.models.heads import no_words, open_head

        name = self._config.model.name
        labels = catalogue.labels_checkpoint(name, None)
        if labels not in (None, catalogue.features_checkpoint(name)):
            raise ModelError(no_words(name, f"its labels come from another network ({labels}) than its vectors"))
        with self._words_lock:
            if pooling not in self._heads:
                self._heads[pooling] = open_head(self._checkpoint("features"), pooling)
            return self._heads[pooling]

    def _load_embedder(self) -> Embedder:
        from imagesearch.models.runtimes.selection import open_embedder

        settings = self._config.model
        embedder = open_embedder(
            self._checkpoint("features"),
            self._options,
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
        from imagesearch.models.runtimes.selection import open_classifier

        return open_classifier(self._checkpoint("labels"), self._options)

    def _checkpoint(self, task: Task) -> Checkpoint:
        settings = self._config.model
        features = catalogue.features_checkpoint(settings.name)
        if task == "features":
            return find_checkpoint(features, settings.revision)
        name = catalogue.labels_checkpoint(settings.name, settings.classifier)
        if name is None:
            raise ModelError(
                f"{settings.classifier or settings.name} does not label pictures; set model.classifier (--model of"
                " 'imagesearch classify'), for example to 'vit', or name the labels to choose from (--labels)"
            )
        return find_checkpoint(name, settings.revision if name == features else None)

    @property
    def _options(self) -> RuntimeOptions:
        from imagesearch.models.runtimes.base import RuntimeOptions

        settings = self._config.model
        return RuntimeOptions(settings.device, settings.precision, settings.runtime)
