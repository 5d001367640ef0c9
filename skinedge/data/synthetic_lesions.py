"""Painters of synthetic lesions: one function per HAM10000 class, each returning an RGBA layer.

They loosely follow the textbook dermoscopic signs of each class (Argenziano et al., "Dermoscopy of pigmented skin
lesions: results of a consensus meeting via the Internet", 2003): distinguishable classes with overlaps and missing
signs, no claim to realism.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Plane = NDArray[np.float32]
AnyPlane = NDArray[np.floating[Any]]
Colour = tuple[float, float, float]
Strokes = Callable[[ImageDraw.ImageDraw, float], None]


@dataclass(frozen=True)
class Canvas:
    """The square that a lesion is painted on, and the lesion's random generator.

    side: in pixels; x, y: (side, side) float32 coordinates in -1..1; radius, angle: polar form.
    """

    rng: np.random.Generator
    side: int
    x: Plane
    y: Plane
    radius: Plane
    angle: Plane

    @classmethod
    def create(cls, rng: np.random.Generator, side: int) -> Canvas:
        """Create an empty canvas."""
        axis = ((np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1).astype(np.float32)
        x, y = np.meshgrid(axis, axis)
        return cls(rng, side, x, y, np.hypot(x, y).astype(np.float32), np.arctan2(y, x).astype(np.float32))

    def noise(self, cells: int) -> Plane:
        """Return smooth noise with about `cells` bumps across: (side, side) float32, mean 0, standard deviation 1."""
        return smooth_noise(self.rng, (self.side, self.side), cells)

    def fractal(self, cells: int) -> Plane:
        """Return the sum of three octaves of noise, coarse to fine: (side, side) float32."""
        total = self.noise(cells) + 0.6 * self.noise(cells * 2) + 0.4 * self.noise(cells * 4)
        return np.asarray(total / 1.25, dtype=np.float32)

    def patch(self, size: float, spread: float = 0.25) -> Plane:
        """Return a soft blotch (0..1) of radius about `size`, at a random point within `spread` of the middle."""
        px, py = self.rng.uniform(-spread, spread, 2)
        distance = np.hypot(self.x - px, self.y - py) + 0.12 * self.noise(5)
        return ramp(size - distance, 0.12)

    def strokes(self, paint: Strokes) -> Plane:
        """Return the coverage (0..1) of the strokes of `paint(pen, scale)`; `scale` is pen pixels per canvas unit."""
        layer = Image.new("L", (self.side * 2, self.side * 2))
        paint(ImageDraw.Draw(layer), float(self.side))
        return np.asarray(layer.reduce(2), dtype=np.float32) / np.float32(255)

    def dots(self, count: int, size: tuple[float, float], inside: Plane) -> Plane:
        """Draw up to `count` round dots with radii from `size`, where `inside` is positive; coverage 0..1."""
        centres = self.rng.uniform(-0.9, 0.9, (count, 2))
        radii = self.rng.uniform(*size, count)

        def paint(pen: ImageDraw.ImageDraw, scale: float) -> None:
            for (px, py), r in zip(centres, radii, strict=True):
                row, column = (int((p + 1) / 2 * self.side) for p in (py, px))
                if inside[row, column] > 0.02:
                    box = [(c + 1 + d) * scale for d in (-r, r) for c in (px, py)]
                    pen.ellipse(box, fill=255)

        return self.strokes(paint)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: int) -> Plane:
    """Return noise with about `cells` bumps across the shorter side: `shape` float32, mean 0, deviation about 1."""
    short = min(shape)
    grid = [max(2, round(side * cells / short)) + 2 for side in shape]
    small = Image.fromarray(rng.standard_normal(grid, dtype=np.float32))
    values = np.asarray(small.resize((shape[1], shape[0]), Image.Resampling.BICUBIC), dtype=np.float32)
    return np.asarray(values / 0.7, dtype=np.float32)


def ramp(value: AnyPlane, softness: float) -> Plane:
    """Map `value` smoothly to 0..1: 0 well below zero, 1 well above; `softness` is the width of the transition."""
    t: Plane = np.clip(value / (2 * softness) + 0.5, 0, 1).astype(np.float32)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def blend(rgb: AnyPlane, colour: Colour, weight: AnyPlane) -> Plane:
    """Blend `rgb` (H, W, 3) towards `colour` by `weight` (H, W) in 0..1."""
    return (rgb + (np.asarray(colour, dtype=np.float32) - rgb) * weight[..., None]).astype(np.float32)


def _fill(canvas: Canvas, colour: Colour) -> Plane:
    jitter = (canvas.rng.normal(0, 8, 3) + canvas.rng.normal(0, 18)).astype(np.float32)
    shade = np.asarray(colour, dtype=np.float32) + jitter
    return np.broadcast_to(shade, (canvas.side, canvas.side, 3)).astype(np.float32)


def _outline(canvas: Canvas, size: float, lobes: float, ragged: float) -> Plane:
    """Return the signed depth inside a random border (positive inside), in canvas units.

    lobes: strength of the broad bulges; ragged: strength of the fine notches.
    """
    rng = canvas.rng
    stretch = rng.uniform(0.8, 1.0)
    turn = rng.uniform(0, np.pi)
    bulge = sum(
        rng.normal(0, lobes / k) * np.cos(k * canvas.angle + np.float32(rng.uniform(0, 2 * np.pi))) for k in (2, 3, 5)
    )
    squeeze = 1 - (1 - stretch) * np.cos(canvas.angle - np.float32(turn)) ** 2
    reach = size * squeeze * (1 + bulge)
    depth = reach - canvas.radius + ragged * canvas.fractal(9)
    return np.asarray(np.minimum(depth, (0.97 - canvas.radius) * 1.5), dtype=np.float32)


def _network(canvas: Canvas, mesh: float) -> Plane:
    """Draw a pigment network: lines of a warped honeycomb, 0..1; `mesh` is the number of cells across."""
    warp_x, warp_y = (0.035 * canvas.noise(7) for _ in range(2))
    lattice = np.zeros_like(canvas.x)
    start = canvas.rng.uniform(0, np.pi)
    for k in range(3):
        angle = start + k * np.pi / 3
        along = (canvas.x + warp_x) * np.float32(np.cos(angle)) + (canvas.y + warp_y) * np.float32(np.sin(angle))
        lattice += np.cos(along * np.float32(mesh * np.pi))
    return (1 - ramp(lattice + 0.7, 0.55)).astype(np.float32)


def _branches(canvas: Canvas, trees: int) -> Plane:
    """Draw arborising vessels: thick stems that fork into thinner, wavy twigs; coverage 0..1."""
    rng = canvas.rng
    pending = []
    for _ in range(trees):
        angle = rng.uniform(0, 2 * np.pi)
        position = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.2, 0.6)
        pending.append((position, angle + np.pi + rng.normal(0, 0.5), 0.022, 3))
    lines: list[tuple[list[tuple[float, float]], float]] = []
    while pending:
        position, angle, width, level = pending.pop()
        points = [(float(position[0]), float(position[1]))]
        for _ in range(5):
            angle += rng.normal(0, 0.3)
            position = position + 0.07 * np.array([np.cos(angle), np.sin(angle)])
            points.append((float(position[0]), float(position[1])))
        lines.append((points, width))
        if level:
            pending += [(position, angle + side * rng.uniform(0.3, 0.8), width * 0.65, level - 1) for side in (-1, 1)]

    def paint(pen: ImageDraw.ImageDraw, scale: float) -> None:
        for points, width in lines:
            pen.line([((px + 1) * scale, (py + 1) * scale) for px, py in points], 255, max(1, round(width * scale)))

    return canvas.strokes(paint)


def _layer(rgb: AnyPlane, alpha: AnyPlane) -> Plane:
    return np.concatenate([rgb, np.clip(alpha, 0, 1)[..., None] * 255], axis=-1).astype(np.float32)


def _sometimes(canvas: Canvas, chance: float, low: float = 0.5, high: float = 1.0) -> float:
    """Draw the strength of an optional sign: `low` to `high` with probability `chance`, else 0."""
    return float(canvas.rng.uniform(low, high)) if canvas.rng.random() < chance else 0.0


def paint_nevus(canvas: Canvas) -> Plane:
    """Paint a symmetric brown lesion with a regular network that thins out at the border."""
    depth = _outline(canvas, canvas.rng.uniform(0.45, 0.75), 0.06, 0.02)
    rgb = _fill(canvas, (150, 92, 62))
    rgb = blend(rgb, (74, 42, 32), ramp(depth - canvas.rng.uniform(0.15, 0.45), 0.3) * canvas.rng.uniform(0.4, 0.95))
    rgb = blend(rgb, (66, 38, 30), _network(canvas, canvas.rng.uniform(22, 34)) * _sometimes(canvas, 0.85, 0.3, 0.7))
    dots = canvas.dots(60, (0.012, 0.025), depth)
    rgb = blend(rgb, (58, 34, 28), dots * _sometimes(canvas, 0.35, 0.4, 0.8)) + 6 * canvas.fractal(8)[..., None]
    return _layer(rgb, ramp(depth, 0.1) * 0.92)


def paint_melanoma(canvas: Canvas) -> Plane:
    """Paint an asymmetric lesion: several colours, notched border, off-centre blotch, blue-white veil, uneven dots."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.5, 0.72), 0.17, 0.034)
    rgb = _fill(canvas, (128, 80, 58))
    rgb = blend(rgb, (52, 33, 31), ramp(canvas.fractal(3) * 0.3 + rng.uniform(-0.15, 0.15), 0.4) * 0.85)
    rgb = blend(rgb, (176, 84, 78), canvas.patch(0.22, 0.45) * _sometimes(canvas, 0.6, 0.5, 0.8))
    rgb = blend(rgb, (24, 18, 24), canvas.patch(rng.uniform(0.18, 0.34), 0.35) * _sometimes(canvas, 0.85, 0.7, 0.95))
    rgb = blend(rgb, (122, 132, 162), canvas.patch(rng.uniform(0.18, 0.32), 0.35) * _sometimes(canvas, 0.75, 0.5, 0.85))
    network = _network(canvas, rng.uniform(14, 24)) * ramp(canvas.noise(3) * 0.5, 0.3)
    rgb = blend(rgb, (40, 24, 22), network * _sometimes(canvas, 0.7, 0.4, 0.8))
    rgb = blend(rgb, (22, 16, 20), canvas.dots(50, (0.012, 0.045), depth) * _sometimes(canvas, 0.7, 0.5, 0.9))
    return _layer(rgb + 8 * canvas.fractal(9)[..., None], ramp(depth, rng.uniform(0.05, 0.12)) * 0.95)


