"""What makes a network in PyTorch faster without changing its results.

:func:`tune_for_inference` changes the network only. What changes the whole process is done only once its owner has
called :func:`keep_freed_memory`: the command line does, a program that imports this package need not.
"""

from __future__ import annotations

import gc
import itertools
import logging
import sys
import threading
import weakref
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ctypes

    import torch

_log = logging.getLogger(__name__)

# <malloc.h> of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# glibc before 2.35 refuses a threshold of more than 32 MiB; activations of a batch are often larger.
_THRESHOLDS = (2**30, 2**25)
# What the thresholds grow to by themselves where nobody sets them.
_USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD = 2**25, 2**26

# Networks that PyTorch runs on the CPU, and whether glibc may be tuned for them: see keep_freed_memory.
_on_cpu: weakref.WeakSet[Any] = weakref.WeakSet()
_may_tune_process = threading.Event()

# Folding rounds differently, no more: a larger relative change is a pair that does not belong together.
_ROUNDING = 1e-3


def normalises_batches(model: Any) -> bool:
    """Whether rounding is likely to add up: MobileNetV2's vectors in bfloat16 have a cosine of only 0.96 to 0.99.

    Networks with batch normalisation scale by factors that were tuned in float32; those with layer
    normalisation (transformers, ConvNeXt) stay above 0.999.
    """
    import torch

    return any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules())


def tune_for_inference(model: Any, device: str, input_size: tuple[int, int]) -> None:
    """Tune a float32 network in evaluation mode, in place, before it moves to its device.

    Args:
        device: where it will run.
        input_size: height and width in pixels of an image to try it on.
    """
    import torch

    _hide_nothing(model)
    if device == "cpu":
        _on_cpu.add(model)
        if _may_tune_process.is_set():
            _raise_thresholds()
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    if convolutions > 1:  # a transformer has one, to cut patches
        _fold_batch_norms(model, input_size)
        # Convolutions on CPUs and tensor cores compute in this order; otherwise each one reorders.
        model.to(memory_format=torch.channels_last)


def _hide_nothing(model: Any) -> None:
    """Let masked autoencoders (ViT-MAE) see the whole picture: they hide 75 % of it at random in evaluation, too.

    The encoder saw parts while it was trained, and is meant to be used on all patches (He et al. 2022, section 3).
    """
    if getattr(getattr(model, "config", None), "model_type", None) == "vit_mae":
        model.embeddings.random_masking = _whole


def _whole(
    sequence: torch.Tensor,
    noise: torch.Tensor | None = None,  # noqa: ARG001 - as the method has it
) -> tuple[torch.Tensor, None, None]:
    """In place of ``random_masking``: all patches in their order, without a mask and the way back from it."""
    return sequence, None, None


def keep_freed_memory() -> None:
    """Let glibc keep the memory of large activations, for as long as PyTorch runs a network on the CPU.

    For the owner of the process (a front end), as it changes how the whole process allocates: by default glibc
    returns such memory after every layer, and the kernel must clear all pages again for the next one, which takes
    about half of MobileNetV2's time. While any network is loaded, ``mallopt`` thresholds are raised to 1 GiB, so
    freed memory of up to that size stays with the process. Without networks, or without glibc, nothing changes.
    """
    _may_tune_process.set()
    if _on_cpu:
        _raise_thresholds()


def release_memory() -> None:
    """Collect networks that are not used any more; call it after replacing one.

    After :func:`keep_freed_memory`, free memory goes back to the system, too, and once no network is left that
    PyTorch runs on the CPU, the thresholds go back to their usual values: otherwise the memory of large images
    would be kept like that of activations, a gigabyte more.
    """
    gc.collect()
    if _may_tune_process.is_set() and (library := _c_library()) is not None:
        if not _on_cpu:
            _set_thresholds(library, _USUAL_MMAP_THRESHOLD, _USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)


def _raise_thresholds() -> None:
    library = _c_library()
    if library is None:
        _log.debug("not glibc: large activations are mapped again for every layer")
    elif not any(_set_thresholds(library, size, size) for size in _THRESHOLDS):
        _log.debug("mallopt refused: large activations are mapped again for every layer")


@lru_cache(maxsize=1)
def _c_library() -> ctypes.CDLL | None:
    """The C library if it is glibc, whose memory can be tuned."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        library = ctypes.CDLL(None)
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def _set_thresholds(library: ctypes.CDLL, mapped: int, trimmed: int) -> bool:
    """Allocations from ``mapped`` bytes on get pages of their own; free ends of ``trimmed`` bytes go back."""
    return bool(library.mallopt(_M_MMAP_THRESHOLD, mapped) and library.mallopt(_M_TRIM_THRESHOLD, trimmed))


def _fold_batch_norms(model: Any, input_size: tuple[int, int]) -> None:
    """Multiply the weights of convolutions by the factors of the normalisation after them.

    A normalisation registered right behind a convolution nearly always follows it in the computation too; where
    the result for a random picture says otherwise, everything is put back.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = [
        (parent, first, second)
        for parent in model.modules()
        for (first, one), (second, two) in itertools.pairwise(parent.named_children())
        if isinstance(one, torch.nn.Conv2d) and isinstance(two, torch.nn.BatchNorm2d)
    ]
    picture = torch.rand(1, 3, *input_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if not pairs or (before := _outcome(model, picture)) is None:
        return
    originals = [(parent, name, getattr(parent, name)) for parent, *names in pairs for name in names]
    for parent, first, second in pairs:
        setattr(parent, first, fuse_conv_bn_eval(getattr(parent, first), getattr(parent, second)))
        setattr(parent, second, torch.nn.Identity())
    after = _outcome(model, picture)
    if after is None or bool((after - before).norm() > _ROUNDING * before.norm()):
        _log.debug("batch normalisation does not follow the convolutions here: left as it is")
        for parent, name, module in originals:
            setattr(parent, name, module)


def _outcome(model: Any, picture: torch.Tensor) -> torch.Tensor | None:
    """The network's first output for a picture, None if it wants more than a picture, or one of another kind."""
    import torch

    if hasattr(model, "get_image_features"):
        return None  # it wants texts as well; and such towers with batch normalisation are rare
    with torch.inference_mode():
        try:
            output: torch.Tensor | tuple[torch.Tensor, ...] = model(pixel_values=picture)[0]
        except (RuntimeError, ValueError):
            return None  # whoever runs it on pictures says what is wrong with it: network.inference
    return output[-1] if isinstance(output, tuple) else output  # a backbone's feature maps
