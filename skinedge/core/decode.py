"""Convert an opened image to upright RGB bytes: EXIF orientation, transparency, more than 8 bits per value.

A decoder holds 4 bytes per pixel; the RGB array is filled in bands, so that conversions need no further copy.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from skinedge.core import remarks
from skinedge.core.preprocess import Pixels

_BAND = 1 << 20  # pixels converted at a time
_DEPTHS = (8, 10, 12, 14, 16)  # bits per value that cameras and converters write
_BITS_PER_SAMPLE = 258  # TIFF
_COLOUR_16 = ("RGB", "RGBA", "RGBX", "LA")  # whose low bytes Pillow can be made to return

# EXIF orientation -> the view of the upright array whose rows and columns are in stored order.
_STORED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}
_QUARTER_TURNS = (5, 6, 7, 8)


@dataclass(frozen=True)
class _Scale:
    """How values of more than 8 bits become bytes. white: the value of white; low: the low bytes of the colours of an
    image whose own bands are the high bytes, None for an image of integers.
    """

    white: int
    low: Image.Image | None = None


def decode(image: Image.Image, data: bytes) -> Pixels:
    """Decode an opened image to RGB. data: the file's bytes; returns (H, W, 3) uint8, contiguous.

    Values of 16 bits are scaled from the smallest of 8, 10, 12, 14 and 16 bits that holds the image's largest value,
    since cameras store 12 bits in files for 16, which would be black. `remarks` names such images.
    Raises: ValueError, and any error of a decoder.
    """
    raw_mode = _raw_mode(image)
    image.load()
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no defined white")
    scale = _scale(image, data, raw_mode)
    # ImageOps.exif_transpose also rewrites the other tags, and fails on a good image with one malformed tag.
    orientation = image.getexif().get(0x0112, 1)
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation in _QUARTER_TURNS else (height, width, 3), np.uint8)
    stored = _STORED[orientation](upright) if orientation in _STORED else upright
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(top + rows, height))
        band = image.crop(box)
        stored[top : box[3]] = np.asarray(_to_rgb(band if scale is None else _scaled(band, scale, box)))
    return upright


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name of the layout of the file's values, such as 'RGB;16B'; '' where it has none."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0].args if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def _scale(image: Image.Image, data: bytes, raw_mode: str) -> _Scale | None:
    """Return the scale of an image with more than 8 bits per value; None where Pillow's own bytes are right."""
    if image.mode.startswith("I"):
        values = np.asarray(image)  # Pillow's getextrema does not know I;16B
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 65535:
            raise ValueError(f"grey values from {low} to {high} have no defined black and white")
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
        return _Scale((1 << bits) - 1 if 8 < bits < 16 else _white(high, data))
    kind, deep, order = raw_mode.partition(";16")
    if not deep:
        return None
    highest = image.getextrema()[:3]  # of the high bytes, without transparency
    if max(int(extremes[1]) for extremes in highest) >= 1 << 6:  # type: ignore[index]
        return None  # 16 bits: the high bytes are the image
    if kind not in _COLOUR_16:
        raise ValueError("16-bit values of this kind use a part of their range only; convert the image to 8 bits")
    low_bytes = _low_bytes(image, data, kind, order)
    return _Scale(_white(_largest(image, low_bytes), data), low_bytes)


def _low_bytes(image: Image.Image, data: bytes, kind: str, order: str) -> Image.Image:
    """Decode the low bytes of 16-bit colours: Pillow returns the high ones, so it is told the other byte order."""
    with Image.open(io.BytesIO(data), formats=[str(image.format)]) as again:
        is_big = order == "B" or (order == "N" and sys.byteorder == "big")
        raw_mode = "RGBA" if kind == "LA" else f"{kind};16{'L' if is_big else 'B'}"
        tiles = []
        for tile in again.tile:
            rest = tile.args[1:] if isinstance(tile.args, tuple) else None
            tiles.append(tile._replace(args=raw_mode if rest is None else (raw_mode, *rest)))
        again.tile = tiles
        again.load()
        if kind == "LA":  # its four bytes are read as R, G, B and A: grey high, grey low, ...
            return Image.merge("RGB", [again.getchannel(1)] * 3)
        return again.copy()


def _largest(high: Image.Image, low: Image.Image) -> int:
    """Return the largest 16-bit value of the colours."""
    largest = 0
    for channel in range(3):
        high_bytes, low_bytes = np.asarray(high.getchannel(channel)), np.asarray(low.getchannel(channel))
        top = int(high_bytes.max())
        largest = max(largest, top << 8 | int(low_bytes[high_bytes == top].max()))
    return largest


def _white(largest: int, data: bytes) -> int:
    """Return the value of white for the largest value of an image of up to 16 bits."""
    bits = next(bits for bits in _DEPTHS if largest < 1 << bits)
    if bits < 16 and largest:
        remarks.add(f"{bits}-bit values in a file for 16 bits: scaled by {(1 << bits) - 1}", data)
    return (1 << bits) - 1


def _scaled(band: Image.Image, scale: _Scale, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a band with 8 bits per value; Pillow's own conversion clips at 255."""
    values = np.asarray(band).astype(np.float64)
    if scale.low is not None:
        values[..., :3] = 256 * values[..., :3] + np.asarray(scale.low.crop(box))[..., :3]
        values[..., 3:] *= scale.white / 255  # transparency has its full range
    return Image.fromarray(np.round(values / scale.white * 255).clip(0, 255).astype(np.uint8))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