def paint_bcc(canvas: Canvas) -> Plane:
    """Paint a pearly pink lesion with arborising vessels, blue-grey ovoid nests and little brown."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.5, 0.78), 0.12, 0.035)
    rgb = _fill(canvas, (216, 148, 142))
    rgb = blend(rgb, (238, 206, 202), canvas.patch(rng.uniform(0.2, 0.4), 0.3) * _sometimes(canvas, 0.7, 0.4, 0.9))
    rgb = blend(rgb, (96, 78, 98), canvas.dots(24, (0.02, 0.07), depth) * _sometimes(canvas, 0.65, 0.5, 0.85))
    rgb = blend(rgb, (150, 40, 52), _branches(canvas, int(rng.integers(2, 5))) * _sometimes(canvas, 0.9, 0.55, 0.9))
    rgb = blend(rgb, (112, 58, 40), canvas.patch(0.14, 0.4) * _sometimes(canvas, 0.3, 0.5, 0.8))
    return _layer(rgb + 6 * canvas.fractal(8)[..., None], ramp(depth, 0.12) * 0.85)


def paint_bkl(canvas: Canvas) -> Plane:
    """Paint a stuck-on tan plaque with a sharp border, ridges (cerebriform), milia and comedo-like openings."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.5, 0.8), 0.13, 0.03)
    rgb = _fill(canvas, (168, 128, 98))
    rgb = blend(rgb, (118, 88, 74), ramp(canvas.fractal(3) * 0.4, 0.3) * rng.uniform(0.3, 0.9))
    ridges = 1 - ramp(np.abs(canvas.noise(int(rng.integers(7, 11)))) - 0.22, 0.16)
    rgb = blend(rgb, (84, 58, 46), ridges * _sometimes(canvas, 0.8, 0.4, 0.8))
    rgb = blend(rgb, (236, 222, 190), canvas.dots(50, (0.014, 0.032), depth) * _sometimes(canvas, 0.75, 0.6, 0.95))
    rgb = blend(rgb, (62, 40, 32), canvas.dots(36, (0.018, 0.036), depth) * _sometimes(canvas, 0.6, 0.6, 0.9))
    return _layer(rgb + 7 * canvas.fractal(10)[..., None], ramp(depth, 0.035) * rng.uniform(0.75, 0.95))


