"""Every mode and container that Pillow reads gives the right pixels or a one-line error; values of up to 16 bits."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms

from skinedge.core import remarks
from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image

HEIGHT, WIDTH = 30, 40
y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
COLOURS = np.stack([x * 255 // (WIDTH - 1), y * 255 // (HEIGHT - 1), (x + y) * 3], axis=-1).astype(np.uint8)
GREY = COLOURS[..., 2]


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def png(values: np.ndarray, colour_type: int) -> bytes:
    """Encode (H, W, C) uint16 as a 16-bit PNG, which Pillow writes only for grey."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(
    values: np.ndarray,
    order: str = "<",
    compression: int = 1,
    bits: int = 16,
    content: bytes = b"",
    signed: bool = False,
    photometric: int = 0,
) -> bytes:
    """Encode (H, W, C) as a TIFF with `bits` bits per value. content: the encoded pixels, if not 16 bits."""
    height, width, channels = values.shape
    content = content or values.astype(f"{order}u2").tobytes()
    content = zlib.compress(content) if compression == 8 else content
    extra = struct.pack(f"{order}{channels}H", *[bits] * channels)
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, channels, bits if channels == 1 else 8 + len(content)),
        259: (3, 1, compression),
        262: (3, 1, photometric or (2 if channels >= 3 else 1)),
        273: (4, 1, 8),
        277: (3, 1, channels),
        278: (4, 1, height),
        279: (4, 1, len(content)),
        **({338: (3, 1, 2)} if channels == 4 and not photometric else {}),
        **({339: (3, 1, 2)} if signed else {}),
    }
    directory = struct.pack(f"{order}H", len(tags))
    for tag, (kind, count, value) in tags.items():
        form = "HHIHxx" if kind == 3 and count == 1 else "HHII"
        directory += struct.pack(f"{order}{form}", tag, kind, count, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(content) + len(extra))
    return head + content + extra + directory + bytes(4)


def bilevel(image: Image.Image) -> Image.Image:
    return image.convert("1", dither=Image.Dither.NONE)


def cmyk(image: Image.Image) -> Image.Image:
    return image.convert("CMYK")


def lab(image: Image.Image) -> Image.Image:
    profiles = [ImageCms.createProfile(space) for space in ("sRGB", "LAB")]
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


def with_alpha(mode: str) -> Callable[[Image.Image], Image.Image]:
    def make(image: Image.Image) -> Image.Image:
        opaque = Image.new("L", image.size, 255)
        return Image.merge(mode, [*image.convert(mode[:-1]).split(), opaque])

    return make


RGB, LUMA = Image.fromarray(COLOURS), np.asarray(Image.fromarray(COLOURS).convert("L"))
# mode -> (how to make it of the colour image, containers, pixels, largest difference)
MODES: dict[str, tuple[Callable[[Image.Image], Image.Image], str, np.ndarray, int]] = {
    "1": (bilevel, "PNG BMP TIFF GIF", np.asarray(bilevel(RGB).convert("RGB")), 0),
    "L": (lambda image: image.convert("L"), "PNG BMP TIFF GIF JPEG WEBP", three(LUMA), 8),
    "LA": (with_alpha("LA"), "PNG TIFF", three(LUMA), 0),
    "P": (lambda image: Image.fromarray(GREY).convert("P"), "PNG BMP TIFF GIF", three(GREY), 0),
    "RGB": (lambda image: image, "PNG BMP TIFF", COLOURS, 0),
    "RGB, lossy": (lambda image: image, "JPEG WEBP", COLOURS, 24),
    "RGBA": (with_alpha("RGBA"), "PNG TIFF BMP", COLOURS, 0),
    "CMYK": (cmyk, "TIFF JPEG", np.asarray(cmyk(RGB).convert("RGB")), 24),
    "YCbCr": (lambda image: image.convert("YCbCr"), "JPEG TIFF", COLOURS, 24),
    "LAB": (lab, "TIFF", COLOURS, 36),
    "I;16": (lambda image: Image.fromarray(GREY.astype(np.uint16) * 257), "PNG TIFF", three(GREY), 0),
    "I": (lambda image: Image.fromarray(GREY.astype(np.int32) * 257), "TIFF", three(GREY), 0),
}
CASES = [(mode, container) for mode, (_, containers, *_) in MODES.items() for container in containers.split()]


@pytest.mark.parametrize(("mode", "container"), CASES)
def test_every_mode_in_every_container(mode: str, container: str) -> None:
    make, _, expected, most = MODES[mode]
    options = {"quality": 95, "subsampling": 0} if container == "JPEG" else {}
    pixels = load_image(encode(make(RGB), container, **options))
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and not remarks.take()
    assert np.abs(pixels.astype(int) - expected).max() <= most
    assert np.abs(pixels.astype(int) - expected).mean() <= most / 4


