"""Outputs of a model for a batch of images, the same type for every runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Outputs:
    """Outputs for N images and C classes; logits and heatmaps are None if the file does not output them.

    probabilities: (N, C) float32, rows sum to 1; logits: (N, C) float32; heatmaps: (N, H, W, C) float32, class
    activation maps: the classifier's weights applied to the last features. Their mean over H and W, plus the
    classifier's bias, is the logits.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    heatmaps: NDArray[np.float32] | None = None
