"""Which values an int8 tensor can hold: the smallest to the largest seen, or less where rare values cost too much.

All of it is counts and extremes, so the order of the images changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skinedge_export.int8.finite import require_finite

BINS = 2048
LEVELS = 255  # steps of an 8-bit tensor
TAIL = 1e-4  # share of the values that 'percentile' cuts, half at each end
SHRINKS = np.linspace(1, 0.3, 36)
METHODS = ("min-max", "percentile", "mse")
IMAGES = 32  # that histograms are counted on

Range = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """counts: (BINS,) int64 of the values between low and high, the smallest and the largest."""

    counts: NDArray[np.int64]
    low: float
    high: float

    @property
    def centres(self) -> NDArray[np.float64]:
        edges = np.linspace(self.low, self.high, BINS + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)


def count(
    runs: Callable[[], Iterable[Mapping[str, NDArray[np.float32]]]], limits: Mapping[str, Range]
) -> dict[str, Histogram]:
    """One histogram of each tensor in `limits` (its smallest and largest value); runs: gives every image's tensors.

    In float64: in float32 the width of a bin overflows where values are huge, and its inverse where they are tiny.
    Raises: GateError for limits that are not finite.
    """
    counts = {name: np.zeros(BINS, np.int64) for name in limits}
    for name, pair in limits.items():
        require_finite(name, *pair)
    for tensors in runs():
        for name, (low, high) in limits.items():
            if name in tensors and high > low:
                places = (tensors[name].ravel().astype(np.float64) - low) * (BINS / (high - low))
                counts[name] += np.bincount(places.clip(0, BINS - 1).astype(np.int64), minlength=BINS)
    return {name: Histogram(found, *limits[name]) for name, found in counts.items()}


def narrowed(histogram: Histogram, method: str) -> Range:
    """The range that a method chooses; zero is always in it, as int8 wants.

    'percentile': without the outermost TAIL of the values; 'mse': the range, shrunk towards zero, with the least
    squared error of rounding (step^2 / 12) and clipping together.
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
