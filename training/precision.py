"""bfloat16 where the hardware multiplies it, else float32: the same rule as the program's ``precision: auto``."""

from __future__ import annotations

import torch

from imagesearch.models.devices import choose_precision


def mixed(device: torch.device) -> torch.autocast:
    """A context in which matrix products run in the device's best precision."""
    dtype = choose_precision("auto", device.type)
    return torch.autocast(device.type, dtype, enabled=dtype is not torch.float32)
