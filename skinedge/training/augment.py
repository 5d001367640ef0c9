"""Batched augmentation that preserves labels: one affine warp and one colour change per image, on any device.

All randomness comes from the caller's generator, so a step can be repeated exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skinedge.run.config import AugmentSettings

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Draws:
    """The random numbers for a batch's augmentation, uniform in 0..1. maps: (10, N); tints: (N, 3); float32, CPU.

    Drawn on the CPU, so that a GPU sees the same augmentations, and for a whole batch: each process and each
    micro-batch uses its own rows.
    """

    maps: torch.Tensor
    tints: torch.Tensor

    def rows(self, images: slice) -> Draws:
        """Select the random numbers of some images of the batch."""
        return Draws(self.maps[:, images], self.tints[images])


def draw(count: int, generator: torch.Generator) -> Draws:
    """Draw the random numbers for `count` images."""
    import torch

    return Draws(torch.rand((10, count), generator=generator), torch.rand((count, 3), generator=generator))


def augment(images: torch.Tensor, settings: AugmentSettings, draws: torch.Generator | Draws) -> torch.Tensor:
    """Warp and recolour each image: (N, S, S, 3) uint8 -> (N, 3, S, S) float32 in 0..255.

    draws: random numbers of the N images, or a generator to draw them from.
    """
    from torch.nn import functional

    if not isinstance(draws, Draws):
        draws = draw(images.shape[0], draws)
    maps, tints = draws.maps.to(images.device), draws.tints.to(images.device)
    pixels = images.permute(0, 3, 1, 2).float()
    theta = affine(maps[:6], settings)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return colour(warped, maps[6:], tints, settings)


def affine(draw: torch.Tensor, settings: AugmentSettings) -> torch.Tensor:
    """Return the output-to-input affine maps for `affine_grid`, (N, 2, 3): rotation, flip, zoom, stretch and shift.

    draw: (6, N), uniform in 0..1.
    """
    import torch

    angle = 2 * math.pi * draw[0] if settings.rotate else torch.zeros_like(draw[0])
    flip = torch.where(draw[1] < 0.5, -1.0, 1.0) if settings.flip else torch.ones_like(draw[1])
    zoom = settings.scale + (1 - settings.scale) * draw[2]
    stretch = 1 + settings.stretch * (2 * draw[3] - 1)
    horizontal, vertical = zoom * stretch.sqrt() * flip, zoom / stretch.sqrt()
    cos, sin = angle.cos(), angle.sin()
    shift = settings.shift * (2 * draw[4:6] - 1) * 2  # grid coordinates span 2
    rows = [cos * horizontal, -sin * vertical, shift[0], sin * horizontal, cos * vertical, shift[1]]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def colour(pixels: torch.Tensor, draw: torch.Tensor, tint: torch.Tensor, settings: AugmentSettings) -> torch.Tensor:
    """Change brightness, contrast, saturation and tint, as one 3 x 3 matrix and one shift per image.

    pixels: (N, 3, S, S) float32 in 0..255; draw: (>= 3, N) and tint: (N, 3), uniform in 0..1.
    """
    import torch

    def factor(values: torch.Tensor, largest_change: float) -> torch.Tensor:
        return 1 + largest_change * (2 * values - 1)

    bright = factor(draw[0], settings.brightness)[:, None] * factor(tint, settings.tint)
    contrast = factor(draw[1], settings.contrast)[:, None]
    saturation = factor(draw[2], settings.saturation)[:, None, None]
    grey = pixels.new_full((3, 3), 1 / 3)
    mixing = grey + saturation * (torch.eye(3, device=pixels.device) - grey)
    mean = pixels.mean(dim=(1, 2, 3))[:, None]
    matrix = (bright * contrast)[:, :, None] * mixing
    shift = bright * (1 - contrast) * mean
    mixed = torch.baddbmm(shift[:, :, None], matrix, pixels.flatten(2))
    return mixed.view_as(pixels).clamp_(0, 255)
