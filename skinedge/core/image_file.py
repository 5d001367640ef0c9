"""Open untrusted image files: allowed formats only, within limits of pixels, bytes and memory.

Every image file is decoded through `open_image`. A decoder holds 4 bytes per pixel; the RGB array is filled in bands,
so that conversions need no further copy of the image.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from skinedge.core.errors import DataError
from skinedge.core.preprocess import Pixels, refuse_strip

# The formats of IMAGE_SUFFIXES. Pillow also opens formats that start a program (EPS: Ghostscript) or read other files.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 8192 * 6144  # the largest photo of a "50 megapixel" camera; also in page/decode.js and PhotoFile.kt
MAX_BYTES = 256 << 20
MAX_SCANNED = 20 * MAX_PIXELS  # pixels times scans of a JPEG file; 1 to 12 scans are usual
MAX_RLE_BYTES = 8 << 20  # run-length encoded BMP, which Pillow decodes in Python
_RLE = (1, 2)  # BMP's compression codes for run-length encoding
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # without RSTn and stuffed zeros, which belong to a scan
_BAND = 1 << 20  # pixels converted at a time

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is lower, and raises an error


def load_image(source: Path | bytes) -> Pixels:
    """Decode an image file to RGB.

    EXIF orientation is applied; only the first frame of an animation is read; transparency is blended onto
    white; 16-bit grey is scaled to 8 bits; CMYK and palette images are converted.

    Returns: (H, W, 3) uint8.
    Raises: DataError for a file that is missing, unreadable or truncated, has a format not in FORMATS, more than
        MAX_PIXELS pixels or MAX_BYTES bytes, or is more than LONGEST times as long as wide.
    """
    data = read_bytes(source) if isinstance(source, Path) else source
    with open_image(io.BytesIO(data), str(source) if isinstance(source, Path) else "image") as image:
        _refuse_slow(image, data)
        return _decode(image)


def image_pixels(image: Image.Image, name: str = "image") -> Pixels:
    """Convert an image opened with Pillow to RGB, as `load_image` does for its file.

    Returns: (H, W, 3) uint8.
    Raises: DataError, with the image's name, for one that cannot be decoded or exceeds the limits of `load_image`.
    """
    with _data_errors(name):
        refuse_large(image.height, image.width)
        refuse_strip(image.height, image.width)
        return _decode(image)


@contextmanager
def open_image(stream: BinaryIO, name: str) -> Iterator[Image.Image]:
    """Open an image from a stream: read its header only, and check its size against the limits.

    Raises: DataError with the image's name for any error of a decoder, here or in the body of the `with` statement.
    """
    with _data_errors(name), Image.open(stream, formats=FORMATS) as image:
        refuse_large(image.height, image.width)
        refuse_strip(image.height, image.width)
        _refuse_tiles(image)
        yield image


@contextmanager
def _data_errors(name: str) -> Iterator[None]:
    """Convert the errors of decoders to DataErrors with the image's name."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, where=name) from None
    except UnidentifiedImageError:
        raise DataError("not an image in a supported format", where=name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise DataError(_too_large(int(pixels.group()) if pixels else 2 * MAX_PIXELS), where=name) from None
    except MemoryError:
        raise DataError("not enough memory to decode the image", where=name) from None
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, zlib.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"unreadable image ({reason})", where=name) from None


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open an image file for reading.

    Raises: DataError when it is missing, unreadable or not a regular file; never blocks on a FIFO or device.
    """
    where = str(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError("not a regular file", where=where)
            yield stream
    except FileNotFoundError:
        raise DataError("no such image", where=where) from None
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise DataError(f"cannot read the image ({error})", where=repr(where)) from None
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket, a folder
            raise DataError("not a regular file", where=where) from None
        raise DataError(f"cannot read the image ({error.strerror})", where=where) from None


def read_bytes(path: Path) -> bytes:
    """Read all bytes of an image file; raises DataError as `open_file` does, and for more than MAX_BYTES."""
    with open_file(path) as stream:
        if os.fstat(stream.fileno()).st_size > MAX_BYTES:
            raise DataError(f"image file is larger than the limit of {MAX_BYTES >> 20} MiB", where=str(path))
        return stream.read()


def refuse_large(height: int, width: int) -> None:
    """Check an image's size. Raises: DataError for more than MAX_PIXELS pixels."""
    if height * width > MAX_PIXELS:
        raise DataError(_too_large(height * width))


def _too_large(pixels: int) -> str:
    return f"image of {pixels / 1e6:.1f} megapixels is larger than the limit of {MAX_PIXELS / 1e6:.1f}"


def _refuse_tiles(image: Image.Image) -> None:
    """Refuse a TIFF with a tile of more than MAX_PIXELS pixels: libtiff allocates the full tile."""
    tags = getattr(image, "tag_v2", {})
    refuse_large(int(tags.get(322, 0)), int(tags.get(323, 0)))


def _refuse_slow(image: Image.Image, data: bytes) -> None:
    """Refuse a small file that would take minutes to decode: run-length encoding, or many scans of the full image."""
    if image.format == "BMP" and image.info.get("compression") in _RLE and len(data) > MAX_RLE_BYTES:
        raise DataError(f"run-length encoded BMP file is larger than the limit of {MAX_RLE_BYTES >> 20} MiB")
    max_scans = MAX_SCANNED // (image.width * image.height)
    if image.format in ("JPEG", "MPO") and data.count(b"\xff\xda") > max_scans and _count_scans(data) > max_scans:
        raise DataError(f"JPEG file has more than {max_scans} scans over its {image.width} x {image.height} pixels")


def _count_scans(data: bytes) -> int:
    """Count the scans of the first image in a JPEG file; phones append further images and videos."""
    scans, position = 0, 2
    while (marker := _MARKER.search(data, position)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


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


def _decode(image: Image.Image) -> Pixels:
    image.load()
    if image.mode == "F":
        raise ValueError("32-bit float pixels have no defined white")
    # ImageOps.exif_transpose also rewrites the other tags, and fails on a good image with one malformed tag.
    orientation = image.getexif().get(0x0112, 1)
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation in _QUARTER_TURNS else (height, width, 3), np.uint8)
    stored = _STORED[orientation](upright) if orientation in _STORED else upright
    white = _white(image)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        stored[top : top + rows] = np.asarray(_to_rgb(band, white))
    return upright


def _white(image: Image.Image) -> float:
    """Return the value of white in a 16-bit or 32-bit grey image: a 32-bit image may hold 8-bit or 16-bit values."""
    largest: Any = image.getextrema()[1] if image.mode == "I" else None
    return 255.0 if largest is not None and largest <= 255 else 65535.0


def _to_rgb(image: Image.Image, white: float) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.round(values / white * 255).clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")
