"""Draw the picture of `skinedge explain`: the image at the model's input size, beside it the image under its heatmap.

Needs Pillow only: devices that run models may lack matplotlib.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from skinedge.core.preprocess import Pixels

# Eleven even steps of matplotlib's 'inferno' (van der Walt and Smith 2015; CC0): brightness rises evenly, so that
# equal steps of evidence look equal, also without colour vision and in grey print.
STEPS = (
    (0, 0, 4),
    (22, 11, 57),
    (66, 10, 104),
    (106, 23, 110),
    (147, 38, 103),
    (188, 55, 84),
    (221, 81, 58),
    (243, 120, 25),
    (252, 165, 10),
    (246, 215, 70),
    (252, 255, 164),
)
MIN_SIDE = 448  # pixels; a panel is as large as the model's input, and at least this
OPACITY = 0.75  # of the colours in the upper half of the scale; below, they fade out
SCALE_GREY = 190  # under the colour bar; about as bright as skin
MARGIN, GAP, BAR = 28, 20, 16
INK, QUIET, PAPER = (28, 28, 30), (104, 104, 108), (255, 255, 255)


@dataclass(frozen=True)
class Words:
    """Text of the picture: title and subtitle above, one caption under each panel, notes below.

    evidence: meaning of the colours, between the ends of the scale; meta: name -> text, stored in the PNG.
    """

    title: str
    subtitle: str
    captions: tuple[str, str]
    evidence: str
    notes: Sequence[str]
    meta: Mapping[str, str]


def draw(pixels: Pixels, heatmap: NDArray[np.float32], words: Words) -> bytes:
    """Draw the PNG. pixels: (S, S, 3) uint8; heatmap: (H, W) float32, values below 0 are not coloured."""
    side = max(MIN_SIDE, len(pixels))
    shown = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    right = MARGIN + side + GAP
    panels_top = MARGIN + 66
    below = panels_top + side + 12
    notes_top = below + 78
    width, height = right + side + MARGIN, notes_top + 21 * len(words.notes) + MARGIN - 4
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    inside = width - 2 * MARGIN
    _write(pen, (MARGIN, MARGIN - 6), words.title, 28, INK, inside)
    _write(pen, (MARGIN, MARGIN + 32), words.subtitle, 16, QUIET, inside)
    sheet.paste(shown, (MARGIN, panels_top))
    sheet.paste(overlay(shown, heatmap), (right, panels_top))
    _write(pen, (MARGIN, below), words.captions[0], 14, QUIET, side)
    _write(pen, (right, below + BAR + 28), words.captions[1], 14, QUIET, side)
    _scale(sheet, (right, below), side, max(float(heatmap.max()), 0.0), words.evidence)
    for number, line in enumerate(words.notes):
        _write(pen, (MARGIN, notes_top + 21 * number), line, 14, QUIET, inside)
    return _png(sheet, words.meta)


def overlay(shown: Image.Image, heatmap: NDArray[np.float32]) -> Image.Image:
    """Lay the heatmap, clipped at 0 and enlarged, over the grey image, so that no colour is the skin's."""
    return Image.fromarray(tint(np.asarray(shown.convert("L")), enlarged(levels(heatmap), shown.size)))


def enlarged(level: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Interpolate a few cells to an image by cubic convolution (Keys 1981, a = -1/2), clipped to 0..1.

    Bilinear interpolation has kinks along the rows and columns of cells, which look like triangles and stars. The
    cubic keeps the value at the centre of each cell; a B-spline would be smoother, and lower each peak. The browser
    page (heatmap.js) and the Android app (Heatmap.kt) interpolate alike.

    Args:
        level: (H, W) float32 in 0..1.
        size: width and height in pixels.
    """
    cells = Image.fromarray(level).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(cells), 0, 1), dtype=np.float32)


def levels(heatmap: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale a heatmap to 0..1: 0 at and below 0, 1 at its maximum; all 0 without evidence."""
    positive = np.maximum(heatmap, 0)
    top = positive.max()
    return np.asarray(positive / top if top > 0 else positive, dtype=np.float32)


def tint(grey: NDArray[np.uint8], level: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay colours over grey: (H, W) uint8 and (H, W) float32 in 0..1 -> (H, W, 3) uint8; level 0 leaves the grey."""
    positions = np.linspace(0, 1, len(STEPS))
    colours = np.stack([np.interp(level, positions, channel) for channel in zip(*STEPS, strict=True)], axis=-1)
    opacity = (OPACITY * np.minimum(2 * level, 1))[..., None]
    return np.asarray((grey[..., None] * (1 - opacity) + colours * opacity).round(), dtype=np.uint8)


def _scale(sheet: Image.Image, corner: tuple[int, int], length: int, top: float, evidence: str) -> None:
    """Draw the colour bar, with the values of its ends and their meaning."""
    left, upper = corner
    level = np.broadcast_to(np.linspace(0, 1, length, dtype=np.float32), (BAR, length))
    sheet.paste(Image.fromarray(tint(np.full(level.shape, SCALE_GREY, dtype=np.uint8), level)), (left, upper))
    pen = ImageDraw.Draw(sheet)
    low, high = "low 0", f"high {top:.3g}"
    _write(pen, (left, upper + BAR + 6), low, 14, INK, length)
    high_width = _font(14).getlength(high)
    _write(pen, (left + length - high_width, upper + BAR + 6), high, 14, INK, length)
    room = length - 2 * (high_width + GAP)
    middle = _fitted(evidence, 14, room)
    _write(pen, (left + (length - _font(14).getlength(middle)) / 2, upper + BAR + 6), middle, 14, INK, room)


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, ink: tuple[int, int, int], room: float
) -> None:
    pen.text(at, _fitted(text, size, room), fill=ink, font=_font(size))


def _fitted(text: str, size: int, room: float) -> str:
    """Put the text on one line, cut to `room` pixels.

    File names may hold line breaks and bytes that are not text; neither can be drawn.
    """
    line, font = " ".join(text.encode("utf-8", "replace").decode().split()), _font(size)
    if font.getlength(line) <= room:
        return line
    fits = bisect_right(range(len(line)), room, key=lambda count: font.getlength(f"{line[:count]}...")) - 1
    return f"{line[: max(fits, 0)]}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(sheet: Image.Image, meta: Mapping[str, str]) -> bytes:
    info = PngInfo()
    for name, text in meta.items():
        info.add_itxt(name, text)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", pnginfo=info, optimize=True)
    return buffer.getvalue()
