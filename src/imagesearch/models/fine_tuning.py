"""Training a network further on labelled pictures, by Transformers' Trainer: the last block, LoRA, or everything.

The Trainer brings mixed precision, checkpoints, resuming and seeds. What is ours: pictures are read and
preprocessed as everywhere in this program, and augmented; the head begins as the linear probe (Kumar et al.,
"Fine-tuning can distort pretrained features and underperform out-of-distribution", 2022); statistics of batch
normalisation stay as they are, as batches of few pictures have bad ones; a loss that is no number ends it all.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.devices import choose_device
from imagesearch.models.network import LoadedModel, find_preprocessor
from imagesearch.models.new_head import find_head
from imagesearch.models.objectives import PROXY_LOSSES, Loss, Score, SearchedVectors, class_means, is_for_retrieval
from imagesearch.models.preprocessing import PillowPreprocessor, Pixels
from imagesearch.models.processes import Team
from imagesearch.models.trainer import Method, Plan, run
from imagesearch.records import Progress, no_progress

if TYPE_CHECKING:
    from PIL import Image

# A picture that was read: where from, and upright, in RGB.
Reader = Callable[[str], "Image.Image"]

_LORA_RANK, _LORA_ALPHA, _LORA_DROPOUT = 8, 16, 0.05
# Augmentation: the least part of a picture that is cut out, and how far brightness and contrast go.
_LEAST_AREA, _JITTER = 0.5, 0.2
# Pictures that a network is run on at once.
_AT_ONCE = 64


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """Pictures to train or validate with.

    Attributes:
        paths: n files.
        targets: float32, shape (n, classes): 1 for each label that a picture has.
        importance: weight of each picture in the loss, shape (n,); None: 1.
    """

    paths: Sequence[str]
    targets: NDArray[np.float32]
    importance: NDArray[np.float32] | None = None

    @property
    def codes(self) -> NDArray[np.int64]:
        """The number of each picture's class, int64, shape (n,)."""
        return np.asarray(self.targets.argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What became of a training.

    Attributes:
        loaded: the network, with the weights of the best epoch; LoRA's additions are part of them.
        trained: how many weights were trained.
        epochs: how many were finished.
        history: for each epoch training loss, validation loss and accuracy; or training loss and ``mAP``.
        stopped: why it ended early, or empty.
        at_once: how many pictures of a batch memory held at once.
    """

    loaded: LoadedModel
    trained: int
    epochs: int
    history: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""
    at_once: int = 0


def require_packages(method: Method, loss: Loss = "cross-entropy") -> None:
    """Make sure that what the method and the loss need is installed.

    Raises:
        ModelError: says what to install.
    """
    needed = ["accelerate"]
    if method == "lora":
        needed.append("peft")
    if is_for_retrieval(loss):
        needed.append("pytorch-metric-learning")
    if missing := [name for name in needed if importlib.util.find_spec(name.replace("-", "_")) is None]:
        raise ModelError(f"fine-tuning needs other packages: pip install {' '.join(missing)}")


def fine_tune(
    loaded: LoadedModel,
    examples: tuple[Examples, Examples],
    read: Reader,
    folder: Path,
    plan: Plan,
    *,
    device: str = "auto",
    progress: Progress = no_progress,
    score: Score | None = None,
    team: Team | None = None,
) -> Tuned:
    """Train a network; the weights of the epoch with the least validation loss, or the highest score, count.

    Args:
        loaded: from :func:`~imagesearch.models.new_head.load_with_new_head`, its head set; changed in place.
        examples: to train with and to validate with, of which none is a copy of one of the others.
        read: reads a picture.
        folder: for checkpoints, one per epoch; where it holds some of an interrupted run with the same arguments,
            that run goes on.
        plan: how.
        device: the setting ``model.device``.
        progress: told of the stage ``"train"``: steps.
        score: for a loss for retrieval: how good vectors of pictures to validate with are, given their classes.
        team: the processes that train together, all of which call this with the same arguments.

    Raises:
        ModelError: a package is missing, the network has no blocks, the loss was no number in the first epoch, or
            a checkpoint cannot be written.
        PictureError: a picture cannot be read any more.
    """
    require_packages(plan.method, plan.loss)
    model = loaded.model
    proxies = _proxies(loaded, examples[0], read, plan, device)
    _seed(plan.seed)
    _choose_weights(loaded, plan.method, learns_head=not plan.is_for_retrieval)
    _freeze_statistics(model)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    training, validation = (_Pictures(loaded, part, read, plan.seed) for part in examples)
    training.augments = True
    done = run(
        loaded,
        (training, validation),
        folder,
        plan,
        device=choose_device(device),
        progress=progress,
        score=score,
        proxies=proxies,
        team=team,
    )
    if plan.method == "lora":
        _merge_lora(model)
    model.eval().requires_grad_(True)
    return Tuned(loaded, trained, len(done.history), done.history, done.stopped, done.at_once)


def _proxies(
    loaded: LoadedModel, training: Examples, read: Reader, plan: Plan, device: str
) -> NDArray[np.float32] | None:
    """Where a loss's vectors of classes begin: where the network sees the classes now."""
    if plan.loss not in PROXY_LOSSES:
        return None
    vectors = run_network(loaded, training.paths, read, device=device, pooling=plan.pooling).vectors
    assert vectors is not None
    return class_means(vectors, training.codes, training.targets.shape[1])


def _seed(seed: int) -> None:
    """Of new weights and dropout."""
    import torch

    torch.manual_seed(seed)


def _choose_weights(loaded: LoadedModel, method: Method, *, learns_head: bool) -> None:
    """Let only the method's weights be trained, and the head, or all but the head."""
    model, (name, head) = loaded.model, find_head(loaded)
    model.requires_grad_(method == "full")
    if method == "lora":
        _add_lora(model, name)
    elif method == "last":
        for module in _from_last_block(loaded):
            module.requires_grad_(True)
    head.requires_grad_(learns_head)


def _from_last_block(loaded: LoadedModel) -> Iterator[Any]:
    """The last block, and the modules after it.

    Raises:
        ModelError: the network is no sequence of blocks.
    """
    import torch

    named = list(loaded.model.named_modules())
    sequences = [
        (name, module) for name, module in named if isinstance(module, torch.nn.ModuleList) and len(module) > 1
    ]
    outer = [
        (name, module)
        for name, module in sequences
        if not any(name.startswith(f"{other}.") for other, _ in sequences)
    ]
    if not outer:
        raise ModelError(f"{loaded.checkpoint.name}: its network is no sequence of blocks; choose lora or full")
    name, blocks = outer[-1]
    last = f"{name}.{len(blocks) - 1}"
    yield blocks[-1]
    names = [one for one, _ in named]
    after = max(place for place, one in enumerate(names) if one == last or one.startswith(f"{last}."))
    yield from (module for _, module in named[after + 1 :])


def _add_lora(model: Any, head: str) -> None:
    """Put low-rank additions beside all linear layers and convolutions but the head."""
    import torch
    from peft import LoraConfig, inject_adapter_in_model

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, kinds) and name != head and getattr(module, "groups", 1) == 1
    ]
    config = LoraConfig(r=_LORA_RANK, lora_alpha=_LORA_ALPHA, lora_dropout=_LORA_DROPOUT, target_modules=targets)
    inject_adapter_in_model(config, model)


