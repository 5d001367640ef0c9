"""DICOM images made with pydicom, and the files that pydicom ships, of which many show one picture in all encodings."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.colour_vectors import profiles
from skinedge.core import remarks
from skinedge.core.colour import AS_STORED, read_profile, to_srgb
from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image, read_size

pydicom = pytest.importorskip("pydicom")
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit  # noqa: E402

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def shipped(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path))


def dicom(pixels: np.ndarray | bytes, syntax: Any = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """Encode (H, W) or (H, W, 3), or encapsulated bytes; `elements` are added or replace others."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.4"  # VL Photographic Image Storage
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    shape = pixels.shape if isinstance(pixels, np.ndarray) else (12, 20, 3)
    bits = 8 * pixels.dtype.itemsize if isinstance(pixels, np.ndarray) else 8
    content = pixels.tobytes() if isinstance(pixels, np.ndarray) else pixels
    basic = {
        "Rows": shape[0],
        "Columns": shape[1],
        "SamplesPerPixel": 3 if len(shape) == 3 else 1,
        "PhotometricInterpretation": "RGB" if len(shape) == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(isinstance(pixels, np.ndarray) and pixels.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if len(shape) == 3 else {}),
        "PixelData": content + bytes(len(content) % 2),
    }
    for keyword, value in {**basic, **elements}.items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def grey_of(data: bytes) -> np.ndarray:
    pixels = load_image(data)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
    return pixels[..., 0]


def lut(values: Any, first: int, bits: int) -> Any:
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.LUTData = [int(value) for value in values]
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return pydicom.Sequence([item])


def test_grey_and_its_inverse() -> None:
    np.testing.assert_array_equal(grey_of(dicom(GREY)), GREY)
    np.testing.assert_array_equal(grey_of(dicom(GREY, PhotometricInterpretation="MONOCHROME1")), 255 - GREY)


def test_colours_by_pixel_and_by_plane() -> None:
    np.testing.assert_array_equal(load_image(dicom(COLOURS)), COLOURS)
    planes = dicom(np.ascontiguousarray(COLOURS.transpose(2, 0, 1)).reshape(12, 20, 3), PlanarConfiguration=1)
    np.testing.assert_array_equal(load_image(planes), COLOURS)


