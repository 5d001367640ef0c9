"""Outputs of a model for a batch of images, whatever runtime ran it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outputs:
    """What a model said of N images.

    probabilities: (N, C) float32, rows sum to 1; logits: (N, C) float32 where the file has them;
    heatmaps: (N, H, W, C) float32 where the file has them: each class's activation map, the classifier's weights
    applied to the last features. Its mean over H and W, plus the classifier's bias, is the logits.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    heatmaps: NDArray[np.float32] | None = None
