"""Augmentation: repeatable, label-preserving, and equal to the single changes in sequence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skinedge.run.config import AugmentSettings
from skinedge.training.augment import augment, colour

OFF = AugmentSettings(
    flip=False,
    rotate=False,
    scale=1.0,
    shift=0.0,
    stretch=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    tint=0.0,
)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))


def test_with_all_changes_disabled_the_pixels_stay(images: torch.Tensor) -> None:
    out = augment(images, OFF, torch.Generator().manual_seed(0))
    torch.testing.assert_close(out, images.permute(0, 3, 1, 2).float(), rtol=0, atol=2e-2)


def test_the_result_depends_only_on_the_generator(images: torch.Tensor) -> None:
    first = augment(images, AugmentSettings(), torch.Generator().manual_seed(1))
    repeated = augment(images, AugmentSettings(), torch.Generator().manual_seed(1))
    other = augment(images, AugmentSettings(), torch.Generator().manual_seed(2))
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)
    assert first.shape == (6, 3, 32, 32) and first.min() >= 0 and first.max() <= 255


def test_a_flip_mirrors_the_image(images: torch.Tensor) -> None:
    out = augment(images, replace(OFF, flip=True), torch.Generator().manual_seed(0))
    plain = images.permute(0, 3, 1, 2).float()
    same = [torch.allclose(out[i], plain[i], atol=2e-2) for i in range(6)]
    mirrored = [torch.allclose(out[i], plain[i].flip(-1), atol=2e-2) for i in range(6)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert any(same) and any(mirrored)


def test_grey_stays_grey_without_tint() -> None:
    grey = torch.full((4, 16, 16, 3), 90, dtype=torch.uint8)
    out = augment(grey, replace(AugmentSettings(), tint=0.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(out[:, 0], out[:, 2], rtol=0, atol=1e-3)


def test_the_colour_matrix_equals_the_four_changes_in_sequence() -> None:
    """Oracle: saturation around each pixel's grey, contrast around the image's mean, then brightness and tint."""
    generator = torch.Generator().manual_seed(0)
    pixels = 255 * torch.rand(4, 3, 9, 9, generator=generator)
    draws, tints = torch.rand(3, 4, generator=generator), torch.rand(4, 3, generator=generator)
    settings = AugmentSettings(brightness=0.5, contrast=0.4, saturation=0.6, tint=0.3)
    recoloured = colour(pixels, draws, tints, settings)
    for i in range(4):
        bright, contrast, saturation = (
            1 + largest * (2 * float(value) - 1) for largest, value in zip((0.5, 0.4, 0.6), draws[:, i], strict=True)
        )
        grey = pixels[i].mean(dim=0)
        mixed = grey + saturation * (pixels[i] - grey)
        mixed = mixed.mean() + contrast * (mixed - mixed.mean())
        expected = mixed * bright * (1 + 0.3 * (2 * tints[i] - 1))[:, None, None]
        torch.testing.assert_close(recoloured[i], expected.clamp(0, 255), rtol=1e-4, atol=1e-2)