REFUSED = {
    "F": (encode(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "32-bit float pixels have no defined white"),
    "32-bit integers": (
        encode(Image.fromarray(GREY.astype(np.int32) << 20), "TIFF"),
        "grey values from 0 to .* have no defined black and white",
    ),
    "negative": (tiff(GREY[..., None].astype(int) - 99, signed=True), "grey values from -99 to .* have no defined"),
    "CMYK of 12 bits": (
        tiff(np.full((4, 4, 4), 4095), photometric=5),
        "16-bit values of this kind use a part of their range only",
    ),
    "strip": (encode(Image.new("L", (3000, 100)), "PNG"), "3000 x 100 pixels is more than 20 times as long as wide"),
    "truncated JPEG": (encode(RGB, "JPEG", quality=95)[:-400], "unreadable image"),
    "truncated progressive JPEG": (encode(RGB, "JPEG", progressive=True)[:-300], "unreadable image"),
    "truncated PNG": (encode(RGB, "PNG")[:100], "unreadable image"),
    "AVIF": (encode(RGB, "AVIF"), "not an image in a supported format"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_right_pixels_is_refused_in_one_line(kind: str) -> None:
    data, words = REFUSED[kind]
    with pytest.raises(DataError, match=words) as caught:
        load_image(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3000, 200), (150, 3000)])
@pytest.mark.parametrize("container", ["PNG", "JPEG", "TIFF"])
def test_small_and_long_images(size: tuple[int, int], container: str) -> None:
    pixels = load_image(encode(Image.new("RGB", size, (10, 200, 30)), container))
    assert pixels.shape == (size[1], size[0], 3)
    assert np.abs(pixels.astype(int) - (10, 200, 30)).max() <= (3 if container == "JPEG" else 0)


@pytest.mark.parametrize("container", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(container: str) -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if container == "WEBP" else {}
    pixels = load_image(encode(frames[0], container, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(pixels, np.full((5, 6, 3), (255, 0, 0)))


BITS = (8, 10, 12, 14, 16)
CONTAINERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "PNG grey": lambda values: png(values[..., :1], 0),
    "PNG grey, alpha": lambda values: png(values[..., [0, 3]], 4),
    "PNG colours": lambda values: png(values[..., :3], 2),
    "PNG colours, alpha": lambda values: png(values, 6),
    "TIFF grey": lambda values: tiff(values[..., :1]),
    "TIFF grey, big-endian": lambda values: tiff(values[..., :1], ">"),
    "TIFF colours": lambda values: tiff(values[..., :3]),
    "TIFF colours, big-endian": lambda values: tiff(values[..., :3], ">"),
    "TIFF colours, compressed": lambda values: tiff(values[..., :3], compression=8),
    "TIFF colours, big-endian, compressed": lambda values: tiff(values[..., :3], ">", compression=8),
    "TIFF colours, alpha": lambda values: tiff(values),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("bits", BITS)
def test_values_are_scaled_by_the_smallest_depth_that_holds_them(bits: int, container: str) -> None:
    white = (1 << bits) - 1
    values = np.random.default_rng(bits).integers(0, white + 1, (12, 17, 4))
    values[0, 0] = white
    values[..., 3] = 65535
    channels = values[..., :3] if "colours" in container else values[..., [0, 0, 0]]
    expected = np.round(channels * 255 / white)
    if (bits == 16 and "colours" in container) or (container == "PNG grey, alpha" and bits == 16):
        expected = channels >> 8  # Pillow's own conversion, which earlier runs were made with
    np.testing.assert_array_equal(load_image(CONTAINERS[container](values)), expected)
    lines = remarks.lines(remarks.take())
    assert lines == ([] if bits == 16 else [f"1 image: {bits}-bit values in a file for 16 bits: scaled by {white}"])


def test_a_depth_that_the_file_states_needs_no_guess() -> None:
    """Two values of 12 bits in three bytes."""
    values = np.array([[[100], [900]], [[0], [1000]]])
    content = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in values.reshape(-1, 2).tolist())
    pixels = load_image(tiff(values, bits=12, content=content))
    np.testing.assert_array_equal(pixels, three(np.round(values[..., 0] * 255 / 4095)))
    assert not remarks.take()


def test_black_is_not_guessed_to_be_anything() -> None:
    for container in ("PNG grey", "PNG colours", "TIFF colours"):
        assert not load_image(CONTAINERS[container](np.zeros((8, 8, 4), int))).any() and not remarks.take()


def test_transparency_of_dark_colours_keeps_its_range() -> None:
    values = np.full((4, 4, 4), 4095)
    values[..., :3] //= 2
    values[0, 0, :3], values[..., 3] = 4095, 32768
    half = 128 / 255
    expected = np.round(2047 / 4095 * 255) * half + 255 * (1 - half)
    assert np.abs(load_image(png(values, 6))[1:] - expected).max() <= 1
    remarks.take()


def test_an_image_counts_once_for_each_fact() -> None:
    one, other = (png(np.full((8, 8, 1), value), 0) for value in (4000, 3000))
    for data in (one, other, one):
        load_image(data)
    load_image(png(np.full((8, 8, 1), 900), 0))
    assert remarks.lines(remarks.take()) == [
        "2 images: 12-bit values in a file for 16 bits: scaled by 4095",
        "1 image: 10-bit values in a file for 16 bits: scaled by 1023",
    ]
    assert not remarks.take() and sys.byteorder in ("little", "big")
