"""Frames in heatmaps: rings of evidence along the border of the image, an effect of the network's zero padding.

Each convolution sees zeros beyond the border, so the features of the outer cells differ from those inside, whatever the
image shows. A network that was trained little has its strongest evidence there (docs/explain.md has measurements).

The browser page (web/page/frames.js) and the Android app (core/Frames.kt) have the same rule for one map; all three
replay tests/frame_vectors.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics

RINGS = ("outermost ring of cells", "second ring of cells from the border")
HOT = 0.5  # of the strongest cell
SIDES = 3  # of a ring's four; a spot at the border has two at most


def rings(height: int, width: int) -> NDArray[np.int64]:
    """Return (height, width) int64: how many cells lie between each cell and the border of the map."""
    down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum(down[:, None], across[None])


def frame_ring(heatmap: NDArray[Any]) -> int | None:
    """Return the index of the ring in RINGS that is a frame in one map; None where none is.

    A ring is a frame where hot cells, with at least HOT of the strongest cell's value, lie in it more often than by
    chance, as in `frame_warning`, and on at least SIDES of its sides, corners left out.

    Args:
        heatmap: (H, W), evidence for a class; only positive values count.
    """
    if not heatmap.max() > 0:
        return None
    hot, depth = heatmap >= HOT * heatmap.max(), rings(*heatmap.shape)
    for ring in range(len(RINGS)):
        inside = hot[ring : hot.shape[0] - ring, ring : hot.shape[1] - ring]
        if inside.size == 0:
            return None
        sides = (inside[0, 1:-1], inside[-1, 1:-1], inside[1:-1, 0], inside[1:-1, -1])
        around = sum(bool(side.any()) for side in sides) >= SIDES
        if around and _more_than_chance(int(hot[depth == ring].sum()), int(hot.sum()), depth == ring):
            return ring
    return None


def frame_warning(maps: Sequence[NDArray[Any]]) -> str | None:
    """Warn where maps have their strongest cell in one of RINGS more often than by chance; None where they do not.

    More often: the lower end of Wilson's 95 % interval lies above the ring's share of the cells.

    Args:
        maps: (H, W) each, all of one size; those without positive values do not count.
    """
    positive = [heatmap for heatmap in maps if heatmap.max() > 0]
    if not positive:
        return None
    depth = rings(*positive[0].shape)
    strongest = np.array([depth.flat[heatmap.argmax()] for heatmap in positive])
    for ring, name in enumerate(RINGS):
        hits = int((strongest == ring).sum())
        if _more_than_chance(hits, len(positive), depth == ring):
            return (
                f"Frames: in {hits} of {len(positive)} of these maps the strongest cell lies in the {name}, which has "
                f"{float((depth == ring).mean()):.0%} of the cells. Such a frame comes from the zero padding of the "
                "network's convolutions, not from the skin."
            )
    return None


def _more_than_chance(hits: int, n: int, ring: NDArray[np.bool_]) -> bool:
    return metrics.wilson(hits, n)[0] > float(ring.mean())
