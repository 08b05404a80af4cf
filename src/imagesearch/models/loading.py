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
from imagesearch.models.devices import choose_device, choose_precision
from imagesearch.models.hub import Checkpoint
from imagesearch.models.preparing import Pixels, Preparation, Preparer, read_preparation, without_ends
from imagesearch.models.quickening import normalises_batches, quicken

if TYPE_CHECKING:
    import torch
    from PIL import Image

Task = Literal["features", "labels"]


class Network:
    """A vision model in PyTorch on its device, with the preparation of pictures that belongs to it.

    Attributes:
        checkpoint: where it came from.
        task: what it was loaded for.
        model: the Transformers model, for inference only.
        config: the checkpoint's Transformers configuration.
        missing: names of parameters that the checkpoint did not have; Transformers filled them with
            random numbers, so nothing that depends on them may be used.
        device, dtype: where and in which precision it runs.
        preparer: how pictures become its input.
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
        self.task = task
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self.preparer = find_preparer(checkpoint)
        model, self.missing = _load_model(checkpoint, task)
        self.config = model.config
        if precision == "auto" and normalises_batches(model):
            self.dtype = torch.float32
        model.eval().requires_grad_(False)
        quicken(model, self.device, self.preparer.input_size)
        self.model = model.to(device=self.device, dtype=self.dtype)
        self._torch = torch
        self._affine: tuple[torch.Tensor, torch.Tensor] | None = None
        if isinstance(self.preparer, Preparation):
            scale, shift = torch.tensor([self.preparer.scale, self.preparer.shift], device=self.device)
            self._affine = scale.view(1, 3, 1, 1), shift.view(1, 3, 1, 1)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees."""
        return self.preparer.input_size

    @property
    def blank(self) -> Pixels:
        """A black picture, prepared."""
        from PIL import Image

        return self.prepare(Image.new("RGB", self.input_size[::-1]))

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: see :class:`Preparer`."""
        return self.preparer.prepare(image)

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
        """Prepared pictures as one normalised tensor of shape (n, 3, height, width) on the network's device."""
        return self.normalise(self._transfer(batch))

    def _transfer(self, batch: Sequence[Pixels]) -> torch.Tensor:
        """Prepared pictures, as they are, on the device."""
        if not self.device.startswith("cuda"):
            return self._torch.from_numpy(np.stack(batch)).to(self.device)
        # Page-locked memory is copied without waiting for it; PyTorch keeps it for the next batch, and does not
        # hand it out again before the copy has ended.
        kind = self._torch.uint8 if batch[0].dtype == np.uint8 else self._torch.float32
        staging = self._torch.empty((len(batch), *batch[0].shape), dtype=kind, pin_memory=True)
        np.stack(batch, out=staging.numpy())
        return staging.to(self.device, non_blocking=True)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the model takes, made of what :meth:`prepare` makes, on the device.

        Args:
            pixels: uint8, shape (n, height, width, 3), or as Transformers prepared it.
        """
        if self._affine is None:
            return pixels.to(self.dtype)
        scale, shift = self._affine
        # Channels last in memory, as convolutions like it; float32 until the end, as bfloat16 has 8 bits.
        return (pixels.permute(0, 3, 1, 2).to(self._torch.float32) * scale + shift).to(self.dtype)


def find_preparer(checkpoint: Checkpoint) -> Preparer:
    """The checkpoint's preparation of pictures: our own where it is understood, else Transformers'.

    Raises:
        ModelError: the checkpoint has no usable image processor.
    """
    return read_preparation(checkpoint.folder) or TransformersPreparer(checkpoint)


class TransformersPreparer:
    """Prepares pictures with the checkpoint's image processor in Transformers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Load the processor.

        Raises:
            ModelError: there is none, or it does not give pictures of one size.
        """
        self._name = checkpoint.name
        self._processor = _load_processor(checkpoint)
        self.input_size: tuple[int, int] = self._process(np.zeros((32, 32, 3), np.uint8)).shape[1:]

    @property
    def target_size(self) -> None:
        """Unknown: a processor may look at details of any size."""
        return None

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
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
        pixels = self._processor(images=image, return_tensors="np", input_data_format=None)["pixel_values"]
        if np.ndim(pixels) != 4:
            raise ModelError(
                f"{self._name}: its image processor gives an array of shape {np.shape(pixels)}, not one"
                " picture of fixed size; use a checkpoint with a fixed resolution"
            )
        return np.asarray(pixels[0], dtype=np.float32)


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