def paint_df(canvas: Canvas) -> Plane:
    """Paint a pale brown disc with a central white scar-like patch and a delicate rim network."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.5, 0.72), 0.05, 0.02)
    rgb = _fill(canvas, (186, 128, 106))
    rim = ramp(0.32 - depth, 0.15)
    rgb = blend(rgb, (124, 78, 60), _network(canvas, rng.uniform(24, 34)) * rim * _sometimes(canvas, 0.8, 0.4, 0.75))
    rgb = blend(rgb, (204, 116, 116), canvas.patch(0.4, 0.15) * _sometimes(canvas, 0.5, 0.3, 0.6))
    rgb = blend(rgb, (240, 222, 214), canvas.patch(rng.uniform(0.14, 0.24), 0.08) * _sometimes(canvas, 0.9, 0.6, 0.95))
    return _layer(rgb + 5 * canvas.fractal(8)[..., None], ramp(depth, 0.18) * 0.85)


def paint_akiec(canvas: Canvas) -> Plane:
    """Paint a scaly red patch ('strawberry') with pale follicle rings, yellow-white scale and dotted vessels."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.55, 0.82), 0.15, 0.06)
    rgb = _fill(canvas, (204, 112, 100))
    rgb = blend(rgb, (172, 82, 76), ramp(canvas.fractal(5) * 0.4, 0.3) * 0.6)
    follicles = _network(canvas, rng.uniform(14, 22))
    rgb = blend(rgb, (232, 178, 160), (1 - follicles) * _sometimes(canvas, 0.75, 0.35, 0.7))
    rgb = blend(rgb, (140, 38, 44), canvas.dots(110, (0.009, 0.018), depth) * _sometimes(canvas, 0.7, 0.5, 0.85))
    flakes = ramp(canvas.noise(22) * 0.4 + canvas.noise(6) * 0.3 - 0.5, 0.1)
    rgb = blend(rgb, (246, 232, 204), flakes * _sometimes(canvas, 0.85, 0.6, 0.95))
    rgb = blend(rgb, (138, 92, 66), canvas.patch(0.16, 0.5) * _sometimes(canvas, 0.35, 0.4, 0.8))
    return _layer(rgb + 8 * canvas.fractal(11)[..., None], ramp(depth, 0.16) * rng.uniform(0.65, 0.9))


