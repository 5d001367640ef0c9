"""Golden vectors: synthetic images with reference logits, replayed by a laptop, a Pi and a phone alike.

They show no patient, so they may travel with the model. Some carry their source pixels at odd sizes, so
that a replay tests resizing too. They are drawn in few flat colours: as sharp at the edges as any image, and a
tenth of the bytes.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from skinedge.data.synth import draw
from skinedge.errors import DataError
from skinedge.preprocess import Pixels, prepare

COUNT = 64
WITH_SOURCE = 16
SEED = 20_260_101
COLOURS = 12
SOURCE_COLOURS = 8  # resizing mixes them: a prepared source has hundreds


@dataclass(frozen=True)
class Golden:
    """pixels: (64, S, S, 3) uint8, prepared; sources: image index -> (H, W, 3) uint8 before preparation;
    logits: (64, C) float32 of the merged model in PyTorch, eager, fp32, CPU."""

    pixels: Pixels
    sources: dict[int, Pixels]
    logits: NDArray[np.float32]


def draw_golden(size: int) -> tuple[Pixels, dict[int, Pixels]]:
    """The 64 images at `size`, and the sources of the first 16.

    The sources' sides run from half to three times the model's, odd, portrait and landscape.
    """
    rng = np.random.default_rng(SEED)
    pixels, sources = [], {}
    for index in range(COUNT):
        if index < WITH_SOURCE:
            height, width = (int(side) | 1 for side in rng.integers(max(32, size // 2), 3 * size, 2))
            sources[index] = flattened(draw(SEED + index, index % 7, height, width), SOURCE_COLOURS)
            pixels.append(prepare(sources[index], size))
        else:
            pixels.append(flattened(draw(SEED + index, index % 7, size, size), COLOURS))
    return np.stack(pixels), sources


def flattened(pixels: Pixels, colours: int) -> Pixels:
    """The image in at most so many colours, its grain removed: what compresses well. (H, W, 3) uint8, as given."""
    smooth = Image.fromarray(pixels).filter(ImageFilter.MedianFilter(7))
    few = smooth.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return np.asarray(few.convert("RGB"), dtype=np.uint8)


def save(path: Path, golden: Golden) -> None:
    """Write golden.npz."""
    indices = sorted(golden.sources)
    named = {f"source_{place:02d}": golden.sources[index] for place, index in enumerate(indices)}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream,
            pixels=golden.pixels,
            logits=golden.logits,
            source_index=np.array(indices, dtype=np.int64),
            **named,  # type: ignore[arg-type]
        )


def load(path: Path) -> Golden:
    """Read golden.npz.

    Raises: DataError when it is not one.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            sources = {
                int(index): archive[f"source_{place:02d}"] for place, index in enumerate(archive["source_index"])
            }
            return Golden(archive["pixels"], sources, archive["logits"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"not a file of golden vectors ({error})", where=str(path)) from None
