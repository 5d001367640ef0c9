"""Colour profiles against littleCMS, and the vectors that the web page and the app replay."""

from __future__ import annotations

import io
import json
import random
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from experiments.colour_vectors import DISPLAY_P3, SRGB_CURVE, VECTORS, named, profile, profiles, vectors
from skinedge.core import remarks
from skinedge.core.colour import AS_STORED, SRGB, read_profile, to_srgb
from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Preprocess

P3 = profiles()["Display P3"]
CONVERTED = [kind for kind, data in profiles().items() if read_profile(data).table is not None]
LEVELS = np.arange(0, 256, 5, dtype=np.uint8)


def grid() -> np.ndarray:
    """Return a picture of all combinations of 52 levels."""
    return np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), axis=-1).reshape(416, 338, 3)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def converted(pixels: np.ndarray, data: bytes) -> np.ndarray:
    table = read_profile(data).table
    assert table is not None
    result = pixels.copy()
    to_srgb(result, table)
    return result


def test_the_committed_vectors_are_those_of_this_version() -> None:
    assert json.loads(VECTORS.read_text()) == vectors(), "python -m experiments.colour_vectors"
    assert {row["problem"] for row in vectors()} >= {None, "damaged", "for grey images", "for CMYK images"}


@pytest.mark.parametrize("kind", CONVERTED)
def test_littlecms_converts_every_colour_alike(kind: str) -> None:
    """Relative colorimetric intent; ours and theirs each round once."""
    data, pixels = profiles()[kind], grid()
    expected = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(data)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    difference = np.abs(converted(pixels, data).astype(int) - np.asarray(expected))
    assert difference.max() <= 1 and difference.mean() < 0.02
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() > 3  # the profile matters


def test_srgb_by_any_maker_leaves_every_byte() -> None:
    samples = [round(65535 * (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4)) for x in LEVELS / 255]
    table = b"curv" + bytes(4) + len(samples).to_bytes(4) + b"".join(value.to_bytes(2) for value in samples)
    makers = {
        "littleCMS": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "parametric": profiles()["sRGB"],
        "sampled, other rounding": profile(
            named("sRGB"), [(0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7139)], [table] * 3
        ),
    }
    for maker, data in makers.items():
        read = read_profile(data)
        assert read.table is None and read.problem is None, maker
        pixels = grid()
        np.testing.assert_array_equal(load_image(encode(Image.fromarray(pixels), "PNG", icc_profile=data)), pixels)
        assert not remarks.take()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_pixels_of_every_container_are_converted_once(kind: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(picture, kind, icc_profile=P3, exif=exif.tobytes(), **options)
    stored = load_image(data, AS_STORED)
    assert stored.shape == (60, 40, 3)
    assert remarks.lines(remarks.take()) == [
        "1 image: colour profile 'Display P3' ignored (colour rule of this model: 'as-stored')"
    ]
    for _ in range(2):
        np.testing.assert_array_equal(load_image(data), converted(stored, P3))
    assert remarks.lines(remarks.take()) == ["1 image: colours converted to sRGB from the profile 'Display P3'"]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("grey", "L"), ("CMYK", "CMYK"), ("lookup tables", "RGB"), ("cut off", "RGB"), ("out of range", "RGB")],
)
def test_other_profiles_are_named_and_left(kind: str, mode: str) -> None:
    picture = Image.fromarray(grid()[:64]).convert(mode)
    data, options = profiles()[kind], {"quality": 95} if mode == "CMYK" else {}
    container = "JPEG" if mode == "CMYK" else "PNG"
    pixels = load_image(encode(picture, container, icc_profile=data, **options))
    (line,) = remarks.lines(remarks.take())
    read = read_profile(data)
    assert line == f"1 image: colours as stored: the profile {read.name} is {read.problem} and not converted"
    np.testing.assert_array_equal(pixels, load_image(encode(picture, container, **options)))


def test_profiles_with_missing_parts_are_damaged() -> None:
    """Of two segments of a JPEG, one; of a PNG's compressed profile, the beginning."""
    rng = np.random.default_rng(0)
    large = profile(named("large"), DISPLAY_P3, [SRGB_CURVE] * 3, more=[(b"priv", rng.bytes(100_000))])
    picture = Image.fromarray(grid()[:64])
    jpeg = bytearray(encode(picture, "JPEG", icc_profile=large))
    jpeg[jpeg.rindex(b"ICC_PROFILE\0")] = 0
    png = bytearray(encode(picture, "PNG", icc_profile=large))
    at = png.index(b"iCCP") + 4
    size = int.from_bytes(png[at - 8 : at - 4])
    chunk = png[at - 4 : at + 5000]
    png[at - 8 : at + size + 4] = (5000).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    for data in (jpeg, png):
        load_image(bytes(data))
        (line,) = remarks.lines(remarks.take())
        assert "colours as stored: the profile" in line and "is damaged and not converted" in line


def test_transparency_and_palettes_are_converted_on_white() -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, :3] = (200, 100, 50, 255)
    flat = np.full((4, 6, 3), 255, np.uint8)
    flat[:, :3] = (200, 100, 50)
    expected = converted(flat, P3)
    assert (expected[:, 3:] == 255).all() and (expected[:, :3] != flat[:, :3]).any()  # white stays white
    np.testing.assert_array_equal(load_image(encode(Image.fromarray(rgba), "PNG", icc_profile=P3)), expected)
    palette = Image.fromarray(flat).quantize(4)
    np.testing.assert_array_equal(load_image(encode(palette, "PNG", icc_profile=P3)), expected)


def test_any_bytes_give_a_result() -> None:
    """Mutated profiles are converted, named or damaged; tables stay within their range."""
    rng, found = random.Random(3), set()
    for _ in range(150):
        data = bytearray(rng.choice(list(profiles().values())))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
        read = read_profile(bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data))
        found.add(read.problem)
        if read.table is not None:
            to_srgb(grid()[:1].copy(), read.table)  # an index out of range would raise or wrap
            assert -24576 <= read.table.min(axis=2).sum(axis=1).min() < read.table.max(axis=2).sum(axis=1).max() < 40960
    assert {None, "damaged"} <= found


def test_curves_of_square_roots_are_powers() -> None:
    """The exponent is in units of 2^-16; NumPy's power is the oracle."""
    for exponent in (1, 65536, 117965, 157286, 16 << 16):
        curve = b"para" + bytes(8) + exponent.to_bytes(4)
        read = read_profile(profile(named("x"), DISPLAY_P3, [SRGB_CURVE, SRGB_CURVE, curve]))
        assert read.table is not None
        light = (np.arange(256) / 255) ** (exponent / 65536)  # of blue, in every output
        blue = read.table[2, 2] / read.table[2, 2, 255]
        assert np.abs(blue - light).max() < 1e-4


def test_rule_of_a_run() -> None:
    raw = {"size": 96, "mean": [1, 2, 3], "std": [4, 5, 6], "resize": Preprocess.resize, "crop": Preprocess.crop}
    assert Preprocess.from_dict(raw).colour == AS_STORED and "colour" not in Preprocess.from_dict(raw).document()
    new = Preprocess.from_dict({**raw, "colour": SRGB})
    assert new.document()["colour"] == SRGB and Preprocess.from_dict(new.document()) == new
    with pytest.raises(DataError, match="colour"):
        Preprocess.from_dict({**raw, "colour": "linear"})
