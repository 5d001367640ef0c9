"""golden.npz: its content, its size, and its sensitivity to a wrong resize rule."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import BundleError
from skinedge.core.preprocess import Pixels, prepare
from skinedge.run import golden
from skinedge.run.golden import Golden

SIZE = 224


@pytest.fixture(scope="module")
def images() -> tuple[Pixels, dict[int, Pixels]]:
    return golden.draw_golden(SIZE)


def test_there_are_64_images_and_16_sources_of_odd_sizes(images: tuple[Pixels, dict[int, Pixels]]) -> None:
    pixels, sources = images
    assert pixels.shape == (64, SIZE, SIZE, 3) and pixels.dtype == np.uint8
    assert sorted(sources) == list(range(16))
    assert len({image.tobytes() for image in pixels}) == 64
    shapes = [source.shape[:2] for source in sources.values()]
    assert all(side % 2 for shape in shapes for side in shape)
    assert any(h > w for h, w in shapes) and any(h < w for h, w in shapes)
    assert min(map(min, shapes)) < SIZE < 2 * SIZE < max(map(min, shapes))  # enlarged, and reduced by over 2


def test_the_smallest_input_size_has_golden_images() -> None:
    pixels, sources = golden.draw_golden(32)
    assert pixels.shape == (64, 32, 32, 3) and len(sources) == 16


def test_the_file_is_small_and_lossless(images: tuple[Pixels, dict[int, Pixels]], tmp_path: Path) -> None:
    pixels, sources = images
    logits = np.random.default_rng(0).normal(size=(64, 7)).astype(np.float32)
    path = tmp_path / "golden.npz"
    golden.save(path, Golden(pixels, sources, logits))
    assert path.stat().st_size <= 1_000_000
    with zipfile.ZipFile(path) as archive:  # the features that the Java reader supports
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_DEFLATED}
        assert all(archive.open(name).read(6) == b"\x93NUMPY" for name in archive.namelist())
    again = golden.load(path)
    np.testing.assert_array_equal(again.pixels, pixels)
    np.testing.assert_array_equal(again.logits, logits)
    assert again.sources.keys() == sources.keys()
    for index, source in sources.items():
        np.testing.assert_array_equal(again.sources[index], source)
        np.testing.assert_array_equal(prepare(source, SIZE), pixels[index])


@pytest.mark.parametrize("wrong", [Image.Resampling.NEAREST, Image.Resampling.BICUBIC, Image.Resampling.BOX])
def test_every_source_detects_another_resize_rule(
    images: tuple[Pixels, dict[int, Pixels]], wrong: Image.Resampling
) -> None:
    """The reduced colours must not hide a wrong resize rule."""
    pixels, sources = images
    for index, source in sources.items():
        height, width = source.shape[:2]
        short = min(height, width)
        new_height, new_width = ((side * SIZE + short // 2) // short for side in (height, width))
        image = np.asarray(Image.fromarray(source).resize((new_width, new_height), wrong))
        top, left = (new_height - SIZE) // 2, (new_width - SIZE) // 2
        other = image[top : top + SIZE, left : left + SIZE]
        assert (other != pixels[index]).mean() > 0.01, index


@pytest.mark.parametrize("damage", ["cut", "flipped", "array", "empty"])
def test_a_damaged_file_is_an_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "golden.npz"
    image = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)
    golden.save(path, Golden(image, {0: image[0]}, np.zeros((64, 7), np.float32)))
    intact = path.read_bytes()
    if damage == "array":
        with path.open("wb") as stream:
            np.save(stream, image)
    else:
        flipped = intact[:300] + bytes(byte ^ 255 for byte in intact[300:400]) + intact[400:]
        path.write_bytes({"cut": intact[:400], "flipped": flipped, "empty": b""}[damage])
    with pytest.raises(BundleError, match="not a file of golden vectors"):
        golden.load(path)