def paint_vasc(canvas: Canvas) -> Plane:
    """Paint sharply bounded, closely packed red to violet lacunae."""
    rng = canvas.rng
    depth = _outline(canvas, rng.uniform(0.4, 0.66), 0.07, 0.02)
    shades: tuple[Colour, ...] = ((184, 30, 58), (150, 36, 92), (112, 36, 96))
    rgb = _fill(canvas, shades[int(rng.integers(3))])
    rgb = blend(rgb, (226, 130, 140), ramp(canvas.fractal(4) * 0.4, 0.25) * 0.5)
    lacunae = canvas.dots(int(rng.integers(30, 70)), (0.06, 0.13), depth)
    rgb = blend(rgb, (120, 14, 40), lacunae * rng.uniform(0.45, 0.8))
    rgb = blend(rgb, (44, 20, 60), canvas.patch(0.2, 0.25) * _sometimes(canvas, 0.4, 0.5, 0.9))
    return _layer(rgb + 5 * canvas.fractal(8)[..., None], ramp(depth, 0.05) * 0.94)


PAINTERS: dict[str, Callable[[Canvas], Plane]] = {
    "akiec": paint_akiec,
    "bcc": paint_bcc,
    "bkl": paint_bkl,
    "df": paint_df,
    "mel": paint_melanoma,
    "nv": paint_nevus,
    "vasc": paint_vasc,
}
