"""The overlay's colours are matplotlib's, at the places of the heatmap."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image, ImageFont

from skinedge_bench.explain import overlay
from skinedge_bench.explain.overlay import MARGIN, OPACITY, Words, draw, enlarged, levels, tint

WORDS = Words("title", "subtitle", ("left", "right"), "evidence for mel", ("a note", "another"), {"skinedge": "{}"})
SKIN = np.full((64, 64, 3), (200, 150, 130), dtype=np.uint8)


def drawn(heatmap: np.ndarray, pixels: np.ndarray = SKIN, words: Words = WORDS) -> np.ndarray:
    content = draw(pixels, heatmap.astype(np.float32), words)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def panels(sheet: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    side = (sheet.shape[1] - 2 * MARGIN - overlay.GAP) // 2
    top = MARGIN + 66
    left, right = MARGIN, MARGIN + side + overlay.GAP
    return sheet[top : top + side, left : left + side], sheet[top : top + side, right : right + side]


def test_colours_are_those_of_inferno_over_grey() -> None:
    level = np.linspace(0, 1, 101, dtype=np.float32)[None]
    tinted = tint(np.full(level.shape, 90, dtype=np.uint8), level).astype(float)
    opacity = OPACITY * np.minimum(2 * level, 1)[..., None]
    expected = 90 * (1 - opacity) + opacity * 255 * colormaps["inferno"](level)[..., :3]
    assert np.abs(tinted - expected).max() < 8  # eleven steps, between them straight lines
    assert (tint(np.arange(256, dtype=np.uint8)[None], np.zeros((1, 256), np.float32)) == np.arange(256)[:, None]).all()


@pytest.mark.parametrize(("row", "column"), [(0, 6), (5, 1)])
def test_the_hottest_place_is_that_of_the_heatmap(row: int, column: int) -> None:
    heatmap = np.zeros((7, 7))
    heatmap[row, column] = 3.0
    _, right = panels(drawn(heatmap))
    heat = right[..., 0] - right[..., 2]  # yellow against grey
    at = np.argwhere(heat == heat.max()).mean(axis=0) / len(right) * 7
    assert np.abs(at - [row + 0.5, column + 0.5]).max() < 0.35
    far = panels(drawn(heatmap))[1][np.ix_([447 * (row < 3)], [447 * (column < 3)])].reshape(3)
    assert far.max() == far.min()  # grey: no evidence, no colour


def test_interpolation_keeps_cells_has_no_kinks_and_stays_in_range() -> None:
    """Bilinear interpolation turns a corner at each cell: its slope changes at once, by the whole difference."""
    level = 0.2 + 0.6 * np.random.default_rng(0).random((7, 7), dtype=np.float32)  # nothing to clip
    smooth = enlarged(level, (217, 217))  # 31 pixels a cell, an odd number: a pixel lies on each centre
    assert smooth.shape == (217, 217) and smooth.dtype == np.float32 and smooth.min() >= 0 and smooth.max() <= 1
    np.testing.assert_allclose(smooth[15::31, 15::31], level, atol=1e-6)
    bilinear = np.asarray(Image.fromarray(level).resize((217, 217), Image.Resampling.BILINEAR))
    bends = [np.abs(np.diff(values, 2, axis=axis)).max() for values in (smooth, bilinear) for axis in (0, 1)]
    assert max(bends[:2]) < max(bends[2:]) / 4


def test_interpolation_is_cubic_convolution() -> None:
    """Keys 1981, a = -1/2, written out here; what lies beyond the border is left out."""
    level = np.random.default_rng(1).random((5, 3), dtype=np.float32)

    def weights(cells: int, pixels: int) -> np.ndarray:
        distance = np.abs((np.arange(pixels) + 0.5)[:, None] * cells / pixels - 0.5 - np.arange(cells))
        near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
        raw = np.where(distance < 1, near, np.where(distance < 2, far, 0))
        return np.asarray(raw / raw.sum(axis=1, keepdims=True))

    expected = np.clip(weights(5, 40) @ level @ weights(3, 60).T, 0, 1)
    np.testing.assert_allclose(enlarged(level, (60, 40)), expected, atol=1e-5)


def test_the_left_panel_is_the_image() -> None:
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:32, :32] = (200, 0, 0)
    pixels[32:, 32:] = (0, 0, 200)
    left, _ = panels(drawn(np.ones((2, 2)), pixels))
    assert len(left) == 448
    for y, x, colour in ((100, 100, (200, 0, 0)), (100, 350, (0, 0, 0)), (350, 350, (0, 0, 200))):
        assert tuple(left[y, x]) == colour


def test_evidence_against_and_no_evidence_are_not_coloured() -> None:
    assert levels(np.array([[-4.0, 2.0, 1.0]], np.float32)).tolist() == [[0.0, 1.0, 0.5]]
    assert levels(np.array([[-4.0, -2.0]], np.float32)).tolist() == [[0.0, 0.0]]
    _, right = panels(drawn(np.full((3, 3), -1.0)))
    assert (right == right[:1, :1, :1]).all()


def test_the_ends_of_the_scale_are_written() -> None:
    """The same heatmap on another scale gives the same panels and another picture."""
    heatmap = np.arange(9.0).reshape(3, 3)
    small, large = drawn(heatmap), drawn(1000 * heatmap)
    for one, other in zip(panels(small), panels(large), strict=True):
        assert (one == other).all()
    assert (small != large).any()


def test_a_large_input_is_not_made_smaller_and_long_words_stay_inside() -> None:
    long = "m" * 2000
    words = replace(WORDS, title=long, subtitle=long, captions=(long, long), evidence=long, notes=(long,))
    sheet = drawn(np.ones((2, 2)), np.full((500, 500, 3), 128, dtype=np.uint8), words)
    left, right = panels(sheet)
    assert left.shape == right.shape == (500, 500, 3)
    assert (sheet[:, -MARGIN + 2 :] == 255).all() and (sheet[-10:] == 255).all()


@pytest.mark.parametrize("text", ["", "a", "two\nlines", "caf\udce9.jpg", "表" * 300, "w" * 37])
def test_text_is_cut_to_its_width_and_no_shorter(text: str) -> None:
    font = ImageFont.load_default(14)
    for room in (20.0, 100.0, 1e6):
        shown = overlay._fitted(text, 14, room)
        assert font.getlength(shown) <= room and "\n" not in shown
        if shown.endswith("..."):
            assert font.getlength(text[: len(shown) - 2] + "...") > room


def test_metadata_may_be_in_any_language() -> None:
    content = draw(SKIN, np.ones((2, 2), np.float32), replace(WORDS, title="表", meta={"skinedge": "ünï 表"}))
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.info["skinedge"] == "ünï 表"
