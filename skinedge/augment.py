"""Batched, label-safe augmentation: one affine warp and one colour change per image, on any device.

All randomness comes from the generator that is handed in, so a step can be repeated exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from skinedge.config import AugmentSettings

if TYPE_CHECKING:
    import torch


def augment(images: torch.Tensor, settings: AugmentSettings, generator: torch.Generator) -> torch.Tensor:
    """images: (N, S, S, 3) uint8; returns (N, 3, S, S) float32 in 0..255."""
    import torch
    from torch.nn import functional

    count = images.shape[0]
    # Random numbers are drawn on the CPU, so that a GPU run sees the same augmentations.
    draw = torch.rand((10, count), generator=generator).to(images.device)
    pixels = images.permute(0, 3, 1, 2).float()
    theta = affine(draw[:6], settings)
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    warped = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    tint = torch.rand((count, 3), generator=generator).to(images.device)
    return colour(warped, draw[6:], tint, settings)


def affine(draw: torch.Tensor, settings: AugmentSettings) -> torch.Tensor:
    """Output-to-input affine maps for `grid_sample`.

    draw: (6, N) uniform in 0..1; returns (N, 2, 3): rotation and flip, zoom with a slight stretch, shift.
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
    """Brightness, contrast, saturation and a tint per channel.

    pixels: (N, 3, S, S) float32 in 0..255; draw: (>= 3, N) and tint: (N, 3), uniform in 0..1.
    """

    def factor(values: torch.Tensor, most: float) -> torch.Tensor:
        return 1 + most * (2 * values - 1)

    bright = (factor(draw[0], settings.brightness)[:, None] * factor(tint, settings.tint))[:, :, None, None]
    contrast = factor(draw[1], settings.contrast)[:, None, None, None]
    saturation = factor(draw[2], settings.saturation)[:, None, None, None]
    grey = pixels.mean(dim=1, keepdim=True)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    mixed = grey + saturation * (pixels - grey)
    return ((mean + contrast * (mixed - mean)) * bright).clamp(0, 255)
