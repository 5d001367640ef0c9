"""SQNR, latency ratios, calibration and intervals of arbitrary values: exact, NaN where undefined, no warnings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from channels import Values, channels
from hypothesis import given, settings
from hypothesis import strategies as st

from skinedge.core.errors import GateError
from skinedge.stats.bootstrap import percentiles
from skinedge.stats.calibration import Reading, fit
from skinedge.stats.paired import balanced_accuracy_drop, mean_estimate
from skinedge_bench.latency.regression_stats import rank_sum_p, slowdown
from skinedge_bench.verify.layers.sqnr import SqnrStatistics, cosines, noise, sqnr

MANY = settings(max_examples=60, deadline=None)
times = st.lists(st.sampled_from([0.0, 1e-320, 1e-3, 0.1, 5.0, 1e6]), min_size=1, max_size=8).map(np.array)


@MANY
@given(channels(), st.integers(0, 99))
def test_noise_is_the_energy_of_the_differences(values: Values, seed: int) -> None:
    """Oracle: the differences in extended precision; sums of squares lose at most 1e-16 of the energy."""
    factor = 1 + 1e-3 * np.random.default_rng(seed).normal(size=values.shape)
    small = (values * factor).astype(np.float32)
    stats = SqnrStatistics.of(values, small)
    energy = np.square(values.astype(np.longdouble)).sum(axis=0)
    expected = np.square(small.astype(np.longdouble) - values).sum(axis=0)
    assert (np.abs(noise(stats, free=False) - expected) <= 1e-13 * energy).all()
    free = noise(stats, free=True)
    assert (free >= 0).all() and (free <= stats.ss).all()
    assert (np.abs(cosines(stats)) <= 1).all()
    assert math.isnan(sqnr(stats, free=False)) == (float(energy.sum()) == 0) and not math.isinf(sqnr(stats, free=True))


@MANY
@given(times, times)
def test_a_latency_ratio_is_finite_or_nan(before: np.ndarray, after: np.ndarray) -> None:
    ratio = slowdown(before, after, resamples=200)
    figures = (ratio.value, ratio.low, ratio.high)
    assert all(map(math.isfinite, figures)) or all(map(math.isnan, figures))
    assert 0 <= rank_sum_p(before, after) <= 1
    if before.min() >= 1e-3:
        assert ratio.value == np.median(after) / np.median(before)


@MANY
@given(channels(most=5, count=40), st.integers(0, 99))
def test_calibration_of_any_logits_is_finite(values: Values, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(values.shape[1], size=len(values))
    prior = np.full(values.shape[1], 1 / values.shape[1])
    calibration = fit(values, labels, Reading(), prior, prior)
    assert 0 < calibration.temperature < math.inf and np.isfinite(calibration.bias).all()
    assert np.isfinite(calibration.apply(values)).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nonfinite_logits_are_an_error(value: float) -> None:
    with pytest.raises(GateError, match="not finite"):
        fit(np.array([[0, value]]), np.array([0]), Reading(), np.full(2, 0.5), np.full(2, 0.5))


@MANY
@given(channels(most=1))
def test_percentiles_and_means_are_computed_in_float64(values: Values) -> None:
    exact = values[:, 0].astype(np.float64)
    low, high = percentiles(exact)
    assert exact.min() <= low <= high <= exact.max()
    shares = np.clip(np.abs(exact), 0, 1)
    mean = mean_estimate(shares)
    assert mean.value == pytest.approx(math.fsum(shares) / len(shares), rel=1e-12)
    assert 0 <= mean.low <= mean.value <= mean.high


@MANY
@given(st.integers(1, 40), st.integers(1, 4), st.integers(0, 999))
def test_a_drop_and_its_interval_are_in_range(images: int, classes: int, seed: int) -> None:
    labels, reference, file = np.random.default_rng(seed).integers(classes, size=(3, images))
    drop = balanced_accuracy_drop(labels, reference, file)
    assert -1 <= drop.value <= 1 and drop.low <= drop.high and math.isfinite(drop.low + drop.high)
