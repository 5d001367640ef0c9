"""Golden vectors: synthetic images with reference logits, replayed by a laptop, a Pi and a phone alike.

They show no patient, so they may travel with the model. Some carry their source pixels at odd sizes, so
that a replay tests resizing too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.data.synth import draw
from skinedge.errors import DataError
from skinedge.preprocess import Pixels, prepare

COUNT = 64
WITH_SOURCE = 16
SEED = 20_260_101


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
            height, width = (int(side) | 1 for side in rng.integers(size // 2, 3 * size, 2))
            sources[index] = draw(SEED + index, index % 7, height, width)
            pixels.append(prepare(sources[index], size))
        else:
            pixels.append(prepare(draw(SEED + index, index % 7, size, size), size))
    return np.stack(pixels), sources


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
        with np.load(path, allow_pickle=False) as archive:
            sources = {
                int(index): archive[f"source_{place:02d}"] for place, index in enumerate(archive["source_index"])
            }
            return Golden(archive["pixels"], sources, archive["logits"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"not a file of golden vectors ({error})", where=str(path)) from None
