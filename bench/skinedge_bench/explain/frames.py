"""Frames in heatmaps: rings of evidence along the border of the image, an effect of the network's zero padding.

Each convolution sees zeros beyond the border, so the features of the outer cells differ from those inside, whatever the
image shows. A network that was trained little has its strongest evidence there (docs/explain.md has measurements).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics

RINGS = ("outermost ring of cells", "second ring of cells from the border")


def rings(height: int, width: int) -> NDArray[np.int64]:
    """Return (height, width) int64: how many cells lie between each cell and the border of the map."""
    down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum(down[:, None], across[None])


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
        hits, share = int((strongest == ring).sum()), float((depth == ring).mean())
        if metrics.wilson(hits, len(positive))[0] > share:
            return (
                f"Frames: in {hits} of {len(positive)} of these maps the strongest cell lies in the {name}, which has "
                f"{share:.0%} of the cells. Such a frame comes from the zero padding of the network's convolutions, "
                "not from the skin."
            )
    return None