def _merge_lora(model: Any) -> None:
    """Make the additions part of the weights, so that an ordinary network is left."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def _freeze_statistics(model: Any) -> None:
    """Keep batch normalisation as in evaluation, whatever mode the network is in."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
            vars(module)["train"] = partial(_unmoved, module)


def _unmoved(module: Any, mode: bool = True) -> Any:  # noqa: ARG001 - a module's train() takes it
    return module


class _Pictures:
    """A data set for the Trainer: pixels as the network takes them, and targets.

    Attributes:
        augments: whether pictures are cut, mirrored, and changed in brightness and contrast, otherwise each epoch.
        epoch: which one it is.
    """

    def __init__(self, loaded: LoadedModel, examples: Examples, read: Reader, seed: int) -> None:
        self._examples, self._read, self._seed = examples, read, seed
        self._preprocessor = find_preprocessor(loaded.checkpoint)
        self.augments, self.epoch = False, 0

    @property
    def codes(self) -> NDArray[np.int64]:
        """The number of each picture's class, shape (n,)."""
        return self._examples.codes

    @property
    def is_balanced(self) -> bool:
        """Whether rare classes count as much as frequent ones."""
        return self._examples.importance is not None

    def __len__(self) -> int:
        return len(self._examples.paths)

    def __getitem__(self, place: int) -> Mapping[str, NDArray[np.float32]]:
        image = self._read(self._examples.paths[place])
        if self.augments:
            # By place and epoch alone, so that a run that goes on sees what an unbroken one would have seen.
            image = augmented(image, np.random.default_rng((self._seed, self.epoch, place)))
        importance = self._examples.importance
        return {
            "pixel_values": self._normalised(self._preprocessor.preprocess(image)),
            "labels": self._examples.targets[place],
            "importance": np.array(1 if importance is None else importance[place], np.float32),
        }

    def _normalised(self, pixels: Pixels) -> NDArray[np.float32]:
        """float32, shape (3, height, width)."""
        if not isinstance(self._preprocessor, PillowPreprocessor):
            return np.asarray(pixels, np.float32)
        scale, shift = (
            np.array(part, np.float32) for part in (self._preprocessor.scale, self._preprocessor.shift)
        )
        return np.ascontiguousarray((pixels * scale + shift).transpose(2, 0, 1), np.float32)


