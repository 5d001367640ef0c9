"""HEIC images, as iPhones write them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.colour_vectors import profiles
from skinedge.core import remarks
from skinedge.core.colour import AS_STORED, display_p3, read_profile, to_srgb
from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image, read_size

pillow_heif = pytest.importorskip("pillow_heif")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((160, 120))
P3 = {"matrix_coefficients": 0, "color_primaries": 12, "transfer_characteristics": 13}  # ITU-T H.273
PQ = {"matrix_coefficients": 0, "color_primaries": 9, "transfer_characteristics": 16}


def heic(image: Image.Image = PICTURE, **options: object) -> bytes:
    """Encode without loss."""
    pillow_heif.register_heif_opener()
    out = io.BytesIO()
    image.save(out, "HEIF", quality=-1, chroma=444, **options)
    return out.getvalue()


def test_pixels(tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    path.write_bytes(heic())
    assert np.abs(load_image(path).astype(int) - np.asarray(PICTURE)).max() <= 1
    assert read_size(path) == (160, 120) and not remarks.take()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(orientation: int) -> None:
    exif, jpeg = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PICTURE.save(jpeg, "PNG", exif=exif)
    turned = load_image(heic(exif=exif.tobytes())).astype(int)
    assert np.abs(turned - load_image(jpeg.getvalue())).max() <= 1


def test_profiles_are_converted() -> None:
    icc = profiles()["Display P3"]
    for options, profile in (({"icc_profile": icc}, read_profile(icc)), (P3, display_p3())):
        data = heic(**options)
        expected = load_image(data, AS_STORED)
        assert profile.table is not None
        to_srgb(expected, profile.table)
        np.testing.assert_array_equal(load_image(data), expected)
        lines = remarks.lines(remarks.take())
        assert any("converted to sRGB from the profile" in line and "Display P3" in line for line in lines)
    load_image(heic(**PQ))
    (line,) = remarks.lines(remarks.take())
    assert "H.273 with primaries 9 and transfer 16" in line and "not converted" in line


def test_transparency_is_blended_onto_white() -> None:
    rgba = PICTURE.convert("RGBA")
    rgba.putalpha(0)
    assert (load_image(heic(rgba)) == 255).all()


def test_more_bits_per_value() -> None:
    """10 bits, as phones write HDR photos."""
    values = (np.asarray(PICTURE).astype(np.uint16) << 8).tobytes()
    out = io.BytesIO()
    pillow_heif.encode("RGB;16", PICTURE.size, values, out, quality=-1, chroma=444)
    assert np.abs(load_image(out.getvalue()).astype(int) - np.asarray(PICTURE)).max() <= 2


def test_damaged_and_large_files_are_refused_in_one_line(tmp_path: Path) -> None:
    data = heic()
    for broken in (data[: len(data) // 2], data[:40], data[:200] + bytes(100) + data[300:]):
        with pytest.raises(DataError, match=r"unreadable image|not an image") as caught:
            load_image(broken)
        assert "\n" not in str(caught.value)
    size = (160).to_bytes(4) + (120).to_bytes(4)
    assert size in data
    with pytest.raises(DataError, match=r"larger than the limit|unreadable"):
        load_image(data.replace(size, (16000).to_bytes(4) + (12000).to_bytes(4)))


def test_without_pillow_heif_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"needs the package 'pillow-heif': pip install .*\[heic\]"):
        load_image(data)
