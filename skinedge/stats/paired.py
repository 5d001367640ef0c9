"""What changed between two answers about the same images, and how sure that is; pure functions.

A "fall" is what the reference has more than the file: positive is a loss. Images are taken for independent; intervals
are given by `z`, the normal quantile of each of their two bounds (ONE_SIDED: each bound alone holds in 95 %).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics

ONE_SIDED = 1.6448536269514722  # one-sided 95 % point of the normal distribution
FEWEST = 30  # images, below which a mean's normal approximation says nothing about the images that were not seen
_HALVINGS = 60  # of an interval of length 1: below the rounding of a double

Array = NDArray[Any]


@dataclass(frozen=True)
class Estimate:
    """A figure and the bounds of its interval, over n images; value is NaN for no images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class McNemar:
    """How many of the same images each side got right (McNemar 1947, doi:10.1007/BF02295996).

    both, neither: right by both, by neither; only_reference, only_file: by that one alone.
    """

    both: int
    only_reference: int
    only_file: int
    neither: int

    @classmethod
    def of(cls, reference: Array, file: Array) -> McNemar:
        """reference, file: (N,) bool, whether each image was right."""
        reference, file = np.asarray(reference, dtype=bool), np.asarray(file, dtype=bool)
        cells = (reference & file, reference & ~file, ~reference & file, ~reference & ~file)
        return cls(*(int(cell.sum()) for cell in cells))

    @property
    def n(self) -> int:
        return self.both + self.only_reference + self.only_file + self.neither

    @property
    def fall(self) -> float:
        """Share right by the reference minus share right by the file; NaN for no images."""
        return (self.only_reference - self.only_file) / self.n if self.n else math.nan

    @property
    def p(self) -> float:
        """Two-sided exact p that changes to the worse and to the better are as likely (a sign test)."""
        changed = self.only_reference + self.only_file
        tail = sum(math.comb(changed, k) for k in range(min(self.only_reference, self.only_file) + 1))
        return float(min(1, 2 * tail / 2**changed))

    def estimate(self, z: float = metrics.Z95) -> Estimate:
        """The fall with its score interval."""
        return Estimate(self.fall, *score_interval(self.only_reference, self.only_file, self.n, z), self.n)


def score_interval(lost: float, gained: float, n: float, z: float) -> tuple[float, float]:
    """Score interval of (lost - gained) / n, a difference of two paired shares (Tango 1998, Statistics in Medicine
    17:891-908, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B).

    Unlike a bootstrap's or Wald's it has a width where nothing changed: its upper bound is then z^2 / (n + z^2).
    lost, gained: how many only the reference, only the file got right (need not be whole); n = 0 gives (-1, 1).
    """
    if n == 0:
        return -1.0, 1.0
    difference = (lost - gained) / n
    high = _crossing(difference, 1.0, lambda delta: _score(lost, gained, n, delta) > -z)
    low = _crossing(difference, -1.0, lambda delta: _score(lost, gained, n, delta) < z)
    return low, high


def _score(lost: float, gained: float, n: float, delta: float) -> float:
    """Tango's statistic: falls as delta, the supposed difference, grows; within (-1, 1)."""
    b, c = -lost - gained + (2 * n - lost + gained) * delta, -gained * delta * (1 - delta)
    least = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)  # likeliest chance of a gain, given delta
    variance = n * (2 * least + delta * (1 - delta))
    distance = lost - gained - n * delta
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def _crossing(inside: float, outside: float, holds: Callable[[float], bool]) -> float:
    """Where `holds` ends between a point at which it does and one beyond which nothing lies."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside


def mean_estimate(values: Array, z: float = metrics.Z95) -> Estimate:
    """Mean of values between 0 and 1 with its normal interval; below 30 of them, nothing is known upwards.

    values: (N,) float64; NaN throughout where one of them is not finite.
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
    """Fall of balanced accuracy with the percentile interval of `metrics.bootstrap_drop`, but nowhere narrower than
    the score interval of plain accuracy's fall: a class of which no image changed adds no spread to a bootstrap, and
    three images without a change are no proof.

    labels, reference, predicted: (N,) int64, indices of classes; a gain is negative.
    """
    n = len(labels)
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    value = metrics.balanced_accuracy(labels, reference) - metrics.balanced_accuracy(labels, predicted)
    tail = 0.5 * math.erfc(z / math.sqrt(2))
    low, high = np.quantile(metrics.bootstrap_drop(labels, reference, predicted, seed=seed), [tail, 1 - tail])
    plain = McNemar.of(reference == labels, predicted == labels).estimate(z)
    low, high = min(low, value - (plain.value - plain.low)), max(high, value + (plain.high - plain.value))
    # 1 - 0.99 is more than 0.01 in floating point
    return Estimate(round(value, 12), round(float(low), 12), round(float(high), 12), n)
