"""What a picture goes through before a network sees it, on the device and for a whole batch at once.

Geometry is a function of (picture, view) alone, so that teachers and student see the same crop; what the student
sees beside that (mirror, tilt, colours, blur, noise) the teachers' answers must not depend on, which is how the
student learns to ignore it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from training.recipe import Recipe


def crops(indices: torch.Tensor, views: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """Crop windows of pictures' views as (centre x, centre y, half width, half height) in [-1, 1]: shape (n, 4).

    View 0 is the whole picture.
    """
    uniform = [_hash(indices, views, recipe.seed + salt) for salt in range(4)]
    area = recipe.min_area + (1 - recipe.min_area) * uniform[0]
    ratio = torch.exp((uniform[1] - 0.5) * 2 * math.log(4 / 3) / 2)
    width, height = (area.sqrt() * ratio).clamp(max=1), (area.sqrt() / ratio).clamp(max=1)
    whole = views == 0
    width, height = width.masked_fill(whole, 1.0), height.masked_fill(whole, 1.0)
    x, y = (1 - width) * (2 * uniform[2] - 1), (1 - height) * (2 * uniform[3] - 1)
    return torch.stack([x, y, width, height], dim=1)


def cut(
    images: torch.Tensor,
    windows: torch.Tensor,
    size: int,
    tilt: torch.Tensor | None = None,
    mirror: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cut windows out of uint8 pictures and scale them: float, shape (n, 3, size, size), 0 to 1.

    Args:
        images: uint8, shape (n, 3, h, w).
        windows: of :func:`crops`.
        tilt: radians, shape (n,).
        mirror: -1 or 1, shape (n,).
    """
    x, y, width, height = windows.unbind(1)
    tilt = torch.zeros_like(x) if tilt is None else tilt
    mirror = torch.ones_like(x) if mirror is None else mirror
    cos, sin = tilt.cos(), tilt.sin()
    theta = torch.stack(
        [
            torch.stack([width * cos * mirror, -width * sin, x], dim=1),
            torch.stack([height * sin * mirror, height * cos, y], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(
        images.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def student_view(
    images: torch.Tensor, windows: torch.Tensor, recipe: Recipe, generator: torch.Generator
) -> torch.Tensor:
    """The same windows as the teachers saw, then mirrored, tilted, recoloured, blurred and noisy at random."""
    n, device = len(images), images.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(n, generator=generator, device=device) * (high - low) + low

    def sometimes(probability: float) -> torch.Tensor:
        return (uniform(0, 1) < probability).float()

    mirror = 1 - 2 * sometimes(0.5)
    tilt = uniform(-0.3, 0.3) * sometimes(0.25)
    x = cut(images, windows, recipe.size, tilt, mirror)

    def column(values: torch.Tensor) -> torch.Tensor:
        return values.view(n, 1, 1, 1)

    x = _blurred(x, column(sometimes(0.15)), column(uniform(0.4, 1.4)))
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * column(uniform(0.6, 1.4) * (1 - sometimes(0.05)))
    middle = x.mean((1, 2, 3), keepdim=True)
    x = (x - middle) * column(uniform(0.65, 1.35)) + middle * column(uniform(0.7, 1.3))
    noise = torch.randn(x.shape, generator=generator, device=device)
    x = x + noise * column(uniform(0.01, 0.08) * sometimes(0.2))
    return x.clamp(0, 1)


def normalise(x: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Subtract the mean and divide by the deviation of each channel."""
    return (x - x.new_tensor(mean).view(1, 3, 1, 1)) / x.new_tensor(std).view(1, 3, 1, 1)


def _blurred(x: torch.Tensor, chosen: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A 5-tap Gaussian of its own width for every picture, where chosen."""
    offsets = torch.arange(-2, 3, device=x.device).view(1, 1, 1, 5)
    taps = torch.exp(-(offsets**2) / (2 * sigma**2))
    taps = (taps / taps.sum(-1, keepdim=True)).view(len(x), 5)
    padded = F.pad(x, (2, 2, 0, 0), mode="reflect")
    nothing = x.new_zeros(())
    rows = sum((taps[:, i].view(-1, 1, 1, 1) * padded[..., i : i + x.shape[3]] for i in range(5)), start=nothing)
    padded = F.pad(rows, (0, 0, 2, 2), mode="reflect")
    blurred = sum(
        (taps[:, i].view(-1, 1, 1, 1) * padded[:, :, i : i + x.shape[2]] for i in range(5)), start=nothing
    )
    return torch.lerp(x, blurred, chosen)


def _hash(indices: torch.Tensor, views: torch.Tensor, salt: int) -> torch.Tensor:
    """A uniform number in [0, 1) that depends on nothing but its arguments, on any device (xorshift-multiply)."""
    x = (indices.long() * 1_000_003 + views.long() * 7_919 + salt * 104_729) & 0x7FFFFFFF
    for _ in range(3):
        x = ((x ^ (x >> 15)) * 0x2C1B3C6D) & 0x7FFFFFFF
        x = ((x ^ (x >> 12)) * 0x297A2D39) & 0x7FFFFFFF
    return x.double().div(2**31).float()
