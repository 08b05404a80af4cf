"""Load checkpoints, for training or as a :class:`Network` for inference; the only importer of ``transformers``."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.devices import choose_device, choose_precision, inference
from imagesearch.models.hub import Checkpoint, first_line
from imagesearch.models.inspection import require_plausible
from imagesearch.models.preprocessing import (
    PillowPreprocessor,
    Pixels,
    Preprocessor,
    read_preprocessor,
    without_ends,
)
from imagesearch.models.tuning import normalises_batches, tune_for_inference

if TYPE_CHECKING:
    import torch
    from PIL import Image

Task = Literal["features", "labels"]

# Transformers loads under process-wide settings (default dtype, verbosity), and imports its parts when they are
# first used, which fails in a second thread: one load at a time.
_loading = threading.Lock()

# Without the latter it asks on the terminal whether to run code that lies beside the weights.
_FROM_DISK: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A Transformers model as its checkpoint has it: float32 on the CPU, nothing frozen, folded or cast.

    Attributes:
        checkpoint: where it came from.
        task: what it was loaded for.
        model: the Transformers model, in evaluation mode; its parameters can be trained.
        config: the checkpoint's Transformers configuration.
        missing: names of parameters that the checkpoint did not have; Transformers filled them with
            random numbers, so nothing that depends on them may be used.
    """

    checkpoint: Checkpoint
    task: Task
    model: Any
    config: Any
    missing: frozenset[str]


def load_model(checkpoint: Checkpoint, task: Task, **settings: Any) -> LoadedModel:
    """Load a checkpoint's weights.

    Args:
        task: ``"features"`` for the backbone, ``"labels"`` for the network with its classification head.
        settings: in place of those of its ``config.json``; see :mod:`imagesearch.models.new_head`.

    Raises:
        ModelError: the files are damaged, or the architecture does not do this.
    """
    import torch

    require_plausible(checkpoint)
    auto = _transformers("AutoModel" if task == "features" else "AutoModelForImageClassification")
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                checkpoint.folder, dtype=torch.float32, output_loading_info=True, **_FROM_DISK, **settings
            )
    except ImportError as error:
        extra = " (pip install timm)" if "timm" in str(error).lower() else ""
        raise ModelError(f"{_place(checkpoint)}: {first_line(error)}{extra}") from error
    except Exception as error:
        raise ModelError(f"{_place(checkpoint)}: cannot be loaded: {_reason(error, task)}") from error
    if not hasattr(model, "get_image_features") and "pixel_values" not in signature(model.forward).parameters:
        raise ModelError(f"{_place(checkpoint)}: cannot be loaded: its architecture makes no vectors of pictures")
    return LoadedModel(checkpoint, task, model, model.config, frozenset(info["missing_keys"]))


def save_model(loaded: LoadedModel, folder: Path) -> None:
    """Write weights and configuration as Transformers does.

    Raises:
        OSError: the folder cannot be written.
    """
    from safetensors import SafetensorError

    try:
        with _quiet():
            loaded.model.save_pretrained(folder)
    except SafetensorError as error:  # among others, its own kind of OSError
        raise OSError(first_line(error)) from error


def load_text_tower(checkpoint: Checkpoint) -> LoadedModel | None:
    """Load the text tower of a checkpoint with two towers, and nothing else: weights for images are not read.

    (But those of a pickle, ``pytorch_model.bin``, which can only be read as a whole; they are dropped at once.)

    Returns:
        Its ``config`` is that of the whole checkpoint. None if Transformers has no class for the text tower with
        its projection alone; for CLIP, SigLIP and their kin it has.

    Raises:
        ModelError: the files are damaged.
    """
    import torch

    require_plausible(checkpoint)
    try:
        with _quiet():
            config = _imported("AutoConfig").from_pretrained(checkpoint.folder, **_FROM_DISK)
            tower = _text_class(config)
            if tower is None:
                return None
            settings = config.text_config
            if hasattr(config, "projection_dim"):  # CLIP says it twice, and only this one counts for both towers
                settings.projection_dim = config.projection_dim
            model, info = tower.from_pretrained(
                checkpoint.folder, config=settings, dtype=torch.float32, output_loading_info=True, **_FROM_DISK
            )
    except Exception as error:
        raise ModelError(f"{_place(checkpoint)}: cannot be loaded: {_reason(error, 'features')}") from error
    if any("text" in name for name in info["unexpected_keys"]):  # a projection that is the whole network's
        return None
    return LoadedModel(checkpoint, "features", model, config, frozenset(info["missing_keys"]))


