"""The one preprocessing rule: EXIF rotation, RGB, shorter side to S, centre crop S x S.

Whatever runs a model (training's validation, calibration, parity, bench, predict) calls `prepare`;
the exported graph takes the prepared pixels and normalizes them itself.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from skinedge import documents
from skinedge.errors import DataError

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
        return documents.build(raw, cls, "preprocessing rule", error=DataError)


def load_image(source: Path | bytes) -> Pixels:
    """Decode an image file to RGB.

    EXIF orientation is applied; the first frame of an animation is taken; transparency is laid on
    white; 16-bit grey is scaled to 8 bits; CMYK and palette images are converted.

    Returns: (H, W, 3) uint8.
    Raises: DataError for a file that is missing, unreadable, truncated, or so large that
        Pillow takes it for a decompression bomb (over 179 megapixels), or more than LONGEST times as long as wide.
    """
    name = str(source) if isinstance(source, Path) else "image"
    data = read_bytes(source) if isinstance(source, Path) else source
    try:
        with Image.open(io.BytesIO(data)) as image:
            _refuse_strip(image.height, image.width)
            image.load()
            return np.asarray(_to_rgb(_upright(image)), dtype=np.uint8)
    except DataError as error:
        raise DataError(error.what, where=name) from None
    except UnidentifiedImageError:
        raise DataError("not an image of a kind that can be read", where=name) from None
    except Image.DecompressionBombError:
        raise DataError("image is too large to decode safely", where=name) from None
    except Exception as error:  # decoders raise whatever they stumble over: struct.error, TypeError, ...
        raise DataError(f"unreadable image ({error})", where=name) from None


def read_bytes(path: Path) -> bytes:
    """An image file's bytes; raises DataError when it is missing or cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("no such image", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot read the image ({error.strerror})", where=str(path)) from None


def _refuse_strip(height: int, width: int) -> None:
    if max(height, width) > LONGEST * min(height, width):
        raise DataError(f"image of {width} x {height} pixels is more than {LONGEST} times as long as wide")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    # ImageOps.exif_transpose also writes the other tags anew, and fails on a good image where one is odd.
    turn = _TURNS.get(image.getexif().get(0x0112, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no defined white")
    if image.mode.startswith("I"):  # 16-bit (or 32-bit) grey: Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.float64)
        scale = 65535.0 if image.mode != "I" or values.max(initial=0) > 255 else 255.0
        image = Image.fromarray(np.round(values / scale * 255).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def prepare(pixels: Pixels, size: int) -> Pixels:
    """Resize the shorter side to `size` and cut the centre square.

    Bilinear with antialiasing (a triangle filter scaled by the reduction, half-pixel centres), each
    pass rounded to uint8, as Pillow's `Image.resize` does it.

    pixels: (H, W, 3) uint8; returns (size, size, 3) uint8.
    Raises: DataError for a strip more than LONGEST times as long as wide.
    """
    height, width = pixels.shape[:2]
    _refuse_strip(height, width)
    short = min(height, width)
    new_height, new_width = ((side * size + short // 2) // short for side in (height, width))
    image = Image.fromarray(pixels)
    if (new_height, new_width) != (height, width):
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.uint8)
