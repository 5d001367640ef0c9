"""The bootstrap: seeded draws with replacement, computed in chunks, and intervals of the resampled values.

Photos of one lesion are alike, and so are timings of one block, so whole units are drawn (the cluster bootstrap;
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, sections 3.8 and 5.3). The size of a chunk and
the number of processes change no bit of a result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.system.cpu import usable_cores
from skinedge.system.process_pool import in_order

TAIL = 0.025  # probability beyond each bound of a 95 % interval
_AT_ONCE = 125_000  # weights that a core works on at a time: 1 MB stays in its cache
_MANY = 4_000_000  # weights in all, from which on it pays to start processes

Array = NDArray[Any]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Interval = tuple[float, float]
Statistics = Callable[[Floats], Mapping[str, Floats]]


@dataclass(frozen=True)
class Units:
    """The units to resample. of: (N,) int64, the unit of each image, 0..count-1; name: 'lesion' or 'image'."""

    of: Indices
    count: int
    name: str


def draws(count: int, resamples: int, seed: int | np.random.Generator, chunk: int | None = None) -> Iterator[Indices]:
    """Yield chunks of (R, count) int64: each row draws `count` of the units 0..count-1 with replacement.

    chunk: resamples at a time; None: all of them.
    """
    rng = np.random.default_rng(seed)
    chunk = chunk or resamples
    for start in range(0, resamples, chunk):
        yield rng.integers(count, size=(min(chunk, resamples - start), count))


def image_weights(units: Units, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks of (R, N) float64: how often each resample of the units holds each image."""
    for drawn in draws(units.count, resamples, seed, _rows(units)):
        rows = len(drawn)
        cells = drawn + np.arange(rows)[:, None] * units.count
        counts = np.bincount(cells.ravel(), minlength=rows * units.count).reshape(rows, units.count)
        yield counts[:, units.of].astype(np.float64)


def resample(statistics: Statistics, units: Units, resamples: int, seed: int) -> dict[str, Floats]:
    """Compute weighted statistics of all resamples, in several processes where there are many weights.

    statistics: takes weights (R, N), returns (R,) or (R, C) by name; a module's function or a partial of one, since
    it is sent to other processes. Returns the same names with R = resamples.
    """
    numbers = range(math.ceil(resamples / _rows(units)))
    jobs = 1 if resamples * len(units.of) < _MANY else usable_cores()
    chunks = list(in_order(_Resampling(statistics, units, resamples, seed), numbers, jobs))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def bootstrap_drop(
    labels: Array, reference: Array, predicted: Array, *, resamples: int = 10_000, seed: int = 0
) -> Floats:
    """Bootstrap distribution of the drop of balanced accuracy from `reference` to `predicted`.

    Paired (an image keeps both its predictions) and stratified (each class is resampled to its own
    size). An image contributes -1, 0 or 1, so a class's resample is one multinomial draw of three counts.

    labels, reference, predicted: (N,) class indices; returns (resamples,) float64, positive for a drop.
    """
    rng = np.random.default_rng(seed)
    drops = np.zeros(resamples)
    classes = np.unique(labels)
    for c in classes:
        inside = labels == c
        lost = (reference[inside] == c).astype(np.int64) - (predicted[inside] == c)
        shares = np.array([np.mean(lost == -1), np.mean(lost == 0), np.mean(lost == 1)])
        counts = rng.multinomial(lost.size, shares / shares.sum(), size=resamples)
        drops += (counts[:, 2] - counts[:, 0]) / lost.size
    return drops / max(1, classes.size)


def percentiles(values: Floats, tail: float = TAIL) -> Interval:
    """Quantiles `tail` and 1 - `tail` of the values that are defined; (NaN, NaN) where none is."""
    defined = values[~np.isnan(values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, (tail, 1 - tail))
    return float(low), float(high)


def basic_interval(interval: Interval, value: float) -> Interval:
    """Mirror a percentile interval at the point estimate (the basic bootstrap; Davison and Hinkley, section 5.2).

    Returns bounds that are not below 0 and contain `value`.
    """
    low, high = interval
    return max(0.0, 2 * value - high), max(value, 2 * value - low)


def _rows(units: Units) -> int:
    """Resamples in a chunk."""
    return max(1, _AT_ONCE // len(units.of))


@dataclass(frozen=True)
class _Resampling:
    """A worker's task: the statistics of a chunk, by its number. Each process draws all chunks, computes its own."""

    statistics: Statistics
    units: Units
    resamples: int
    seed: int

    def open(self) -> Callable[[int], Mapping[str, Floats]]:
        """Return the function of a chunk's number; call it with rising numbers."""
        chunks = enumerate(image_weights(self.units, self.resamples, self.seed))
        return lambda number: self.statistics(next(weights for index, weights in chunks if index == number))
