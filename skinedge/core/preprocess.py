"""The one preprocessing rule: EXIF rotation, RGB, shorter side to S, centre crop S x S.

Whatever runs a model (training's validation, calibration, parity, bench, predict) calls `prepare`;
the exported graph takes the prepared pixels and normalizes them itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core import json_io
from skinedge.core.errors import DataError

Pixels = NDArray[np.uint8]
# The centre square of anything longer shows next to nothing of it, and resizing it first could fill the memory.
LONGEST = 20
LARGEST = 4096  # pixels, the longest side of an input


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the model's input.

    size: S, side of the square input in pixels.
    mean, std: per-channel (R, G, B) normalization in units of 0..255, applied inside the graph.
    resize, crop: the names of the rule; one is known today, and a reader refuses any other.
    """

    size: int
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    resize: str = "shorter-side-bilinear-antialias"
    crop: str = "centre"

    def __post_init__(self) -> None:
        if (
            not 1 <= self.size <= LARGEST
            or not all(math.isfinite(value) for value in self.mean)
            or not all(0 < value < math.inf for value in self.std)
        ):
            raise DataError(f"impossible preprocessing rule: size {self.size}, mean {self.mean}, std {self.std}")
        if (self.resize, self.crop) != (Preprocess.resize, Preprocess.crop):
            raise DataError(f"unknown preprocessing rule '{self.resize}' with crop '{self.crop}'")

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Preprocess:
        """Read the manifest's form; raises DataError on one that is malformed or that this version does not know."""
        missing = sorted({"size", "mean", "std", "resize", "crop"} - set(raw))
        if missing:
            raise DataError(f"preprocessing rule without the keys {missing}")
        return json_io.build(raw, cls, "preprocessing rule", error=DataError)


def refuse_strip(height: int, width: int) -> None:
    """Raises: DataError for an image more than LONGEST times as long as wide."""
    if max(height, width) > LONGEST * min(height, width):
        raise DataError(f"image of {width} x {height} pixels is more than {LONGEST} times as long as wide")


def prepare(pixels: Pixels, size: int) -> Pixels:
    """Resize the shorter side to `size` and cut the centre square.

    Bilinear with antialiasing (a triangle filter scaled by the reduction, half-pixel centres), each
    pass rounded to uint8, as Pillow's `Image.resize` does it.

    pixels: (H, W, 3) uint8; returns (size, size, 3) uint8.
    Raises: DataError for a strip more than LONGEST times as long as wide.
    """
    height, width = pixels.shape[:2]
    refuse_strip(height, width)
    short = min(height, width)
    new_height, new_width = ((side * size + short // 2) // short for side in (height, width))
    image = Image.fromarray(pixels)
    if (new_height, new_width) != (height, width):
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8)
