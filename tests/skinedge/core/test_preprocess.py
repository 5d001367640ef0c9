"""Common kinds of image files, and the resizing rule against independent implementations."""

from __future__ import annotations

import io
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import DataError, SkinedgeError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Preprocess, prepare

ORIENTATION = 0x0112


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def colours(height: int = 20, width: int = 30) -> np.ndarray:
    """Return a smooth image without symmetry, so that all its orientations differ."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (width + height)], axis=-1).astype(np.uint8)


# EXIF orientation -> how a viewer turns the stored array, by the EXIF standard ("row 0 is the visual ...").
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_applied_once(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(Image.fromarray(colours()), kind, exif=exif.tobytes(), **options)
    np.testing.assert_array_equal(load_image(data), UPRIGHT[orientation](colours()))


def test_jpeg_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    turned = load_image(encode(Image.fromarray(colours()), "JPEG", exif=exif.tobytes(), quality=95))
    assert turned.shape == (30, 20, 3)
    assert np.abs(turned.astype(int) - np.rot90(colours(), -1)).mean() < 3


def test_invalid_exif_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 99
    assert load_image(encode(Image.fromarray(colours()), "JPEG", exif=exif.tobytes())).shape == (20, 30, 3)


def test_cmyk_is_converted_to_rgb() -> None:
    cmyk = Image.new("CMYK", (8, 6), (0, 255, 255, 0))  # no cyan: red
    pixels = load_image(encode(cmyk, "JPEG", quality=95))
    assert pixels.shape == (6, 8, 3)
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 12


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    pixels = load_image(encode(Image.fromarray(values), "PNG"))
    np.testing.assert_array_equal(pixels, np.repeat([[[0], [1], [128], [255]]], 3, axis=2))


def test_palette_transparency_and_alpha_are_blended_onto_white() -> None:
    rgba = np.zeros((4, 6, 4), dtype=np.uint8)
    rgba[:, :3] = (10, 20, 30, 255)
    expected = np.full((4, 6, 3), 255)
    expected[:, :3] = (10, 20, 30)
    np.testing.assert_array_equal(load_image(encode(Image.fromarray(rgba), "PNG")), expected)
    palette = Image.fromarray(np.repeat([[0, 1]], 3, axis=1).repeat(2, axis=0).astype(np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 100, 0])
    pixels = load_image(encode(palette, "PNG", transparency=1))
    np.testing.assert_array_equal(pixels[:, 0], [(10, 20, 30)] * 2)
    np.testing.assert_array_equal(pixels[:, -1], [(255, 255, 255)] * 2)


def test_half_transparent_pixel_is_blended_with_white() -> None:
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    np.testing.assert_array_equal(load_image(encode(half, "PNG")), [[[127, 127, 127]]])


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_images_have_three_equal_channels(mode: str) -> None:
    pixels = load_image(encode(Image.new("L", (5, 4), 255).convert(mode), "PNG"))
    np.testing.assert_array_equal(pixels, np.full((4, 5, 3), 255))


def test_only_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "blue")]
    pixels = load_image(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(pixels, np.full((5, 6, 3), (255, 0, 0)))


def test_text_file_named_jpg_is_refused_clearly(tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_text("not a picture")
    with pytest.raises(DataError, match=r"notes\.jpg: not an image in a supported format$"):
        load_image(path)


def test_truncated_image_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    data = encode(Image.fromarray(colours(200, 300)), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg: unreadable image"):
        load_image(path)


def test_missing_and_empty_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such image"):
        load_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="not an image"):
        load_image(b"")


def test_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    header = bytearray(encode(Image.new("1", (1, 1)), "BMP"))
    header[18:26] = (40_000).to_bytes(4, "little") * 2  # 1.6 gigapixels, by its header
    with pytest.raises(DataError, match=r"1600\.0 megapixels is larger than the limit of 50\.3$"):
        load_image(bytes(header))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damaged_bytes_raise_only_skinedge_errors(kind: str) -> None:
    rng = random.Random(0)
    data = encode(Image.fromarray(colours(16, 24)), kind)
    refused = 0
    for _ in range(150):
        broken = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.5 else data)
        for _ in range(3):
            if broken:
                broken[rng.randrange(min(len(broken), 200))] = rng.randrange(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about malformed EXIF in readable images
            try:
                assert load_image(bytes(broken)).dtype == np.uint8
            except SkinedgeError:
                refused += 1
    assert refused > 20


SHAPES = [(450, 600), (600, 450), (224, 224), (101, 77), (33, 500), (64, 65), (300, 300), (31, 47)]


@pytest.mark.parametrize("shape", SHAPES)
def test_prepare_agrees_with_torchs_antialiased_bilinear(shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    size, short = 64, min(shape)
    target = [int(np.floor(side * size / short + 0.5)) for side in shape]
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    resized = torch.nn.functional.interpolate(tensor, target, mode="bilinear", antialias=True, align_corners=False)[
        0
    ].permute(1, 2, 0)
    top, left = ((side - size) // 2 for side in target)
    expected = resized[top : top + size, left : left + size].numpy()
    assert np.abs(prepare(pixels, size) - expected).max() <= 1.01  # each of the two passes is rounded


def test_prepare_keeps_images_of_the_target_size() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    np.testing.assert_array_equal(prepare(pixels, 48), pixels)


def test_prepare_crops_the_centre() -> None:
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 200
    np.testing.assert_array_equal(prepare(pixels, 10), np.full((10, 10, 3), 200))


@pytest.mark.parametrize("shape", [(10, 60_000), (60_000, 10)])
def test_long_strip_is_refused_before_resizing(shape: tuple[int, int], tmp_path: Path) -> None:
    """Resizing it to 224 before the crop would give 224 x 1.3 million pixels."""
    strip = np.zeros((*shape, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="more than 20 times as long as wide"):
        prepare(strip, 224)
    Image.fromarray(strip).save(tmp_path / "strip.png")
    with pytest.raises(DataError, match=r"strip\.png: image of .* more than 20 times"):
        load_image(tmp_path / "strip.png")


def test_panorama_within_the_limit_is_accepted() -> None:
    assert prepare(load_image(encode(Image.new("RGB", (200, 10)), "PNG")), 32).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "change", [{"mean": [1, 2]}, {"mean": 3}, {"std": [0, 1, 1]}, {"size": None}, {"size": 0}, {"size": float("inf")}]
)
def test_malformed_preprocessing_rules_are_refused(change: dict[str, object]) -> None:
    raw = {"size": 96, "mean": [1, 2, 3], "std": [4, 5, 6], "resize": Preprocess.resize, "crop": Preprocess.crop}
    assert Preprocess.from_dict(raw).size == 96
    with pytest.raises(DataError, match="preprocessing rule"):
        Preprocess.from_dict({**raw, **change})


def test_known_rule_is_read_and_unknown_rule_is_refused() -> None:
    raw = {"size": 96, "mean": [1, 2, 3], "std": [4, 5, 6], "resize": "shorter-side-bilinear-antialias"}
    assert Preprocess.from_dict({**raw, "crop": "centre"}) == Preprocess(96, (1, 2, 3), (4, 5, 6))
    with pytest.raises(DataError, match="unknown preprocessing rule"):
        Preprocess.from_dict({**raw, "crop": "none"})
    with pytest.raises(DataError, match="keys"):
        Preprocess.from_dict(raw)
