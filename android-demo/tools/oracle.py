"""Write Python's results for the shipped model's golden images and for difficult photos, for the desktop tests.

They are independent of the app: probabilities come from LiteRT, prepared pixels and overlays from Pillow.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from steps import emptied

from experiments import frame_vectors
from experiments.colour_vectors import VECTORS
from skinedge.core.image_file import load_image
from skinedge.core.input_format import HEATMAP
from skinedge.core.preprocess import LONGEST, Pixels, prepare
from skinedge.run import golden
from skinedge.run.file_card import card_name
from skinedge.run.run_directory import Bundle
from skinedge_bench.explain.overlay import overlay

SEED = 20_260_102
NOISE_SIDES = ((1, 1), (3, 2), (17, 300), (223, 224), (224, 224), (225, 224), (448, 449), (640, 480), (501, 1733))
TURNS = range(2, 9)  # values of the EXIF orientation
ORIENTATION = 0x0112


def write_oracle(bundle: Bundle, model: str, folder: Path) -> Path:
    """Write model, card, golden images and photos with Python's results into the folder, which is emptied first."""
    emptied(folder)
    for name in (model, card_name(model)):
        (folder / name).write_bytes(bundle.file(name).read_bytes())
    vectors = golden.load(bundle.file("golden.npz"))
    size = vectors.pixels.shape[1]
    probabilities, heatmaps = answers(bundle.file(model), vectors.pixels)
    best = probabilities.argmax(axis=1)
    maps = [heatmaps[index, :, :, best[index]] for index in range(len(heatmaps))]
    overlays = [overlay(Image.fromarray(image), heatmap) for image, heatmap in zip(vectors.pixels, maps, strict=True)]
    photos = list(cases(vectors))
    arrays = {
        "pixels.u8": vectors.pixels,
        "probabilities.f32": probabilities,
        "heatmaps.f32": heatmaps,
        "overlays.u8": np.stack([np.asarray(picture) for picture in overlays]),
        "photos.argb": np.concatenate([argb(photo).ravel() for photo, _ in photos]),
        "prepared.u8": np.stack([prepare(load_image(encoded(*photo)), size) for photo in photos]),
    }
    for name, values in arrays.items():
        (folder / name).write_bytes(np.ascontiguousarray(values).tobytes())
    index = {
        "model": model,
        "size": size,
        "photos": [{"width": p.shape[1], "height": p.shape[0], "orientation": turn} for p, turn in photos],
    }
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "colours.json").write_bytes(VECTORS.read_bytes())
    (folder / "frames.json").write_bytes(frame_vectors.VECTORS.read_bytes())
    return folder


def answers(model: Path, pixels: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run a .tflite file in LiteRT with one thread; return (N, C) probabilities and (N, H, W, C) heatmaps.

    pixels: (N, S, S, 3) uint8.
    """
    from skinedge_bench.runtimes.litert import runtime

    outputs = runtime.open(model, threads=1).run(pixels)
    if outputs.heatmaps is None:
        raise ValueError(f"{model} has no output '{HEATMAP}'")
    return np.asarray(outputs.probabilities, np.float32), np.asarray(outputs.heatmaps, np.float32)


def cases(vectors: golden.Golden) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield photos and their EXIF orientation: (H, W, 3) or, with transparency, (H, W, 4) uint8."""
    for source in vectors.sources.values():
        yield source, 1
    rng = np.random.default_rng(SEED)
    for height, width in NOISE_SIDES:
        yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8), 1
        yield rng.integers(0, 256, (height, width, 4), dtype=np.uint8), 1
    for height, width in ((12, 12 * LONGEST), (250 * LONGEST, 250)):
        yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8), 1
    for turn in TURNS:
        yield rng.integers(0, 256, (301, 400, 3), dtype=np.uint8), turn


def encoded(photo: NDArray[np.uint8], turn: int) -> bytes:
    """Encode the photo as a PNG with this EXIF orientation."""
    image, exif, buffer = Image.fromarray(photo), Image.Exif(), io.BytesIO()
    exif[ORIENTATION] = turn
    image.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def argb(photo: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Convert to (H, W) of 0xAARRGGBB, the pixel format of Android's bitmaps."""
    values = photo.astype(np.uint32)
    alpha = values[..., 3] if photo.shape[2] == 4 else np.full(photo.shape[:2], 255, np.uint32)
    return alpha << 24 | values[..., 0] << 16 | values[..., 1] << 8 | values[..., 2]
