"""Write tests/frame_vectors.json: heatmaps with the frame that Python, the web page and the app must all find in them.

    python -m experiments.frame_vectors

Each vector has the map's height and width, its values row by row, and the ring that is a frame (null where none is).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge_bench.explain.frames import frame_ring, rings

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "frame_vectors.json"
SEED, NOISY = 20_261_201, 30  # maps of noise for each size
SIZES = ((7, 7), (6, 9), (4, 4), (3, 3), (2, 2), (1, 1))


def vectors() -> list[dict[str, Any]]:
    """Return all vectors; the values are exact as float32."""
    rows = []
    for heatmap in maps():
        height, width = heatmap.shape
        rows.append({"height": height, "width": width, "values": heatmap.ravel().tolist(), "ring": frame_ring(heatmap)})
    return rows


def maps() -> Iterator[NDArray[np.float32]]:
    """Yield maps of noise, alone and with evidence along a ring, all of it or parts; and maps without evidence."""
    rng = np.random.default_rng(SEED)
    for height, width in SIZES:
        depth = rings(height, width)
        yield np.zeros((height, width), np.float32)
        yield np.full((height, width), -1, np.float32)
        yield np.ones((height, width), np.float32)
        for index in range(NOISY):
            noise = rng.integers(-64, 64, (height, width)) / 64
            kept = rng.random((height, width)) < rng.choice([0.2, 0.5, 1])
            yield (noise + 2 * ((depth == index % 3) & kept)).astype(np.float32)


def main() -> None:
    rows = ",\n".join(json.dumps(row) for row in vectors())
    VECTORS.write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    main()
