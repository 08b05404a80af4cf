"""Load a checkpoint into a runnable network; the only importer of ``transformers``."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.hub import Checkpoint

if TYPE_CHECKING:
    import torch
    from PIL import Image

Pixels = NDArray[np.float32]
# Long side to short side; processors that crop keep less than 2 : 1 of it.
_LONGEST_STRIP = 20

Task = Literal["features", "labels"]


class Network:
    """A vision model on its device, with the image processor that belongs to it.

    Attributes:
        checkpoint: where it came from.
        config: the checkpoint's Transformers configuration.
        missing: names of parameters that the checkpoint did not have; Transformers filled them with
            random numbers, so nothing that depends on them may be used.
        device, dtype: where and in which precision it runs.
        input_size: height and width in pixels of what the network sees.
    """

    def __init__(
        self, checkpoint: Checkpoint, task: Task, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        """Load the weights.

        Raises:
            ModelError: the files are damaged or no vision model, or the device is not there.
        """
        import torch

        self.checkpoint = checkpoint
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self._processor = _load_processor(checkpoint)
        model, self.missing = _load_model(checkpoint, task)
        self.config = model.config
        if precision == "auto" and _normalises_batches(model):
            self.dtype = torch.float32
        self.model = model.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        blank = np.zeros((32, 32, 3), np.uint8)
        self.input_size: tuple[int, int] = self._process(blank).shape[1:]
        self._torch = torch

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: float32, shape (3, height, width). Thread-safe."""
        pixels = self._process(self._without_ends(image))
        if pixels.shape[1:] != self.input_size:
            raise ModelError(
                f"{self.checkpoint.name}: its image processor makes {pixels.shape[1:]} pixels of one picture and"
                f" {self.input_size} of another; use a checkpoint with a fixed resolution"
            )
        return pixels

    def _without_ends(self, image: Image.Image) -> Image.Image:
        """A long strip without the ends that the processor's centre crop would cut off anyway.

        Scaled by its short side first, as many processors do, 1 x 5,000 pixels would take gigabytes.
        """
        size = getattr(self._processor, "size", None) or {}
        if not dict(size).get("shortest_edge"):
            return image
        width, height = image.size
        longest = _LONGEST_STRIP * min(width, height)
        left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
        return image.crop((left, top, width - left, height - top)) if left or top else image

    def _process(self, image: Any) -> Pixels:
        pixels = self._processor(images=image, return_tensors="np", input_data_format=None)["pixel_values"]
        if np.ndim(pixels) != 4:
            raise ModelError(
                f"{self.checkpoint.name}: its image processor gives an array of shape {np.shape(pixels)}, not one"
                " picture of fixed size; use a checkpoint with a fixed resolution"
            )
        return np.asarray(pixels[0], dtype=np.float32)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Inference without gradients; running out of the device's memory becomes an error that says what to do.

        Raises:
            ModelError: the device's memory does not hold the batch.
        """
        with self._torch.inference_mode():
            try:
                yield
            except self._torch.OutOfMemoryError as error:
                raise ModelError(
                    f"{self.device} has too little memory for this batch of {self.checkpoint.name}: lower"
                    " extraction.batch_size (--batch-size)"
                ) from error

    def stack(self, batch: Sequence[Pixels]) -> torch.Tensor:
        """Prepared pictures as one tensor of shape (n, 3, height, width) on the network's device."""
        return self._torch.from_numpy(np.stack(batch)).to(device=self.device, dtype=self.dtype)


def choose_device(wanted: str) -> str:
    """Resolve ``model.device``: ``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ModelError: a device was named that PyTorch does not see.
    """
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = wanted.partition(":")
    if (kind == "cuda" and (not cuda or int(number or 0) >= torch.cuda.device_count())) or (
        kind == "mps" and not mps
    ):
        seen = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + ["mps"] * mps + ["cpu"]
        raise ModelError(
            f"model.device = {wanted!r}, but PyTorch {torch.__version__} sees only: {', '.join(seen)}"
        )
    return wanted


def choose_precision(wanted: str, device: str) -> torch.dtype:
    """Resolve ``model.precision``: ``auto`` is bfloat16 where the hardware multiplies it, else float32.

    Without AMX or AVX512-BF16 a CPU emulates bfloat16 and is slower with it.
    """
    import torch

    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device == "cpu" and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    import torch

    # Private, but there is no public question; an older or newer PyTorch without them gets float32.
    questions = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, question, bool)() for question in questions)


def _normalises_batches(model: Any) -> bool:
    """Whether rounding adds up: MobileNetV2's vectors in bfloat16 have a cosine of only 0.990 to the exact ones.

    Networks with batch normalisation scale by factors that were tuned in float32; those with layer
    normalisation (transformers, ConvNeXt) stay above 0.999.
    """
    import torch

    return any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())


def _load_processor(checkpoint: Checkpoint) -> Any:
    from transformers import AutoImageProcessor

    try:
        with _quiet():
            # Pillow's resize everywhere: torchvision's differs in the last digits, and so would vectors
            # from two machines.
            return AutoImageProcessor.from_pretrained(checkpoint.folder, local_files_only=True, backend="pil")
    except Exception as error:
        raise ModelError(f"{_place(checkpoint)}: cannot load its image processor: {_first_line(error)}") from error


def _load_model(checkpoint: Checkpoint, task: Task) -> tuple[Any, frozenset[str]]:
    import torch
    from transformers import AutoModel, AutoModelForImageClassification

    auto = AutoModel if task == "features" else AutoModelForImageClassification
    try:
        with _quiet():
            model, info = auto.from_pretrained(
                checkpoint.folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except ImportError as error:
        extra = " (pip install 'imagesearch[timm]')" if "timm" in str(error).lower() else ""
        raise ModelError(f"{_place(checkpoint)}: {_first_line(error)}{extra}") from error
    except Exception as error:
        what = "makes no vectors" if task == "features" else "does not label pictures"
        reason = _first_line(error)
        if "Unrecognized configuration class" in reason:
            reason = f"its architecture {what}"
        raise ModelError(f"{_place(checkpoint)}: cannot be loaded: {reason}") from error
    return model, frozenset(info["missing_keys"])


def _place(checkpoint: Checkpoint) -> str:
    folder = Path(checkpoint.folder)
    return f"{checkpoint.name} ({folder})" if checkpoint.name != str(folder) else checkpoint.name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Transformers' progress bars and remarks off the terminal while it loads."""
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


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