def _text_class(config: Any) -> Any:
    """The class of Transformers for the text tower of a network with two, None if it has none."""
    mapping = _imported("MODEL_MAPPING")
    if not hasattr(config, "text_config") or type(config) not in mapping:
        return None
    stem = mapping[type(config)].__name__.removesuffix("Model")
    classes = (_imported(f"{stem}{ending}") for ending in ("TextModelWithProjection", "TextModel"))
    return next(filter(None, classes), None)


def _reason(error: Exception, task: Task) -> str:
    """What Transformers has to say, in a line that makes sense without what it logs."""
    line = first_line(error)
    if "Unrecognized configuration class" in line:
        return f"its architecture {'makes no vectors' if task == 'features' else 'does not label pictures'}"
    if "custom code" in line:
        return "it needs code of its own that lies beside the weights, and such code is not run"
    if "ignore_mismatched_sizes" in line:
        return "its weights do not have the shapes that config.json says"
    return line


class Network:
    """A vision model in PyTorch, for inference only: frozen, tuned, cast, on its device, with its preprocessing.

    Attributes:
        checkpoint: where it came from.
        task: what it was loaded for.
        model: the Transformers model.
        config: the checkpoint's Transformers configuration.
        missing: see :class:`LoadedModel`.
        device, dtype: where and in which precision it runs.
        preprocessor: how images become its input.
    """

    def __init__(self, loaded: LoadedModel, *, device: str = "auto", precision: str = "auto") -> None:
        """Take over a loaded model, which is changed in place and cannot be trained afterwards.

        Args:
            device: the setting ``model.device``.
            precision: the setting ``model.precision``.

        Raises:
            ModelError: the device is not there, or the checkpoint has no usable image processor.
        """
        import torch

        self.checkpoint, self.task = loaded.checkpoint, loaded.task
        self.config, self.missing = loaded.config, loaded.missing
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        if precision == "auto" and normalises_batches(loaded.model):
            self.dtype = torch.float32
        self.preprocessor = find_preprocessor(loaded.checkpoint)
        model = loaded.model.eval().requires_grad_(False)
        tune_for_inference(model, self.device, self.preprocessor.input_size)
        self.model = model.to(device=self.device, dtype=self.dtype)
        self._torch = torch
        self._affine: tuple[torch.Tensor, torch.Tensor] | None = None
        if isinstance(self.preprocessor, PillowPreprocessor):
            scale, shift = torch.tensor([self.preprocessor.scale, self.preprocessor.shift], device=self.device)
            self._affine = scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)

    @classmethod
    def load(cls, checkpoint: Checkpoint, task: Task, *, device: str = "auto", precision: str = "auto") -> Network:
        """Load a checkpoint for inference.

        Raises:
            ModelError: the files are damaged or no vision model, or the device is not there.
        """
        choose_device(device)  # before gigabytes are read for nothing
        return cls(load_model(checkpoint, task), device=device, precision=precision)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees."""
        return self.preprocessor.input_size

    @property
    def blank(self) -> Pixels:
        """A black image, preprocessed."""
        from PIL import Image

        return self.preprocess(Image.new("RGB", self.input_size[::-1]))

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: see :class:`Preprocessor`."""
        return self.preprocessor.preprocess(image)

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Inference without gradients; running out of the device's memory becomes an error that says what to do.

        Raises:
            ModelError: the device's memory does not hold the batch, or the checkpoint's files do not fit together.
        """
        with inference(self.device, self.checkpoint):
            yield

    def stack(self, batch: Sequence[Pixels]) -> torch.Tensor:
        """Preprocessed images as one normalised tensor, shape (n, 3, height, width), on the network's device."""
        return self.normalise(self._transfer(batch))

    def _transfer(self, batch: Sequence[Pixels]) -> torch.Tensor:
        """Preprocessed images, as they are, on the device."""
        if not self.device.startswith("cuda"):
            return self._torch.from_numpy(np.stack(batch)).to(self.device)
        # Page-locked memory is copied without waiting for it; PyTorch keeps it for the next batch, and does not
        # hand it out again before the copy has ended.
        kind = self._torch.uint8 if batch[0].dtype == np.uint8 else self._torch.float32
        staging = self._torch.empty((len(batch), *batch[0].shape), dtype=kind, pin_memory=True)
        np.stack(batch, out=staging.numpy())
        return staging.to(self.device, non_blocking=True)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the model takes, of the network's dtype, made of what :meth:`preprocess` returns.

        Args:
            pixels: on the device; uint8, shape (n, height, width, 3), or as Transformers preprocessed it.
        """
        if self._affine is None:
            return pixels.to(self.dtype)
        scale, shift = self._affine
        # Channels last in memory, as convolutions like it; float32 until the end, as bfloat16 has 8 bits.
        return (pixels.permute(0, 3, 1, 2).to(self._torch.float32) * scale + shift).to(self.dtype)


def find_preprocessor(checkpoint: Checkpoint) -> Preprocessor:
    """The checkpoint's preprocessing: our own where its settings are understood, else Transformers'.

    Raises:
        ModelError: the checkpoint has no usable image processor.
    """
    require_plausible(checkpoint)
    return read_preprocessor(checkpoint.folder) or TransformersPreprocessor(checkpoint)


class TransformersPreprocessor:
    """Preprocesses images with the checkpoint's image processor in Transformers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load the processor.

        Raises:
            ModelError: there is none, or it does not make images of one size.
        """
        self._name = checkpoint.name
        self._processor = _load_processor(checkpoint)
        self.input_size: tuple[int, int] = self._process(np.zeros((32, 32, 3), np.uint8)).shape[1:]

    @property
    def target_size(self) -> None:
        """Unknown: a processor may look at details of any size."""
        return None

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        """An upright RGB picture as float32, shape (3, height, width), normalised. Thread-safe."""
        size = getattr(self._processor, "size", None) or {}
        pixels = self._process(without_ends(image) if dict(size).get("shortest_edge") else image)
        if pixels.shape[1:] != self.input_size:
            raise ModelError(
                f"{self._name}: its image processor makes {pixels.shape[1:]} pixels of one picture and"
                f" {self.input_size} of another; use a checkpoint with a fixed resolution"
            )
        return pixels

    def _process(self, image: Any) -> NDArray[np.float32]:
        try:
            made = self._processor(images=image, return_tensors="np", input_data_format=None)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self._name}: its image processor fails: {first_line(error)}") from error
        pixels = made.get("pixel_values")  # ImageGPT's makes words of colours instead
        if np.ndim(pixels) != 4:
            raise ModelError(
                f"{self._name}: its image processor gives an array of shape {np.shape(pixels)}, not one"
                " picture of fixed size; use a checkpoint with a fixed resolution"
            )
        return np.asarray(pixels[0], dtype=np.float32)


def _load_processor(checkpoint: Checkpoint) -> Any:
    auto = _transformers("AutoImageProcessor")
    try:
        with _quiet():
            # Pillow's resize everywhere: torchvision's differs in the last digits, and so would vectors
            # from two machines.
            return auto.from_pretrained(checkpoint.folder, backend="pil", **_FROM_DISK)
    except Exception as error:
        raise ModelError(f"{_place(checkpoint)}: cannot load its image processor: {first_line(error)}") from error


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The checkpoint's tokenizer for texts, of Transformers.

    Raises:
        ModelError: its files are absent or damaged.
    """
    require_plausible(checkpoint)
    auto = _transformers("AutoTokenizer")
    try:
        with _quiet():
            return auto.from_pretrained(checkpoint.folder, **_FROM_DISK)
    except Exception as error:
        raise ModelError(f"{_place(checkpoint)}: cannot load its tokenizer: {first_line(error)}") from error


def _place(checkpoint: Checkpoint) -> str:
    folder = Path(checkpoint.folder)
    return f"{checkpoint.name} ({folder})" if checkpoint.name != str(folder) else checkpoint.name


def _transformers(name: str) -> Any:
    """A class of Transformers."""
    with _loading:
        return _imported(name)


def _imported(name: str) -> Any:
    """A class of Transformers, None if there is none of this name; for those who hold the lock."""
    import transformers

    return getattr(transformers, name, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Transformers' progress bars and remarks off the terminal while it loads; it is as before afterwards."""
    with _loading, quiet_transformers():
        yield


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """The same for what is long, while others may load."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    wanted = os.environ.get("TRANSFORMERS_VERBOSITY")
    if wanted is None:
        transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