def test_sixteen_bit_colours_are_scaled_by_the_stored_bits() -> None:
    values = COLOURS.astype(np.uint16) << 4
    pixels = load_image(dicom(values, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(pixels, np.round(values.astype(int) * 255 / 4095))


def test_ybr_is_converted() -> None:
    """Pillow's YCbCr is that of JFIF, as DICOM's YBR_FULL."""
    smooth = Image.fromarray(COLOURS).resize((60, 40), Image.Resampling.BICUBIC)
    pixels = load_image(dicom(np.asarray(smooth.convert("YCbCr")), PhotometricInterpretation="YBR_FULL"))
    assert np.abs(pixels.astype(int) - np.asarray(smooth)).max() <= 3


@pytest.mark.parametrize("width", [400, 3000])
def test_window_is_black_to_white(width: int) -> None:
    values = np.linspace(0, 4095, 240).astype(np.uint16).reshape(12, 20)
    window = {"WindowCenter": 1000, "WindowWidth": width, "BitsStored": 12, "HighBit": 11}
    expected = (((values - 999.5) / (width - 1) + 0.5) * 255).clip(0, 255)  # PS3.3, C.11.2.1.2.1
    assert np.abs(grey_of(dicom(values, **window)) - expected).max() <= 0.51
    inverse = grey_of(dicom(values, PhotometricInterpretation="MONOCHROME1", **window))
    assert np.abs(255 - inverse.astype(float) - expected).max() <= 0.51


def test_rescaling_comes_before_the_window() -> None:
    values = np.arange(-120, 120, dtype=np.int16).reshape(12, 20)
    rescaled = 2 * values.astype(float) + 100
    data = dicom(values, RescaleSlope=2, RescaleIntercept=100, WindowCenter=100.5, WindowWidth=101)
    assert np.abs(grey_of(data) - (((rescaled - 100) / 100 + 0.5) * 255).clip(0, 255)).max() <= 0.51


def test_a_negative_slope_inverts() -> None:
    data = dicom(GREY, RescaleSlope=-1, RescaleIntercept=255)
    np.testing.assert_array_equal(grey_of(data), 255 - GREY)


def test_lookup_tables_of_modality_and_voi() -> None:
    values = GREY.astype(np.uint16)
    squares = np.arange(256) ** 2
    modality = dicom(values, BitsStored=8, HighBit=7, ModalityLUTSequence=lut(squares, 0, 16))
    np.testing.assert_array_equal(grey_of(modality), np.round(squares[GREY] / 65535 * 255))
    voi = dicom(values, BitsStored=8, HighBit=7, VOILUTSequence=lut(np.arange(1024)[::-4], 0, 10))
    np.testing.assert_array_equal(grey_of(voi), np.round(np.arange(1024)[::-4][GREY] / 1023 * 255))


def test_more_than_eight_bits_without_a_window_are_stretched_and_noted() -> None:
    values = (GREY.astype(np.int16) - 100) * 3
    expected = np.round((values - values.min()) / np.ptp(values) * 255)
    np.testing.assert_array_equal(grey_of(dicom(values)), expected)
    (line,) = remarks.lines(remarks.take())
    assert "without a window" in line
    assert not grey_of(dicom(np.zeros((8, 8), np.uint16))).any() and not remarks.take()


def test_palette() -> None:
    reds = np.arange(256, dtype=np.uint8)
    data = dicom(
        GREY,
        PhotometricInterpretation="PALETTE COLOR",
        **{f"{name}PaletteColorLookupTableDescriptor": [256, 0, 8] for name in ("Red", "Green", "Blue")},
        RedPaletteColorLookupTableData=reds.tobytes(),
        GreenPaletteColorLookupTableData=reds[::-1].tobytes(),
        BluePaletteColorLookupTableData=bytes(256),
    )
    np.testing.assert_array_equal(load_image(data), np.stack([GREY, 255 - GREY, 0 * GREY], axis=-1))


def test_embedded_colour_profile_is_converted() -> None:
    profile = profiles()["Display P3"]
    expected, table = COLOURS.copy(), read_profile(profile).table
    assert table is not None
    to_srgb(expected, table)
    data = dicom(COLOURS, ICCProfile=profile)
    np.testing.assert_array_equal(load_image(data), expected)
    np.testing.assert_array_equal(load_image(data, AS_STORED), COLOURS)
    remarks.take()


def test_one_picture_in_all_encodings_of_other_programs() -> None:
    """Lossless ones equal; JPEG within its loss."""
    reference = load_image(shipped("SC_rgb_rle.dcm")).astype(int)
    for name in ("SC_rgb_rle_16bit.dcm", "SC_rgb_gdcm_KY.dcm"):
        np.testing.assert_array_equal(load_image(shipped(name)), reference, err_msg=name)
    for name in ("+eb+cr", "+eb+cy+n1", "+eb+cy+n2", "+eb+cy+np", "+eb+cy+s2", "+eb+cy+s4"):
        assert np.abs(load_image(shipped(f"SC_rgb_dcmtk_{name}.dcm")) - reference).mean() < 4, name
    for name in ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        assert np.abs(load_image(shipped(name)) - reference).mean() < 4, name
    grey = load_image(shipped("MR_small.dcm"))
    for name in ("bigendian", "expb", "implicit", "RLE", "jp2klossless", "padded"):
        np.testing.assert_array_equal(load_image(shipped(f"MR_small_{name}.dcm")), grey, err_msg=name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SC_rgb_rle_2frame.dcm", "DICOM file with 2 frames; only single images are read"),
        ("rtplan.dcm", "DICOM file without an image"),
        ("JPEGLSNearLossless_08.dcm", "JPEG-LS Lossy .* not read; convert it"),
        ("JPEG-lossy.dcm", "of 12 bits encoded as JPEG Extended"),
        ("SC_rgb_rle_32bit.dcm", "32 bits per value; up to 16 are read"),
        ("image_dfl.dcm", "deflated DICOM is not read"),
        ("MR_truncated.dcm", "unreadable image"),
        ("no_meta.dcm", "not an image in a supported format"),
    ],
)
def test_what_is_not_read_is_said_in_one_line(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load_image(shipped(name))
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_unknown_colours_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="photometric interpretation 'HSV', which is not read"):
        load_image(dicom(COLOURS, PhotometricInterpretation="HSV"))


def test_large_images_are_refused_by_their_header(tmp_path: Path) -> None:
    data = dicom(GREY, Rows=8193, Columns=8000)
    with pytest.raises(DataError, match=r"65\.5 megapixels is larger than the limit of 50\.3"):
        load_image(data)
    with pytest.raises(DataError, match="more than 20 times as long as wide"):
        load_image(dicom(GREY, Rows=2, Columns=120))
    (tmp_path / "a.dcm").write_bytes(dicom(GREY))
    assert read_size(tmp_path / "a.dcm") == (20, 12)


def encapsulated(frame: bytes, **elements: Any) -> bytes:
    return dicom(encapsulate([frame]), JPEGBaseline8Bit, PhotometricInterpretation="YBR_FULL_422", **elements)


def jpeg(image: Image.Image, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def test_encapsulated_images_keep_limits_and_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that is larger than stated, of many scans, or a program for Ghostscript."""
    trap = tmp_path / "gs"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    picture = Image.fromarray(COLOURS).resize((20, 12))
    assert load_image(encapsulated(jpeg(picture))).shape == (12, 20, 3)
    with pytest.raises(DataError, match="not an image in a supported format"):
        load_image(encapsulated(jpeg(picture, "EPS")))
    with pytest.raises(DataError, match="not an image in a supported format"):
        load_image(encapsulated(jpeg(picture, "PNG")))
    with pytest.raises(DataError, match="image of 40 x 24 pixels in a DICOM file that states 20 x 12"):
        load_image(encapsulated(jpeg(picture.resize((40, 24)))))
    huge = bytearray(jpeg(picture))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = struct.pack(">HH", 9000, 9000)
    with pytest.raises(DataError, match=r"81\.0 megapixels"):
        load_image(encapsulated(bytes(huge)))
    assert not (tmp_path / "started").exists()


def test_deflated_files_are_refused_before_they_are_inflated() -> None:
    with pytest.raises(DataError, match="deflated DICOM is not read"):
        load_image(dicom(GREY, DeflatedExplicitVRLittleEndian))


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = dicom(GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"needs the package 'pydicom': pip install .*\[dicom\]"):
        load_image(data)


def test_mutated_files_are_decoded_or_refused_in_one_line() -> None:
    rng = np.random.default_rng(1)
    refused = 0
    for data in (dicom(GREY), dicom(COLOURS), encapsulated(jpeg(Image.fromarray(COLOURS)))):
        for _ in range(60):
            broken = bytearray(data if rng.random() < 0.7 else data[: rng.integers(132, len(data))])
            for place in rng.integers(132, len(broken), 3):
                broken[place] = rng.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert load_image(bytes(broken)).dtype == np.uint8
                except DataError as error:
                    assert "\n" not in error.what
                    refused += 1
    remarks.take()
    assert refused > 20
