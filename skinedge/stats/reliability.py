"""How far the confidence of predictions is from their accuracy: reliability diagram and expected calibration error.

Throughout: labels: (N,) int64, class indices; probabilities: (N, C), rows sum to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats.metrics import ratio

BINS = 15  # of equal width, from 0 to 1

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram of the top class: (B,) float64 for B bins of the confidence, of equal width.

    edges: (B + 1,), 0 to 1, a bin holds its upper edge; share: of the images' weight; confidence, accuracy: means
    within the bin, NaN if it is empty; ece: expected calibration error, the sum of share * |accuracy - confidence|
    (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, arXiv:1706.04599), NaN for no images.
    """

    edges: Floats
    share: Floats
    confidence: Floats
    accuracy: Floats
    ece: float


def reliability(labels: Array, probabilities: Array, weights: Array | None = None) -> Reliability:
    """Compute the reliability diagram of the top class and its expected calibration error.

    weights: (N,), one per image; None: all 1. The error's sums are rounded in another order than those of
    `weighted_ece`, so the two agree but for the last bits.
    """
    confidence, edges, index = _binned(probabilities)
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    right = probabilities.argmax(axis=1) == labels
    total, confident, hits = (np.bincount(index, weight * v, BINS) for v in (np.ones(len(labels)), confidence, right))
    weight_sum: float = total.sum()
    share: Floats = total / weight_sum if weight_sum else total.astype(np.float64)
    mean, accurate = ratio(confident, total), ratio(hits, total)
    ece = float(np.nansum(share * np.abs(accurate - mean))) if weight_sum else math.nan
    return Reliability(edges, share, mean, accurate, ece)


def weighted_ece(labels: Array, probabilities: Array, weights: Floats, prior: Array | None) -> tuple[Floats, Floats]:
    """Expected calibration error with the classes as they come, and with the classes weighted to `prior`, (R,) each.

    prior: (C,), the share of each class; None: the second is NaN. `reliability` has the definition.
    """
    classes = probabilities.shape[1]
    confidence, _, index = _binned(probabilities)
    excess = (probabilities.argmax(axis=1) == labels) - confidence
    cells = np.eye(classes * BINS)[labels * BINS + index] * excess[:, None]
    sums = (weights @ cells).reshape(-1, classes, BINS)
    counts = weights @ np.eye(classes)[labels]
    error = ratio(np.abs(sums.sum(axis=1)).sum(axis=1), counts.sum(axis=1))
    if prior is None:
        return error, np.full(len(weights), math.nan)
    image_weights = ratio(np.broadcast_to(prior, counts.shape), counts)  # of one image, by its class
    present = np.where(counts > 0, prior, 0).sum(axis=1)
    shifted = np.abs((np.nan_to_num(image_weights)[:, :, None] * sums).sum(axis=1)).sum(axis=1)
    return error, ratio(shifted, present)


def prior_weights(labels: Array, prior: Array) -> Floats:
    """Weight the images so that the share of each class that occurs follows `prior` (C,): (N,), mean 1."""
    counts = np.bincount(labels, minlength=len(prior))
    weights: Floats = np.asarray(prior, dtype=np.float64)[labels] / counts[labels]
    return weights / weights.mean() if len(weights) else weights


def _binned(probabilities: Array) -> tuple[Floats, Floats, Indices]:
    """Confidence of each image (N,), edges of the bins (B + 1,), and the bin of each image (N,)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)
    return confidence, edges, np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, BINS - 1)
