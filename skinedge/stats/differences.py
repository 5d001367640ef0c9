"""Differences between the outputs of a model file and those of the merged network in PyTorch.

reference_logits: (N, C) float32, from the merged network; outputs: of the file, for the same N images.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.outputs import Outputs

MIN_PROBABILITY = 1e-4

Array = NDArray[Any]


def centred_log_probabilities(probabilities: Array, keep: Array) -> NDArray[np.float64]:
    """Log-probabilities minus their mean over the classes in `keep`: the logits up to a constant per image.

    probabilities: (N, C); keep: (N, C) bool, at least one class per row; returns (N, C) float64, NaN
    outside `keep`. A probability of 0 in `keep` gives infinities.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64))
        mean = np.where(keep, logs, 0).sum(axis=1, keepdims=True) / keep.sum(axis=1, keepdims=True)
        return np.where(keep, logs - mean, math.nan)


def largest_difference(reference_logits: Array, outputs: Outputs) -> float:
    """Largest absolute difference of centred log-probabilities, and of logits if the file gives them.

    The former over the classes to which either side gives more than 1e-4. Infinite if an output is not finite.
    """
    if not all_finite(outputs):
        return math.inf
    logits = outputs.logits
    largest = 0.0 if logits is None else float(np.abs(logits.astype(np.float64) - reference_logits).max(initial=0))
    gap = np.abs(log_differences(reference_logits, outputs.probabilities))
    return max(largest, float(gap.max(initial=0))) if np.isfinite(gap).all() else math.inf


def log_differences(reference_logits: Array, probabilities: Array) -> NDArray[np.float64]:
    """Centred log-probabilities minus the reference's, of the classes to which either side gives more than 1e-4.

    Returns (K,) float64, image by image; not finite where a probability is 0 or not finite.
    """
    shifted = np.asarray(reference_logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    expected = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    keep = (expected > MIN_PROBABILITY) | (probabilities > MIN_PROBABILITY)
    actual = centred_log_probabilities(probabilities, keep)
    with np.errstate(invalid="ignore"):
        return np.asarray((actual - centred_log_probabilities(expected, keep))[keep], dtype=np.float64)


def all_finite(outputs: Outputs) -> bool:
    """Return True if all probabilities and logits are finite."""
    return bool(
        np.isfinite(outputs.probabilities).all() and (outputs.logits is None or np.isfinite(outputs.logits).all())
    )
