"""Read untrusted image files: allowed formats only, within limits of pixels, bytes and memory.

`load_image` is the one place where a file becomes RGB pixels. Every image is opened through `open_image`.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from skinedge.core import dicom, remarks
from skinedge.core.colour import AS_STORED, SRGB, Profile, profile_of, read_profile, to_srgb
from skinedge.core.decode import decode
from skinedge.core.errors import DataError
from skinedge.core.installation import pip_install
from skinedge.core.preprocess import MAX_PIXELS, Pixels, refuse_large, refuse_strip, too_large

# The formats of IMAGE_SUFFIXES. Pillow also opens formats that start a program (EPS: Ghostscript) or read other files.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
HEIF = "HEIF"  # read with pillow-heif, the extra skinedge[heic]
# The only list of suffixes: `skinedge.data.folder` and the readers use it. A DICOM file needs skinedge[dicom].
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".heic", ".heif", ".dcm"}
)
MAX_BYTES = 256 << 20
MAX_SCANNED = 20 * MAX_PIXELS  # pixels times scans of a JPEG file; 1 to 12 scans are usual
MAX_RLE_BYTES = 8 << 20  # run-length encoded BMP, which Pillow decodes in Python
_RLE = (1, 2)  # BMP's compression codes for run-length encoding
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")  # without RSTn and stuffed zeros, which belong to a scan
_HEIF_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
_HEAD = 132  # bytes that tell the kind of a file

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is lower, and raises an error


def load_image(source: Path | bytes, colour: str = SRGB) -> Pixels:
    """Decode an image file to RGB.

    EXIF orientation is applied; only the first frame of an animation is read; transparency is blended onto white;
    values of 16 bits are scaled to 8 (`skinedge.core.decode`); CMYK and palette images are converted; grey and colours
    of DICOM files are displayed as their header says (`skinedge.core.dicom`).

    Args:
        colour: rule of `skinedge.core.colour`. 'srgb' converts pixels with an embedded RGB profile to sRGB;
            'as-stored', of runs made before there was a rule, ignores profiles.
    Returns: (H, W, 3) uint8.
    Raises: DataError for a file that is missing, unreadable or truncated, has a format not in FORMATS, more than
        MAX_PIXELS pixels or MAX_BYTES bytes, is more than LONGEST times as long as wide, or needs an extra.
    """
    data = read_bytes(source) if isinstance(source, Path) else source
    name = str(source) if isinstance(source, Path) else "image"
    if dicom.is_dicom(data[:_HEAD]):
        with _one_line(name):
            pixels, icc = dicom.decode_dicom(data, _open_frame)
            _apply_rule(pixels, read_profile(icc) if icc else None, colour, data)
            return pixels
    with open_image(io.BytesIO(data), name) as image:
        _refuse_slow(image, data)
        pixels = decode(image, data)
        _apply_rule(pixels, profile_of(image.info), colour, data)
        return pixels


def read_size(source: Path | bytes) -> tuple[int, int]:
    """Return width and height of an image file in its header. Raises: DataError as `load_image`."""
    path = source if isinstance(source, Path) else "image"
    with open_file(source) if isinstance(source, Path) else io.BytesIO(source) as stream:
        is_dicom = dicom.is_dicom(stream.read(_HEAD))
        stream.seek(0)
        if is_dicom:
            with _one_line(str(path)):
                header = dicom.read_header(stream.read())
                return int(header.Columns), int(header.Rows)
        with open_image(stream, str(path)) as image:
            return image.size


def _apply_rule(pixels: Pixels, profile: Profile | None, colour: str, data: bytes) -> None:
    """Convert pixels in place as the rule says; say what is done with a profile other than sRGB."""
    if profile is None or (profile.table is None and profile.problem is None):
        return
    if colour == AS_STORED:
        remarks.add(f"colour profile {profile.name} ignored (colour rule of this model: '{AS_STORED}')", data)
    elif profile.table is None:
        remarks.add(f"colours as stored: the profile {profile.name} is {profile.problem} and not converted", data)
    else:
        remarks.add(f"colours converted to sRGB from the profile {profile.name}", data)
        to_srgb(pixels, profile.table)


def image_pixels(image: Image.Image, name: str = "image", colour: str = SRGB) -> Pixels:
    """Convert an image opened with Pillow to RGB, as `load_image` does for its file.

    Returns: (H, W, 3) uint8.
    Raises: DataError, with the image's name, for one that cannot be decoded or exceeds the limits of `load_image`.
    """
    with _one_line(name):
        refuse_large(image.height, image.width)
        refuse_strip(image.height, image.width)
        pixels = decode(image, name.encode())
        _apply_rule(pixels, profile_of(image.info), colour, name.encode())
        return pixels


@contextmanager
def open_image(stream: BinaryIO, name: str, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open an image from a stream: read its header only, and check its size against the limits.

    Raises: DataError with the image's name for any error of a decoder, here or in the body of the `with` statement.
    """
    with _one_line(name):
        head = stream.read(_HEAD)
        stream.seek(0)
        with Image.open(stream, formats=[HEIF] if formats is FORMATS and _is_heif(head) else formats) as image:
            refuse_large(image.height, image.width)
            refuse_strip(image.height, image.width)
            _refuse_tiles(image)
            yield image


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Convert any error of a decoder to a DataError with the image's name."""
    try:
        yield
    except DataError as error:
        raise DataError(error.what, where=name) from None
    except UnidentifiedImageError:
        raise DataError("not an image in a supported format", where=name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = re.search(r"\d+", str(error))
        raise DataError(too_large(int(pixels.group()) if pixels else 2 * MAX_PIXELS), where=name) from None
    except MemoryError:
        raise DataError("not enough memory to decode the image", where=name) from None
    except Exception as error:  # decoders raise anything: struct.error, SyntaxError, zlib.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"unreadable image ({reason})", where=name) from None


@contextmanager
def _open_frame(data: bytes, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open the encapsulated image of a DICOM file."""
    with open_image(io.BytesIO(data), "encapsulated image", formats) as image:
        _refuse_slow(image, data)
        yield image


def _is_heif(head: bytes) -> bool:
    """Return True for HEIC and HEIF, and prepare Pillow for it. Raises: DataError without pillow-heif."""
    if head[4:8] != b"ftyp" or head[8:12] not in _HEIF_BRANDS:
        return False
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise DataError(f"HEIC needs the package 'pillow-heif': {pip_install('heic')}") from None
    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    return True


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
