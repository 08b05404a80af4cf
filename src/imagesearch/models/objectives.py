"""What fine-tuning minimises: losses for labels, and losses for the vectors that are searched.

Those for retrieval act on the pooled vectors, scaled to unit length; the head takes no part. They come from
``pytorch-metric-learning``, with the constants of their papers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.network import LoadedModel
from imagesearch.models.pooling import has_class_token, pool, unit_vectors

if TYPE_CHECKING:
    import torch

Loss = Literal["cross-entropy", "contrastive", "arcface", "proxy-anchor"]
LOSSES: tuple[Loss, ...] = ("cross-entropy", "contrastive", "arcface", "proxy-anchor")
# How good vectors, shape (n, dim), are for pictures of these classes, shape (n,): more is better.
Score = Callable[[NDArray[np.float32], NDArray[np.int64]], float]
# With a vector per class that is trained along: how large its steps are, compared with the network's (Kim et al.).
PROXY_LOSSES: tuple[Loss, ...] = ("arcface", "proxy-anchor")
PROXY_RATE = 100
# Supervised contrastive: Khosla et al. 2020. ArcFace: Deng et al. 2019. Proxy-anchor: Kim et al. 2020.
_TEMPERATURE = 0.07
_ARC_DEGREES, _ARC_SCALE = 28.6, 64
_ANCHOR_MARGIN, _ANCHOR_SCALE = 0.1, 32
# How far proxies begin from the means of their classes: where a vector is its proxy, ArcFace has no derivative.
_APART = 0.1


class NoNumberError(Exception):
    """The loss is no number.

    Attributes:
        step: where.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss was no number at step {step}")
        self.step = step


def is_for_retrieval(loss: Loss) -> bool:
    """Whether a loss acts on vectors, not on labels."""
    return loss != "cross-entropy"


def label_losses(logits: torch.Tensor, targets: torch.Tensor, *, several: bool) -> torch.Tensor:
    """Cross-entropy of each picture, shape (n,); with several labels the sum over labels of the binary one.

    Args:
        logits, targets: shape (n, classes).
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    if several:
        return binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return cross_entropy(logits, targets, reduction="none")


class SearchedVectors:
    """Takes from a network with a classification head the vectors that searches with it will use."""

    def __init__(self, loaded: LoadedModel, pooling: str = "auto") -> None:
        """Watch the network.

        Args:
            loaded: from :func:`~imagesearch.models.new_head.load_with_new_head`.
            pooling: the setting ``model.pooling``.

        Raises:
            ModelError: its parts before the head cannot be told from the head.
        """
        backbone = loaded.model.base_model
        if backbone is loaded.model:
            raise ModelError(f"{loaded.checkpoint.name}: the vectors of its network cannot be trained")
        self._name, self._pooling = loaded.checkpoint.name, pooling
        self._has_class_token = has_class_token(backbone)
        self._seen: list[Any] = []
        self._handle = backbone.register_forward_hook(self._remember)

    def _remember(self, _: Any, __: Any, output: Any) -> None:
        self._seen[:] = [output]

    def take(self) -> torch.Tensor:
        """The vectors of the pictures that the network saw last, shape (n, dim), of any length.

        Raises:
            ModelError: it does not give what the pooling needs.
        """
        output, pooling = self._seen.pop(), self._pooling
        if (
            pooling == "auto"
        ):  # as choose_pooling() does for what is written: without weights that a head has no use for
            has_pooler = getattr(output, "pooler_output", None) is not None
            pooling = "pooler" if has_pooler else "cls" if self._has_class_token else "mean"
        return pool(output, pooling, self._name)

    def close(self) -> None:
        """Leave the network alone."""
        self._handle.remove()


def class_means(vectors: NDArray[np.float32], codes: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Where proxies begin: the mean direction of each class, from what all have in common, a little aside.

    Args:
        vectors: shape (n, dim).
        codes: their classes, shape (n,), each from 0 to count - 1.

    Returns:
        float32, shape (count, dim), rows of about unit length.
    """
    sums = np.zeros((count, vectors.shape[1]), np.float32)
    np.add.at(sums, codes, unit_vectors(vectors))
    # What networks end with is often positive, so that all vectors lie near one direction; proxies that do so too
    # push all pictures away.
    means = unit_vectors(sums)
    means = unit_vectors(means - means.mean(axis=0))
    aside = np.random.default_rng(count).standard_normal(sums.shape).astype(np.float32)
    return np.asarray(means + _APART * unit_vectors(aside), np.float32)


def _make_loss(loss: Loss, proxies: NDArray[np.float32] | None) -> Any:
    """The loss of vectors, shape (n, dim), and codes of their classes, shape (n,), as a module."""
    import torch
    from pytorch_metric_learning import losses

    if proxies is None:
        return losses.SupConLoss(temperature=_TEMPERATURE)
    count, dim = proxies.shape
    made: Any
    if loss == "arcface":
        made = losses.ArcFaceLoss(count, dim, margin=_ARC_DEGREES, scale=_ARC_SCALE)
        weights, values = made.W, proxies.T
    else:
        made = losses.ProxyAnchorLoss(count, dim, margin=_ANCHOR_MARGIN, alpha=_ANCHOR_SCALE)
        weights, values = made.proxies, proxies
    with torch.no_grad():
        weights.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    return made


def make_learner(
    loaded: LoadedModel,
    loss: Loss,
    *,
    pooling: str,
    proxies: NDArray[np.float32] | None,
    gather: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    """A module of the network and the loss: the loss of a batch in training, otherwise its vectors.

    Args:
        loaded: the network; its head is not trained.
        proxies: where those of the loss begin; None for losses that have none.
        gather: rows of all processes, given those of this one.

    Returns:
        Called with pixels and codes of classes. Its ``at_once`` is how many pictures' activations are kept in
        memory; those of the others are computed a second time (Chen et al., "Training deep nets with sublinear
        memory cost", 2016), so that the loss still compares all pictures of the batch.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    class _Learner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = loaded.model
            self.loss = _make_loss(loss, proxies)
            self.at_once: int | None = None
            self.searched = SearchedVectors(loaded, pooling)

        def _vectors(self, pixels: torch.Tensor) -> torch.Tensor:
            self.network(pixel_values=pixels)
            return self.searched.take().float()

        def forward(self, pixel_values: torch.Tensor, codes: torch.Tensor | None = None) -> torch.Tensor:
            parts = torch.split(pixel_values, self.at_once or len(pixel_values))
            if len(parts) > 1 and torch.is_grad_enabled():
                found = [checkpoint(self._vectors, part, use_reentrant=False) for part in parts]
            else:
                found = [self._vectors(part) for part in parts]
            vectors = torch.cat(found)
            if codes is None:
                return vectors
            # Without autocast: differences between angles are small.
            with torch.autocast(vectors.device.type, enabled=False):
                measured: torch.Tensor = self.loss(gather(vectors), gather(codes))
            return measured

    return _Learner()
