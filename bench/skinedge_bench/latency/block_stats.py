"""What a file's timings say: percentiles, their intervals, and signs against them. Pure functions over blocks.

A block is a sequence of inferences of one file in a row; in each round every file has one. Neighbouring samples are
alike, so what is resampled is whole blocks (the bootstrap of clusters; Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8), and for the ratio of two files whole rounds: a busy second falls on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skinedge.stats.bootstrap import Interval, draws, percentiles

P99_SAMPLES = 1000
NOISE = 0.15  # of the median: spread of the blocks' medians between their quartiles
DRIFT = 0.10  # how much slower the last third may be than the first
RESAMPLES = 1000
AT_ONCE = 2_000_000  # samples in memory, 16 MB
LEAST_BLOCKS = 5  # below, a resample says too little

Blocks = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Summary:
    """Milliseconds of n samples. p50_interval_ms: 95 % interval of the median of the blocks' medians, None below 5
    blocks; p99_ms: None below 1000 samples.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    p50_interval_ms: Interval | None
    n: int


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one file is as another. interval: 95 %, None below 5 rounds."""

    value: float
    interval: Interval | None


def summarize(blocks: Blocks) -> Summary:
    """blocks: samples in milliseconds, block by block; at least one."""
    samples = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    p50, p90, p99 = (float(value) for value in np.quantile(samples, [0.5, 0.9, 0.99]))
    return Summary(
        p50, p90, p99 if samples.size >= P99_SAMPLES else None, median_interval(medians(blocks)), samples.size
    )


def medians(blocks: Blocks) -> NDArray[np.float64]:
    """(B,) the blocks' medians."""
    return np.array([np.median(block) for block in blocks], dtype=np.float64)


def median_interval(values: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """95 % percentile bootstrap of the median of (B,) values; None below 5 of them."""
    if len(values) < LEAST_BLOCKS:
        return None
    return percentiles(np.concatenate([np.median(values[drawn], axis=1) for drawn in _draws(values, seed)]))


def ratio(base: Blocks, file: Blocks, percentile: int, seed: int = 0) -> Ratio:
    """The base's percentile over the file's: 2.0 says that the file is twice as fast.

    base, file: as many blocks, of the same rounds in the same order. The interval redraws rounds, the same ones for
    both, and takes the percentiles of all samples drawn.
    """
    share = percentile / 100
    first, second = np.asarray(base, dtype=np.float64), np.asarray(file, dtype=np.float64)
    value = float(np.quantile(first, share) / np.quantile(second, share))
    if len(first) < LEAST_BLOCKS:
        return Ratio(value, None)
    ratios = [_quantiles(first[drawn], share) / _quantiles(second[drawn], share) for drawn in _draws(first, seed)]
    return Ratio(value, percentiles(np.concatenate(ratios)))


def noise_reasons(blocks: Blocks) -> tuple[str, ...]:
    """What the samples themselves say against them: noise between blocks, or a slow-down over the run."""
    middles = medians(blocks)
    low, middle, high = np.quantile(middles, [0.25, 0.5, 0.75])
    reasons = []
    if (high - low) / middle > NOISE:
        reasons.append(f"noisy: half of the blocks' medians spread over {(high - low) / middle:.0%} of the median")
    third = len(middles) // 3
    if third:
        drift = float(np.median(middles[-third:]) / np.median(middles[:third])) - 1
        if drift > DRIFT:
            reasons.append(f"slowed down by {drift:.0%} during the benchmark")
    return tuple(reasons)


def _draws(blocks: NDArray[np.float64], seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield chunks of (R, B) int64: the blocks of each resample. blocks: (B,) or (B, K)."""
    return draws(len(blocks), RESAMPLES, seed, max(1, AT_ONCE // blocks.size))


def _quantiles(resamples: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Quantile `share` of all samples of each resample: (R, B, K) -> (R,)."""
    return np.asarray(np.quantile(resamples.reshape(len(resamples), -1), share, axis=1))
