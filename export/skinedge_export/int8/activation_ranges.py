"""Activation ranges of int8 tensors: smallest to largest observed value, or clipped to lose less precision.

They depend on counts and extremes only, so the order of the images does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge_export.int8.finite import require_finite

BINS = 2048
LEVELS = 255  # steps of an 8-bit tensor
TAIL = 1e-4  # share of the values that 'percentile' clips, half at each end
SHRINKS = np.linspace(1, 0.3, 36)
METHODS = ("min-max", "percentile", "mse")
IMAGES = 32  # calibration images used for histograms

Range = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """Distribution of a tensor's values; counts: (BINS,) int64; low, high: smallest and largest value."""

    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def centres(self) -> NDArray[np.float64]:
        """Return the centres of the bins."""
        edges = np.linspace(self.low, self.high, BINS + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)


@dataclass
class ObservedTensors:
    """Values of an fp32 graph's tensors on the calibration images; None until a conversion has computed them.

    extremes: tensor name -> smallest and largest value, in the form that the format's quantizer takes.
    """

    extremes: Mapping[str, Any] | None = None
    histograms: Mapping[str, Histogram] | None = None


def count(images: Iterable[Mapping[str, NDArray[np.float32]]], limits: Mapping[str, Range]) -> dict[str, Histogram]:
    """Count a histogram of each tensor in `limits` (name -> smallest and largest value) over all images.

    images: each image's tensors by name, float32. Computes in float64: in float32 the width of a bin overflows for
    huge values, and its inverse for tiny ones.
    Raises: GateError for limits that are not finite.
    """
    counts = {name: np.zeros(BINS, np.int64) for name in limits}
    for name, pair in limits.items():
        require_finite(name, *pair)
    for tensors in images:
        for name, (low, high) in limits.items():
            if name in tensors and high > low:
                bins = (tensors[name].ravel().astype(np.float64) - low) * (BINS / (high - low))
                counts[name] += np.bincount(bins.clip(0, BINS - 1).astype(np.int64), minlength=BINS)
    return {name: Histogram(bin_counts, *limits[name]) for name, bin_counts in counts.items()}


def narrowed(histogram: Histogram, method: str) -> Range:
    """Return the range that a method chooses; it always contains zero, as int8 requires.

    method: 'min-max'; 'percentile': without the outermost TAIL of the values; 'mse': the range, shrunk towards zero,
    with the least squared error of rounding (step^2 / 12) plus clipping.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    total = histogram.counts.sum()
    if method == "min-max" or total == 0:
        return low, high
    if method == "percentile":
        share = np.cumsum(histogram.counts) / total
        edges = np.linspace(histogram.low, histogram.high, BINS + 1)
        first, last = np.searchsorted(share, TAIL / 2), np.searchsorted(share, 1 - TAIL / 2)
        return min(float(edges[first]), 0.0), max(float(edges[min(int(last) + 1, BINS)]), 0.0)
    values, weights = histogram.centres, histogram.counts / total

    def error(shrink: float) -> float:
        step = (high - low) * shrink / LEVELS
        clipped = values - values.clip(low * shrink, high * shrink)
        return float((weights * np.where(clipped == 0, step**2 / 12, clipped**2)).sum())

    best = min(SHRINKS, key=error)
    return float(low * best), float(high * best)
