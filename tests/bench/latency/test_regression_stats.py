"""Statistics of two benchmarks' block medians, against SciPy and values known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from skinedge_bench.latency.regression_stats import rank_sum_p, slowdown


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("first", "second"), [(6, 6), (20, 20), (5, 40)])
def test_the_rank_sum_test_is_scipys(seed: int, first: int, second: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = rng.normal(10, 1, first), rng.normal(10.5, 1, second)
    if seed % 2:  # with ties
        before, after = before.round(), after.round()
    expected = scipy.stats.mannwhitneyu(before, after, method="asymptotic", alternative="two-sided").pvalue
    assert rank_sum_p(before, after) == pytest.approx(expected)
    assert rank_sum_p(after, before) == pytest.approx(expected)


def test_the_rank_sum_test_at_its_edges() -> None:
    same = np.full(6, 4.0)
    assert rank_sum_p(same, same) == 1.0
    assert rank_sum_p(np.array([1.0]), np.array([2.0])) == pytest.approx(1.0)
    low, high = np.arange(1.0, 4), np.arange(11.0, 14)
    assert 0.05 < rank_sum_p(low, high) < 0.1  # three blocks prove nothing
    exact = scipy.stats.mannwhitneyu(np.arange(6.0), np.arange(6.0) + 10, method="exact").pvalue
    assert exact < rank_sum_p(np.arange(6.0), np.arange(6.0) + 10) < 0.01  # conservative against the exact test


def test_a_slow_down_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(10, 0.2, 20)
    found = slowdown(before, before * 1.1)
    assert found.value == pytest.approx(1.1) and found.low < 1.1 < found.high and found.n == 40
    steady = slowdown(np.full(6, 4.0), np.full(6, 3.0))
    assert (steady.value, steady.low, steady.high) == (0.75, 0.75, 0.75)
    assert slowdown(before, before[::-1]).value == 1.0


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    rng = np.random.default_rng(2)
    before, after = rng.normal(10, 0.5, 20), rng.normal(11, 0.5, 20)
    found = slowdown(before, after, resamples=9000)
    expected = scipy.stats.bootstrap(
        (before, after),
        lambda a, b, axis: np.median(b, axis=axis) / np.median(a, axis=axis),
        method="percentile",
        n_resamples=9000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.006)


def test_the_interval_has_its_nominal_coverage() -> None:
    """300 pairs of benchmarks of the same file: most intervals over 20 blocks contain the true ratio of 1."""
    rng = np.random.default_rng(4)
    covered = 0
    for seed in range(300):
        interval = slowdown(rng.normal(10, 0.5, 20), rng.normal(10, 0.5, 20), resamples=400, seed=seed)
        covered += interval.low <= 1 <= interval.high
    assert covered >= 275
