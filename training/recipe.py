"""Every number of the recipe in one place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the starter model is trained.

    Attributes:
        embedding_size, hidden_sizes, depths: the network, a Transformers ResNet of basic blocks. Three stages
            instead of four leave a 4x4 map at 64 pixels (four leave 2x2), at the first version's cost.
        size: pixels, height = width, that the network sees.
        epochs: passes over the training pictures.
        batch: pictures a step.
        lr: peak learning rate of SGD with Nesterov momentum; linear warm-up, then a cosine to zero.
        warmup: share of all steps.
        momentum, weight_decay: of SGD; no decay on biases and batch norm.
        ema: decay a step of the averaged weights, which are what is shipped.
        views: crops of each picture that the teachers have seen; the student meets one of them a visit
            (a consistent teacher: Beyer et al. 2022, arXiv:2106.05237).
        min_area: smallest crop, as a share of the picture.
        label_weight: cross-entropy with the labels.
        tuned_weight, temperature: divergence from the tuned teacher's 200 logits (Hinton et al. 2015).
        embedding_weight: one minus cosine to the first teacher's centred embedding, through a linear head that
            is thrown away afterwards.
        concept_weight: divergence from the first teacher's 1,000 classes, through the same head and the
            teacher's own classifier (Yang et al. 2021, "Softmax Representation").
        relation_weight, relation_temperature: divergence between the teacher's and the student's similarities
            of the pictures of a batch (Fang et al. 2021, "SEED"): this shapes the cosine that search uses.
        tune_epochs, tune_lr, tune_size: how the second teacher is made of the first: all weights, on the labels.
        teacher_size: pixels that the first teacher sees.
        seed: of everything random.
    """

    embedding_size: int = 32
    hidden_sizes: tuple[int, ...] = (32, 96, 320)
    depths: tuple[int, ...] = (2, 3, 3)
    size: int = 64
    epochs: int = 150
    batch: int = 1024
    lr: float = 0.8
    warmup: float = 0.04
    momentum: float = 0.9
    weight_decay: float = 2e-4
    ema: float = 0.999
    views: int = 8
    min_area: float = 0.3
    label_weight: float = 0.4
    tuned_weight: float = 1.0
    temperature: float = 2.0
    embedding_weight: float = 2.0
    concept_weight: float = 0.3
    relation_weight: float = 1.0
    relation_temperature: float = 0.1
    tune_epochs: int = 6
    tune_lr: float = 3e-4
    tune_size: int = 160
    teacher_size: int = 224
    seed: int = 7

    def replace(self, **changes: object) -> Recipe:
        """A copy with some numbers changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]
