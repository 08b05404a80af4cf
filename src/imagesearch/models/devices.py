"""Where PyTorch computes, in which precision and how much at once, and whether PyTorch has to be asked at all."""

from __future__ import annotations

import contextlib
import ctypes.util
import importlib.metadata
import math
import os
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagesearch.errors import ModelError
from imagesearch.models.hub import Checkpoint, first_line

if TYPE_CHECKING:
    import torch

# What the drivers of NVIDIA (also Jetson, and under WSL) and AMD leave in the file system.
_ACCELERATORS = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
# Pixels to run at once. On a CPU, activations should stay in its cache: MobileNetV2 at 224 x 224 pixels ran 1.1
# times as fast in batches of 16 as of 32, the bundled model at 64 x 64 pixels in batches of 128. A GPU wants to be
# kept busy.
_PIXELS_AT_ONCE = {"cpu": 16 * 224 * 224, "mps": 32 * 224 * 224, "cuda": 128 * 224 * 224}
_FEWEST, _MOST = 8, 256


def choose_device(wanted: str) -> str:
    """Resolve ``model.device``: ``auto`` is the first of CUDA, MPS and CPU that is there.

    Raises:
        ModelError: a device was named that PyTorch does not see.
    """
    if wanted == "cpu" or (wanted == "auto" and not _may_have_accelerator()):
        return "cpu"
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


def _may_have_accelerator() -> bool:
    """False only where PyTorch would surely answer "none"; importing it to ask takes seconds."""
    if importlib.metadata.version("torch").endswith("+cpu"):
        return False
    if sys.platform == "linux":
        return any(os.path.exists(path) for path in _ACCELERATORS)
    if sys.platform == "win32":
        return ctypes.util.find_library("nvcuda") is not None
    return platform.machine() == "arm64"


def batch_size(device: str, input_size: tuple[int, int]) -> int:
    """How many pictures to run at once: a power of two.

    Args:
        device: see :func:`choose_device`.
        input_size: height and width in pixels of each.

    Examples:
        >>> batch_size("cpu", (224, 224)), batch_size("cpu", (64, 64)), batch_size("cuda:1", (384, 384))
        (16, 128, 32)
    """
    height, width = input_size
    fitting = _PIXELS_AT_ONCE[device.partition(":")[0]] / (height * width)
    return int(min(max(2 ** int(math.log2(max(fitting, 1))), _FEWEST), _MOST))


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


@contextlib.contextmanager
def inference(device: str, checkpoint: Checkpoint) -> Iterator[None]:
    """Inference in PyTorch: see :meth:`Network.inference`."""
    import torch

    with torch.inference_mode():
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{device} has too little memory for this batch of {checkpoint.name}: lower"
                " extraction.batch_size (--batch-size)"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{checkpoint.name}: its network fails on what its processor makes: {first_line(error)}"
            ) from error
