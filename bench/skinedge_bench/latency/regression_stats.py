"""Statistics of two benchmarks of one file: test and interval of the slow-down. Pure functions of blocks' medians.

Samples within a block are strongly correlated, blocks much less: a block counts once, by its median. The blocks of two
benchmarks share no rounds, so they are unpaired. Effects that vary between processes but not between blocks, such as
memory layout, are in neither the test nor the interval: a budget should be wider than these effects.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from skinedge.stats.bootstrap import draws, percentiles
from skinedge.stats.paired import Estimate

RESAMPLES = 2000
Floats = NDArray[np.float64]


def rank_sum_p(before: Floats, after: Floats) -> float:
    """Return the two-sided p of the rank-sum test (Mann and Whitney 1947, doi:10.1214/aoms/1177730491).

    before, after: (A,), (B,), at least one each. Normal approximation, corrected for ties and for continuity, which is
    conservative for few blocks: 3 against 3 never fall below .08. 1.0 if all values are equal.
    """
    pooled = np.concatenate([before, after])
    _, ranks, counts = np.unique(pooled, return_inverse=True, return_counts=True)
    middle_ranks = counts.cumsum() - (counts - 1) / 2  # equal values share the mean of their ranks
    first, second, n = len(before), len(after), len(pooled)
    above = middle_ranks[ranks[:first]].sum() - first * (first + 1) / 2
    variance = first * second / 12 * (n + 1 - float((counts**3 - counts).sum()) / (n * (n - 1)))
    if variance <= 0:
        return 1.0
    distance = max(0.0, abs(float(above) - first * second / 2) - 0.5)
    return math.erfc(distance / math.sqrt(2 * variance))


def slowdown(before: Floats, after: Floats, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the median of `after` over the median of `before` (1.1: 10 % slower) with a 95 % percentile bootstrap.

    NaN if `before` has a median of 0: its clock is too coarse for a ratio.

    before, after: (A,), (B,), not negative, resampled independently (Efron and Tibshirani, "An Introduction to the
    Bootstrap", 1993, sections 8.3 and 13.3).
    """
    rng = np.random.default_rng(seed)
    first, second = (np.median(side[next(draws(len(side), resamples, rng))], axis=1) for side in (before, after))
    n, least = len(before) + len(after), np.finfo(np.float64).tiny
    if min(np.median(before), first.min()) < least:
        return Estimate(math.nan, math.nan, math.nan, n)
    return Estimate(float(np.median(after) / np.median(before)), *percentiles(second / first), n)
