"""The network that is trained, what it is trained to do, and how it leaves as a Hugging Face folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from training.recipe import Recipe
from training.teachers import Lessons

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def build(recipe: Recipe, names: list[str], wnids: list[str]) -> Any:
    """A Transformers ResNet classifier with random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    labels = dict(enumerate(names))
    config = ResNetConfig(
        embedding_size=recipe.embedding_size,
        hidden_sizes=list(recipe.hidden_sizes),
        depths=list(recipe.depths),
        layer_type="basic",
        id2label=labels,
        label2id={name: label for label, name in labels.items()},
    )
    config.wnids = wnids
    return ResNetForImageClassification(config)


class Student(torch.nn.Module):
    """The classifier, with the linear head that meets the teacher's embedding during training."""

    def __init__(self, recipe: Recipe, names: list[str], wnids: list[str], teacher_dim: int) -> None:
        super().__init__()
        self.network = build(recipe, names, wnids)
        self.to_teacher = torch.nn.Linear(recipe.hidden_sizes[-1], teacher_dim)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Vectors (n, dim), logits (n, 200) and guesses of the teacher's embedding (n, teacher_dim)."""
        vectors = self.network.resnet(x).pooler_output.flatten(1)
        return vectors, self.network.classifier(vectors), self.to_teacher(vectors)


def losses(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    labels: torch.Tensor,
    embeddings: torch.Tensor,
    tuned: torch.Tensor,
    lessons: Lessons,
    recipe: Recipe,
) -> dict[str, torch.Tensor]:
    """The weighted terms of the loss: see :class:`Recipe` for what each one is."""
    vectors, logits, guesses = (output.float() for output in outputs)
    goal = embeddings.float()
    t = recipe.temperature
    concepts = F.linear(goal, lessons.concepts_weight, lessons.concepts_bias)
    guessed = F.linear(guesses + lessons.centre, lessons.concepts_weight, lessons.concepts_bias)
    centred = goal - lessons.centre
    return {
        "label": recipe.label_weight * F.cross_entropy(logits, labels),
        "tuned": recipe.tuned_weight * t**2 * _divergence(logits / t, tuned.float() / t),
        "embedding": recipe.embedding_weight * (1 - F.cosine_similarity(guesses, centred)).mean(),
        "concept": recipe.concept_weight * _divergence(guessed, concepts),
        "relation": recipe.relation_weight * _divergence(_relations(vectors, recipe), _relations(centred, recipe)),
    }


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of row-wise softmaxes, from logits."""
    return F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="batchmean")


def _relations(vectors: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Cosines of every picture of the batch to all others, over a temperature: shape (n, n - 1)."""
    unit = F.normalize(vectors, dim=1)
    n = len(unit)
    cosines = unit @ unit.T / recipe.relation_temperature
    return cosines.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def export(
    state: dict[str, torch.Tensor], recipe: Recipe, names: list[str], wnids: list[str], folder: Path
) -> None:
    """Write the network (not the throw-away head) as float16 with its picture processor's settings."""
    network = build(recipe, names, wnids)
    own = {key.removeprefix("network."): value for key, value in state.items() if key.startswith("network.")}
    network.load_state_dict(own)
    copy.deepcopy(network).half().save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": recipe.size, "width": recipe.size},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=1) + "\n", encoding="utf-8")
