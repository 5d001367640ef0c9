"""The preprocessing rule: EXIF rotation, sRGB, resize the shorter side to S, centre crop S x S.

Every command that runs a model (validation, calibration, parity, bench, predict) calls `prepare`;
the exported graph takes the prepared pixels and normalizes them itself.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core import json_io
from skinedge.core.colour import AS_STORED
from skinedge.core.colour import RULES as COLOURS
from skinedge.core.errors import DataError, one_of

Pixels = NDArray[np.uint8]
# Ratio of an image's sides. The centre square of a longer image shows almost none of it, and resizing it could exhaust
# the memory.
LONGEST = 20
LARGEST = 4096  # pixels: maximum side of an input
MAX_PIXELS = 8192 * 6144  # the largest photo of a "50 megapixel" camera; also in page/decode.js and PhotoFile.kt


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the model's input.

    size: S, side of the square input in pixels.
    mean, std: per-channel (R, G, B) normalization in units of 0..255, applied inside the graph.
    resize, crop: names of the methods; only the defaults exist, and any other is refused.
    colour: rule for embedded colour profiles (`skinedge.core.colour`); runs that do not state it ignore profiles.
    """

    size: int
    mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    resize: str = "shorter-side-bilinear-antialias"
    crop: str = "centre"
    colour: str = AS_STORED

    def __post_init__(self) -> None:
        if (
            not 1 <= self.size <= LARGEST
            or not all(math.isfinite(value) for value in self.mean)
            or not all(0 < value < math.inf for value in self.std)
        ):
            raise DataError(f"invalid preprocessing rule: size {self.size}, mean {self.mean}, std {self.std}")
        if (self.resize, self.crop) != (Preprocess.resize, Preprocess.crop):
            raise DataError(f"unknown preprocessing rule '{self.resize}' with crop '{self.crop}'")
        one_of("colour rule", self.colour, COLOURS)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Preprocess:
        """Read a manifest's preprocessing rule; raises DataError for a malformed or unknown one."""
        missing = sorted({"size", "mean", "std", "resize", "crop"} - set(raw))
        if missing:
            raise DataError(f"preprocessing rule lacks the keys {missing}")
        return json_io.build(raw, cls, "preprocessing rule", error=DataError)

    def document(self) -> dict[str, Any]:
        """Return the rule as JSON, without the colour rule of earlier runs, whose files keep their bytes."""
        document = asdict(self)
        return {key: value for key, value in document.items() if key != "colour" or value != AS_STORED}


def refuse_large(height: int, width: int) -> None:
    """Check an image's size. Raises: DataError for more than MAX_PIXELS pixels."""
    if height * width > MAX_PIXELS:
        raise DataError(too_large(height * width))


def too_large(pixels: int) -> str:
    """State that an image has too many pixels."""
    return f"image of {pixels / 1e6:.1f} megapixels is larger than the limit of {MAX_PIXELS / 1e6:.1f}"


def refuse_strip(height: int, width: int) -> None:
    """Check an image's aspect ratio. Raises: DataError for one more than LONGEST times as long as wide."""
    if max(height, width) > LONGEST * min(height, width):
        raise DataError(f"image of {width} x {height} pixels is more than {LONGEST} times as long as wide")


def stretched(pixels: Pixels, size: str) -> Pixels:
    """Resize a whole image to `size` ('WIDTHxHEIGHT' in pixels, '' leaves it), bilinear with antialiasing.

    For copies that were squashed: a square copy of a photo of 4:3 becomes 4:3 again before it is prepared.
    pixels: (H, W, 3) uint8; returns (HEIGHT, WIDTH, 3) uint8.
    """
    if not size:
        return pixels
    width, height = map(int, size.split("x"))
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


def prepare(pixels: Pixels, size: int) -> Pixels:
    """Resize the shorter side to `size` and crop the centre square.

    Bilinear with antialiasing (a triangle filter scaled by the reduction, half-pixel centres), each
    pass rounded to uint8, as in Pillow's `Image.resize`.

    pixels: (H, W, 3) uint8; returns (size, size, 3) uint8.
    Raises: DataError for an image more than LONGEST times as long as wide.
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
