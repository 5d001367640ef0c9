"""Decode DICOM images (one frame, visible light or grey) with pydicom, the extra `skinedge[dicom]`.

Grey values pass the modality LUT (or rescale slope and intercept) and the first VOI LUT or window, as in PS3.3, C.11;
colours are converted from YBR and palettes. DICOM stores pixels as they are displayed, so nothing is turned, and EXIF
tags inside an encapsulated JPEG do not count.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core import remarks
from skinedge.core.errors import DataError
from skinedge.core.installation import pip_install
from skinedge.core.preprocess import Pixels, refuse_large, refuse_strip

# Opens an encapsulated image within the limits of `skinedge.core.image_file`. (bytes, allowed formats) -> image
OpenFrame = Callable[[bytes, tuple[str, ...]], AbstractContextManager[Any]]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PALETTE = "PALETTE COLOR"
_JPEG = "1.2.840.10008.1.2.4."  # JPEG and JPEG 2000; the numbers that Pillow decodes:
_FORMATS = {"50": ("JPEG",), "51": ("JPEG",), "90": ("JPEG2000",), "91": ("JPEG2000",)}
_RLE = "1.2.840.10008.1.2.5"
_DEFLATED = b"1.2.840.10008.1.2.1.99"  # pydicom inflates it without a limit of memory
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _RLE)
_MAX_RLE_BYTES = 8 << 20  # 2 bytes become up to 128


def is_dicom(head: bytes) -> bool:
    """Return True for the first 132 bytes of a DICOM file (PS3.10, 7.1)."""
    return head[128:132] == b"DICM"


def read_header(data: bytes) -> Any:
    """Read a DICOM file without decoding its pixels, and check its size against the limits.

    Returns: pydicom's Dataset. Raises: DataError, and any error of pydicom.
    """
    try:
        import pydicom
    except ImportError:
        raise DataError(f"DICOM needs the package 'pydicom': {pip_install('dicom')}") from None
    # What a reader can do without is no news to the user of thousands of files.
    warnings.filterwarnings("ignore", module=r"pydicom\b|skinedge\.core\.dicom")
    if _DEFLATED in data:
        raise DataError("deflated DICOM is not read; convert it, e.g. with dcmconv +te")
    dataset = pydicom.dcmread(io.BytesIO(data))
    if not {"PixelData", "Rows", "Columns"} <= set(dataset.dir()):
        raise DataError("DICOM file without an image")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise DataError(f"DICOM file with {frames} frames; only single images are read")
    refuse_large(dataset.Rows, dataset.Columns)
    refuse_strip(dataset.Rows, dataset.Columns)
    return dataset


def decode_dicom(data: bytes, open_frame: OpenFrame) -> tuple[Pixels, bytes | None]:
    """Decode a DICOM image: (H, W, 3) uint8, contiguous, and its ICC profile, None without one.

    Raises: DataError for one that is not read, and any error of pydicom.
    """
    dataset = read_header(data)
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    photometric = str(dataset.PhotometricInterpretation)
    if photometric not in (*_GREY, *_COLOUR, _PALETTE):
        raise DataError(f"DICOM image with the photometric interpretation '{photometric}', which is not read")
    if not 1 <= dataset.BitsStored <= dataset.BitsAllocated <= 16:
        raise DataError(f"DICOM image with {dataset.BitsAllocated} bits per value; up to 16 are read")
    values = pixel_array(dataset, decoding_plugin=_plugin(dataset, open_frame))
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if photometric in _GREY:
        grey = _shades(dataset, values, data)[values.view(f"u{values.itemsize}")]
        return np.repeat((255 - grey if photometric == "MONOCHROME1" else grey)[..., None], 3, axis=2), None
    bits = dataset.BitsStored
    if photometric == _PALETTE:
        values, bits = apply_color_lut(values, dataset)[..., :3], dataset.RedPaletteColorLookupTableDescriptor[2]
    return np.ascontiguousarray(_bytes(values, 0, (1 << bits) - 1)), dataset.get("ICCProfile")


def _plugin(dataset: Any, open_frame: OpenFrame) -> str:
    """Return the name of pydicom's decoder, '' for plain pixels.

    Raises: DataError for an encoding that is not read, and for an encapsulated image that is not as the header states.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == _RLE and len(dataset.PixelData) > _MAX_RLE_BYTES:
        raise DataError(f"run-length encoded DICOM file is larger than the limit of {_MAX_RLE_BYTES >> 20} MiB")
    if syntax in _PLAIN:
        return "pydicom" if syntax == _RLE else ""
    formats = _FORMATS.get(str(syntax).removeprefix(_JPEG))
    if formats is None or (formats == ("JPEG",) and dataset.BitsStored > 8):
        raise DataError(
            f"DICOM image of {dataset.BitsStored} bits encoded as {syntax.name}, which is not read; "
            "convert it, e.g. with gdcmconv --raw"
        )
    from pydicom.encaps import get_frame

    with open_frame(get_frame(dataset.PixelData, 0, number_of_frames=1), formats) as image:
        if image.size != (dataset.Columns, dataset.Rows):
            raise DataError(
                f"encapsulated image of {image.width} x {image.height} pixels in a DICOM file that states "
                f"{dataset.Columns} x {dataset.Rows}"
            )
    return "pillow"


def _shades(dataset: Any, pixels: NDArray[Any], data: bytes) -> NDArray[np.uint8]:
    """Return the shade of each possible stored value, read as unsigned: modality, then VOI transformation.

    Without a VOI transformation, more than 8 bits are scaled from the image's smallest value to its largest.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    bits, unsigned = dataset.BitsStored, np.dtype(f"u{pixels.itemsize}")
    values = apply_modality_lut(np.arange(1 << 8 * pixels.itemsize, dtype=unsigned).view(pixels.dtype), dataset)
    if dataset.get("VOILUTSequence"):
        return _bytes(apply_voi_lut(np.round(values).astype(np.int64), dataset), *_depth(dataset.VOILUTSequence))
    first = -(1 << bits - 1) if dataset.PixelRepresentation else 0
    low, high = (float(values[end]) for end in (first, first + (1 << bits) - 1))
    if dataset.get("ModalityLUTSequence"):
        low, high = _depth(dataset.ModalityLUTSequence)
    if dataset.get("WindowCenter") is not None:
        return _bytes(apply_voi_lut(values, dataset), low, high)  # from black to white, even where `low` is larger
    if bits > 8 and pixels.min() < pixels.max():
        low, high = (float(values[int(end)]) for end in (pixels.min(), pixels.max()))
        remarks.add("DICOM grey values without a window: scaled from the smallest to the largest of the image", data)
    return _bytes(values, min(low, high), max(low, high))


def _depth(sequence: Any) -> tuple[float, float]:
    """Return the range of the output of a lookup table."""
    return 0.0, float((1 << sequence[0].LUTDescriptor[2]) - 1)


def _bytes(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale `low` to 0 and `high` to 255."""
    if low == high:
        raise DataError("DICOM image whose header gives all values the same grey")
    if values.dtype == np.uint8 and (low, high) == (0, 255):
        return values
    return np.round((values.astype(np.float32) - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
