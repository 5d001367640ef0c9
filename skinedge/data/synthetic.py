"""Generate synthetic dermoscopy-like photos: a painted lesion on skin, with pose, light, hair and gel.

They are labelled synthetic, and serve for demos, tests and golden vectors, never for evaluating a model.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from skinedge.core.errors import DataError
from skinedge.core.files import check_writable, disk_error, write_atomic
from skinedge.core.preprocess import Pixels
from skinedge.data.synthetic_lesions import PAINTERS, Canvas, Plane, blend, ramp, smooth_noise
from skinedge.system import folder_swap
from skinedge.system.progress import bar

LABELS = tuple(sorted(PAINTERS))
MARKER = "SYNTHETIC.json"
_SMALLEST, _LARGEST = 32, 4096  # pixels of a photo's sides
_MAX_CANVAS = 384  # pixels of the square that a lesion is painted on


def draw(rng_seed: int, label_index: int, height: int, width: int) -> Pixels:
    """Draw one photo of one lesion; equal arguments give equal pixels.

    label_index: into LABELS (HAM10000's seven, sorted); height, width: 32..4096 pixels.
    Returns: (height, width, 3) uint8. Raises: DataError for a label or size out of range.
    """
    return draw_photo(Lesion(rng_seed, label_index), 0, height, width)


@dataclass(frozen=True)
class Lesion:
    """One lesion, with the same shape, colours and skin in each of its photos."""

    seed: int
    label_index: int


def draw_photo(lesion: Lesion, photo: int, height: int, width: int) -> Pixels:
    """Draw photo number `photo` of a lesion; pose, light and hairs vary with the number.

    Returns: (height, width, 3) uint8. Raises: DataError for a label or size out of range.
    """
    if not 0 <= lesion.label_index < len(LABELS):
        raise DataError(f"label index {lesion.label_index} is not in 0..{len(LABELS) - 1}")
    if min(height, width) < _SMALLEST or max(height, width) > _LARGEST:
        raise DataError(f"a synthetic image has sides of {_SMALLEST} to {_LARGEST} pixels, not {width} x {height}")
    body = np.random.default_rng([lesion.seed, lesion.label_index])
    skin_tone = _skin_tone(body)
    canvas = Canvas.create(body, min(_MAX_CANVAS, max(_SMALLEST, min(height, width))))
    layer = PAINTERS[LABELS[lesion.label_index]](canvas)
    layer[..., 3] *= np.float32(body.uniform(0.55, 1))  # some lesions are faint
    rng = np.random.default_rng([lesion.seed, lesion.label_index, photo + 1])  # a trailing 0 would not change the seed
    rgb = _skin(rng, skin_tone, height, width)
    warped = _pose(rng, layer, height, width)
    scene: Plane = rgb + (warped[..., :3] - rgb) * (warped[..., 3:] / np.float32(255))
    return _photograph(rng, scene)


def _skin_tone(rng: np.random.Generator) -> Plane:
    light = np.array([232, 188, 172], dtype=np.float32)
    dark = np.array([172, 122, 96], dtype=np.float32)
    tone = light + (dark - light) * rng.beta(1.2, 3) + rng.normal(0, 7, 3)
    return tone.astype(np.float32)


def _skin(rng: np.random.Generator, tone: Plane, height: int, width: int) -> Plane:
    """Draw skin with broad blotches, redness and fine furrows: (height, width, 3) float32."""
    shape = (height, width)
    slow, fine = smooth_noise(rng, shape, 4), smooth_noise(rng, shape, 40)
    furrows = 1 - ramp(np.abs(smooth_noise(rng, shape, 22)) - 0.12, 0.12)
    rgb: Plane = tone + 5 * slow[..., None] + 2.5 * fine[..., None] - 4 * furrows[..., None]
    return blend(rgb, (214, 120, 118), ramp(smooth_noise(rng, shape, 6) - 0.9, 0.8) * 0.3)


def _pose(rng: np.random.Generator, layer: Plane, height: int, width: int) -> Plane:
    """Rotate, scale and move the lesion layer onto a photo: (height, width, 4) float32."""
    side = layer.shape[0]
    scale = side / (min(height, width) * rng.uniform(0.72, 1.15))
    angle = rng.uniform(0, 2 * math.pi)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    shift_x, shift_y = (rng.normal(0, 0.05) * min(height, width) for _ in range(2))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    centre_x, centre_y = width / 2 + shift_x, height / 2 + shift_y
    matrix = (
        cos * mirror,
        sin,
        side / 2 - cos * mirror * centre_x - sin * centre_y,
        -sin * mirror,
        cos,
        side / 2 + sin * mirror * centre_x - cos * centre_y,
    )
    image = Image.fromarray(np.clip(layer, 0, 255).astype(np.uint8))
    moved = image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return np.asarray(moved, dtype=np.float32)


def _photograph(rng: np.random.Generator, rgb: Plane) -> Pixels:
    """Add hair, gel bubbles, light, vignetting and sensor noise to the scene."""
    height, width = rgb.shape[:2]
    if rng.random() < 0.45:
        hair = _hairs(rng, height, width)
        rgb = blend(rgb, (46, 32, 26) if rng.random() < 0.8 else (190, 160, 120), hair * rng.uniform(0.5, 0.9))
    if rng.random() < 0.25:
        rgb = blend(rgb, (250, 246, 244), _bubbles(rng, height, width) * 0.55)
    gain = rng.normal(1, 0.07) * rng.normal(1, 0.028, 3).astype(np.float32)
    rgb = rgb * gain.astype(np.float32)
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    corner = np.hypot(x * width, y * height).astype(np.float32) / np.float32(min(height, width))
    rgb = rgb * (1 - np.float32(rng.uniform(0, 0.22)) * np.clip(corner, 0, 1.5) ** 2)[..., None]
    if rng.random() < 0.1:
        rgb = blend(rgb, (10, 8, 10), ramp(corner - rng.uniform(1.05, 1.2), 0.03))
    rgb = rgb + rng.normal(0, rng.uniform(1, 3), rgb.shape[:2]).astype(np.float32)[..., None]
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _hairs(rng: np.random.Generator, height: int, width: int) -> Plane:
    layer = Image.new("L", (width * 2, height * 2))
    pen = ImageDraw.Draw(layer)
    short = min(height, width)
    for _ in range(int(rng.integers(3, 16))):
        x, y = rng.uniform(-0.1, 1.1, 2) * (width * 2, height * 2)
        angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.09)
        step = short * rng.uniform(0.08, 0.17)
        points = [(x, y)]
        for _ in range(10):
            angle += bend
            x, y = x + step * math.cos(angle), y + step * math.sin(angle)
            points.append((x, y))
        pen.line(points, fill=255, width=max(1, round(short * rng.uniform(0.006, 0.016))), joint="curve")
    return np.asarray(layer.reduce(2), dtype=np.float32) / np.float32(255)


def _bubbles(rng: np.random.Generator, height: int, width: int) -> Plane:
    layer = Image.new("L", (width * 2, height * 2))
    pen = ImageDraw.Draw(layer)
    short = min(height, width) * 2
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.uniform(0, 1, 2) * (width * 2, height * 2)
        radius = short * rng.uniform(0.012, 0.05)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], outline=200, width=max(1, round(radius * 0.16)))
        spot = radius * 0.25
        x, y = x - radius * 0.4, y - radius * 0.4
        pen.ellipse([x - spot, y - spot, x + spot, y + spot], fill=255)
    return np.asarray(layer.reduce(2), dtype=np.float32) / np.float32(255)


def write_dataset(out: Path, count: int, size: int, seed: int) -> int:
    """Draw `count` photos into a new folder in HAM10000's layout: images/CLASS/ID.jpg and metadata.csv.

    The count is divided evenly among the classes; a lesion has one to a few photos; MARKER marks the folder as
    synthetic. The folder is created atomically. Returns the number of lesions.
    Raises: DataError when `out` exists and is not empty, the count is too small to split (below 10 per class),
        or the size is out of range; BundleError when it cannot be written.
    """
    if count < 10 * len(LABELS):
        raise DataError(f"{count} images are too few to split", todo=f"Draw at least {10 * len(LABELS)}.")
    if not _SMALLEST <= size <= _LARGEST:
        raise DataError(f"the size must be {_SMALLEST} to {_LARGEST} pixels, not {size}")
    folder_swap.recover(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("exists and is not empty", where=str(out), todo="Name a new folder.")
    check_writable(out.parent, count * size * size // 2)  # a JPEG of this quality needs less than half a byte per pixel
    try:
        with folder_swap.new_folder(out) as folder, bar("drawing", count) as advance:
            return _write_images(folder, count, size, seed, advance)
    except OSError as error:
        raise disk_error(error, out) from None


def _write_images(root: Path, count: int, size: int, seed: int, advance: Callable[[int], None]) -> int:
    rng = np.random.default_rng(seed)
    rows = [("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")]
    lesion_ids = set()
    for index, label in enumerate(LABELS):
        folder = root / "images" / label
        folder.mkdir(parents=True)
        photos = len(range(index, count, len(LABELS)))
        lesion_count = max(min(photos, 10), photos // 2)
        for photo in range(photos):
            lesion = photo if photo < lesion_count else int(rng.integers(lesion_count))
            lesion_id = f"SYNTHETIC_S{seed}_L{index * 100_000 + lesion:06d}"
            image_id = f"SYNTHETIC_S{seed}_{len(rows):07d}"
            pixels = draw_photo(Lesion(seed * 100_000 + lesion, index), photo, size, size)
            Image.fromarray(pixels).save(folder / f"{image_id}.jpg", quality=90)
            rows.append((lesion_id, image_id, label, "synthetic", "", "unknown", "unknown"))
            lesion_ids.add(lesion_id)
            advance(1)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_atomic(root / "metadata.csv", text.getvalue())
    about = {"synthetic": True, "made_by": "skinedge data synth", "count": count, "size": size, "seed": seed}
    write_atomic(root / MARKER, json.dumps({**about, "notice": "Drawn by a program. Shows no real skin."}, indent=2))
    return len(lesion_ids)