def augmented(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of a picture, perhaps mirrored, a little brighter or darker, with a little more or less contrast."""
    from PIL import ImageEnhance, ImageOps

    area = random.uniform(_LEAST_AREA, 1)
    shape = math.exp(random.uniform(-0.25, 0.25))
    width = min(image.width, max(1, round(image.width * math.sqrt(area) * shape)))
    height = min(image.height, max(1, round(image.height * math.sqrt(area) / shape)))
    left = int(random.integers(0, image.width - width + 1))
    top = int(random.integers(0, image.height - height + 1))
    image = image.crop((left, top, left + width, top + height))
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    brightness, contrast = random.uniform(1 - _JITTER, 1 + _JITTER, 2)
    return ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(brightness)).enhance(contrast)


@dataclass(frozen=True, eq=False, slots=True)
class Outputs:
    """What a network gives of n pictures as they are.

    Attributes:
        logits: float32, shape (n, classes).
        inputs: what its head is given, float32, shape (n, dim of the head).
        vectors: what is searched, float32, shape (n, dim), of any length; None if nobody asked for them.
    """

    logits: NDArray[np.float32]
    inputs: NDArray[np.float32]
    vectors: NDArray[np.float32] | None


def run_network(
    loaded: LoadedModel, paths: Sequence[str], read: Reader, *, device: str = "auto", pooling: str | None = None
) -> Outputs:
    """Run a network with a head on pictures, in evaluation mode and float32.

    Args:
        pooling: the setting ``model.pooling``: how the vectors that are searched are made; None: they are not.

    Raises:
        ModelError: the network's vectors cannot be told from its head.
        PictureError: a picture cannot be read.
    """
    import torch

    pictures = _Pictures(loaded, Examples(paths, np.zeros((len(paths), 1), np.float32)), read, 0)
    where = choose_device(device)
    _, head = find_head(loaded)
    given: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].float().cpu()))
    searched = None if pooling is None else SearchedVectors(loaded, pooling)
    logits, vectors = [], []
    model = loaded.model.eval().to(where)
    try:
        with torch.inference_mode():
            for start in range(0, len(paths), _AT_ONCE):
                places = range(start, min(start + _AT_ONCE, len(paths)))
                batch = np.stack([pictures[place]["pixel_values"] for place in places])
                logits.append(model(pixel_values=torch.from_numpy(batch).to(where)).logits.float().cpu())
                if searched is not None:
                    vectors.append(searched.take().float().cpu())
    finally:
        handle.remove()
        if searched is not None:
            searched.close()
        model.to("cpu")
    return Outputs(
        torch.cat(logits).numpy(), torch.cat(given).numpy(), torch.cat(vectors).numpy() if vectors else None
    )
