"""Statistics of a file's timings: percentiles, their intervals and signs of noise. Pure functions of blocks.

A block is a sequence of consecutive inferences of one file; in each round every file has one block. Neighbouring
samples are correlated, so whole blocks are resampled (cluster bootstrap; Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8), and whole rounds for the ratio of two files: load slows both files of a round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skinedge.stats.bootstrap import Interval, draws, percentiles

P99_SAMPLES = 1000
NOISE = 0.15  # largest interquartile range of the blocks' medians, relative to their median
DRIFT = 0.10  # largest slow-down of the last third of the blocks relative to the first
RESAMPLES = 1000
AT_ONCE = 2_000_000  # samples in memory, 16 MB
LEAST_BLOCKS = 5  # for an interval

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
    """Speed-up of one file over another. interval: 95 %, None below 5 rounds."""

    value: float
    interval: Interval | None


def summarize(blocks: Blocks) -> Summary:
    """Summarize at least one block of samples in milliseconds."""
    samples = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    p50, p90, p99 = (float(value) for value in np.quantile(samples, [0.5, 0.9, 0.99]))
    return Summary(
        p50, p90, p99 if samples.size >= P99_SAMPLES else None, median_interval(medians(blocks)), samples.size
    )


def medians(blocks: Blocks) -> NDArray[np.float64]:
    """Return the (B,) medians of the blocks."""
    return np.array([np.median(block) for block in blocks], dtype=np.float64)


def median_interval(values: NDArray[np.float64], seed: int = 0) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of the median of (B,) values; None below 5 values."""
    if len(values) < LEAST_BLOCKS:
        return None
    return percentiles(np.concatenate([np.median(values[drawn], axis=1) for drawn in _draws(values, seed)]))


def ratio(base: Blocks, file: Blocks, percentile: int, seed: int = 0) -> Ratio:
    """Return the base's percentile divided by the file's: 2.0 means that the file is twice as fast.

    base, file: equally many blocks, of the same rounds in the same order. The interval resamples rounds, the same ones
    for both files, and takes the percentiles of all their samples.
    """
    share = percentile / 100
    first, second = np.asarray(base, dtype=np.float64), np.asarray(file, dtype=np.float64)
    value = float(np.quantile(first, share) / np.quantile(second, share))
    if len(first) < LEAST_BLOCKS:
        return Ratio(value, None)
    ratios = [_quantiles(first[drawn], share) / _quantiles(second[drawn], share) for drawn in _draws(first, seed)]
    return Ratio(value, percentiles(np.concatenate(ratios)))


def noise_reasons(blocks: Blocks) -> tuple[str, ...]:
    """Return reasons to distrust the samples: noise between blocks, or a slow-down over the benchmark."""
    block_medians = medians(blocks)
    low, middle, high = np.quantile(block_medians, [0.25, 0.5, 0.75])
    reasons = []
    if (high - low) / middle > NOISE:
        reasons.append(f"noisy: half of the blocks' medians spread over {(high - low) / middle:.0%} of the median")
    third = len(block_medians) // 3
    if third:
        drift = float(np.median(block_medians[-third:]) / np.median(block_medians[:third])) - 1
        if drift > DRIFT:
            reasons.append(f"slowed down by {drift:.0%} during the benchmark")
    return tuple(reasons)


def _draws(blocks: NDArray[np.float64], seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield chunks of (R, B) int64: the blocks of each resample. blocks: (B,) or (B, K)."""
    return draws(len(blocks), RESAMPLES, seed, max(1, AT_ONCE // blocks.size))


def _quantiles(resamples: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Quantile `share` of all samples of each resample: (R, B, K) -> (R,)."""
    return np.asarray(np.quantile(resamples.reshape(len(resamples), -1), share, axis=1))
