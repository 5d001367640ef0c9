"""Differences between two predictions of the same images, with intervals; pure functions.

A drop is the reference's value minus the file's: positive is a loss. Images are assumed to be independent; `z` is the
normal quantile of both bounds of an interval (ONE_SIDED: each bound alone holds in 95 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics
from skinedge.stats.bootstrap import bootstrap_drop, percentiles

ONE_SIDED = 1.6448536269514722  # one-sided 95 % point of the normal distribution
FEWEST = 30  # images; with fewer, the normal approximation gives a mean no upper bound
_HALVINGS = 60  # of an interval of length 1: below the rounding of a double

Array = NDArray[Any]


@dataclass(frozen=True)
class Estimate:
    """An estimate over n images and the bounds of its interval; value is NaN for no images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class McNemar:
    """Counts of images that both sides, one side or neither predicts correctly (McNemar 1947, doi:10.1007/BF02295996).

    only_reference, only_file: images that this side alone predicts correctly.
    """

    both: int
    only_reference: int
    only_file: int
    neither: int

    @classmethod
    def of(cls, reference: Array, file: Array) -> McNemar:
        """Count from reference, file: (N,) bool, whether each prediction is right."""
        reference, file = np.asarray(reference, dtype=bool), np.asarray(file, dtype=bool)
        cells = (reference & file, reference & ~file, ~reference & file, ~reference & ~file)
        return cls(*(int(cell.sum()) for cell in cells))

    @property
    def n(self) -> int:
        """Return the number of images in all four cells."""
        return self.both + self.only_reference + self.only_file + self.neither

    @property
    def drop(self) -> float:
        """Accuracy of the reference minus accuracy of the file; NaN for no images."""
        return (self.only_reference - self.only_file) / self.n if self.n else math.nan

    @property
    def p(self) -> float:
        """Two-sided exact p of the sign test: losses and gains are equally likely."""
        changed = self.only_reference + self.only_file
        tail = sum(math.comb(changed, k) for k in range(min(self.only_reference, self.only_file) + 1))
        return float(min(1, 2 * tail / 2**changed))

    def estimate(self, z: float = metrics.Z95) -> Estimate:
        """The drop with its score interval."""
        return Estimate(self.drop, *score_interval(self.only_reference, self.only_file, self.n, z), self.n)


def score_interval(lost: float, gained: float, n: float, z: float) -> tuple[float, float]:
    """Score interval of (lost - gained) / n, a difference of two paired shares (Tango 1998, Statistics in Medicine
    17:891-908, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B).

    Unlike a bootstrap's or Wald's it has a width if nothing changed: its upper bound is then z^2 / (n + z^2).
    lost, gained: images that only the reference, only the file predicts correctly (fractions are allowed); n = 0 gives
    (-1, 1).
    """
    if n == 0:
        return -1.0, 1.0
    difference = (lost - gained) / n
    high = _crossing(difference, 1.0, lambda delta: _score(lost, gained, n, delta) > -z)
    low = _crossing(difference, -1.0, lambda delta: _score(lost, gained, n, delta) < z)
    return low, high


def _score(lost: float, gained: float, n: float, delta: float) -> float:
    """Tango's statistic, which decreases as delta, the assumed difference in (-1, 1), increases."""
    b, c = -lost - gained + (2 * n - lost + gained) * delta, -gained * delta * (1 - delta)
    least = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # most likely probability of a gain, given delta
    variance = n * (2 * least + delta * (1 - delta))
    distance = lost - gained - n * delta
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def _crossing(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Bisect for the last point from `inside`, where `holds` is true, towards `outside`."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def mean_estimate(values: Array, z: float = metrics.Z95) -> Estimate:
    """Mean of values between 0 and 1 with its normal interval; the upper bound is 1 for fewer than 30 values.

    values: (N,) float64. The mean and both bounds are NaN if a value is not finite.
    """
    n = len(values)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    if not np.isfinite(values).all():
        return Estimate(math.nan, math.nan, math.nan, n)
    mean, half = float(np.mean(values)), z * float(np.std(values, ddof=1 if n > 1 else 0)) / math.sqrt(n)
    return Estimate(mean, max(0.0, mean - half), mean + half if n >= FEWEST else 1.0, n)


def balanced_accuracy_drop(
    labels: Array, reference: Array, predicted: Array, z: float = metrics.Z95, seed: int = 0
) -> Estimate:
    """Estimate the drop of balanced accuracy.

    The percentile interval of `bootstrap_drop`, widened to at least the score interval of the drop of plain accuracy:
    a class without a changed prediction adds no spread to a bootstrap, and three unchanged images prove nothing.

    labels, reference, predicted: (N,) int64, class indices.
    """
    n = len(labels)
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    value = metrics.balanced_accuracy(labels, reference) - metrics.balanced_accuracy(labels, predicted)
    tail = 0.5 * math.erfc(z / math.sqrt(2))
    low, high = percentiles(bootstrap_drop(labels, reference, predicted, seed=seed), tail)
    plain = McNemar.of(reference == labels, predicted == labels).estimate(z)
    low, high = min(low, value - (plain.value - plain.low)), max(high, value + (plain.high - plain.value))
    # 1 - 0.99 is more than 0.01 in floating point
    return Estimate(round(value, 12), round(low, 12), round(high, 12), n)
