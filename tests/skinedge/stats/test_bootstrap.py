"""The bootstrap's draws and intervals, against its definition written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skinedge.stats.bootstrap import (
    Units,
    basic_interval,
    bootstrap_drop,
    draws,
    image_weights,
    percentiles,
    resample,
)
from skinedge.stats.metrics import balanced_accuracy

N = 120
RNG = np.random.default_rng(11)
LABELS, PREDICTED = np.random.default_rng(7).integers(0, 5, (2, 400))
UNITS = Units(np.sort(RNG.integers(0, 70, N)), 70, "lesion")


def test_a_resample_draws_whole_units_with_replacement() -> None:
    weights = np.concatenate(list(image_weights(UNITS, 300, seed=1)))
    assert weights.shape == (300, N)
    counts = np.full((300, UNITS.count), np.nan)
    for unit in np.unique(UNITS.of):
        inside = weights[:, unit == UNITS.of]
        assert (inside == inside[:, :1]).all()
        counts[:, unit] = inside[:, 0]
    drawn = counts[:, np.unique(UNITS.of)]
    assert drawn.mean() == pytest.approx(1, abs=0.03) and drawn.var() == pytest.approx(1 - 1 / 70, abs=0.06)
    everyone = Units(np.arange(9), 9, "image")
    assert (np.concatenate(list(image_weights(everyone, 50, seed=1))).sum(axis=1) == 9).all()


def test_the_size_of_a_chunk_changes_no_draw() -> None:
    once = next(draws(9, 100, seed=3))
    assert once.shape == (100, 9) and set(np.unique(once)) == set(range(9))
    np.testing.assert_array_equal(np.concatenate(list(draws(9, 100, 3, chunk=7))), once)
    rng = np.random.default_rng(3)
    np.testing.assert_array_equal(next(draws(9, 100, rng)), once)
    assert not np.array_equal(next(draws(9, 100, rng)), once)  # a generator goes on


def test_statistics_are_computed_of_every_resample_in_order() -> None:
    found = resample(lambda weights: {"sums": weights.sum(axis=1), "rows": weights}, UNITS, 2500, seed=1)
    weights = np.concatenate(list(image_weights(UNITS, 2500, seed=1)))
    assert len(list(image_weights(UNITS, 2500, seed=1))) > 1
    np.testing.assert_array_equal(found["rows"], weights)
    np.testing.assert_array_equal(found["sums"], weights.sum(axis=1))


def test_percentiles_are_of_the_values_that_are_defined() -> None:
    values = np.append(np.arange(101.0), np.nan)
    assert percentiles(values) == pytest.approx((2.5, 97.5)) and percentiles(values, 0.05) == pytest.approx((5, 95))
    assert all(map(math.isnan, percentiles(np.full(5, np.nan))))


def test_the_basic_interval_mirrors_and_contains_its_value() -> None:
    assert basic_interval((0.4, 0.7), 0.5) == pytest.approx((0.3, 0.6))
    assert basic_interval((0.6, 0.9), 0.4) == pytest.approx((0, 0.4))


def test_bootstrap_drop_is_the_paired_stratified_bootstrap() -> None:
    """Against the definition: draw images with replacement within each class, keep the pairs."""
    labels = np.repeat([0, 1, 2], [60, 30, 12])
    rng = np.random.default_rng(3)
    reference = np.where(rng.random(102) < 0.8, labels, (labels + 1) % 3)
    predicted = np.where(rng.random(102) < 0.9, reference, (reference + 1) % 3)
    slow = []
    for _ in range(3000):
        chosen = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)])
        slow.append(
            balanced_accuracy(labels[chosen], reference[chosen]) - balanced_accuracy(labels[chosen], predicted[chosen])
        )
    fast = bootstrap_drop(labels, reference, predicted, resamples=20_000, seed=1)
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(fast, quantiles), np.quantile(slow, quantiles), atol=0.012)
    observed = balanced_accuracy(labels, reference) - balanced_accuracy(labels, predicted)
    assert fast.mean() == pytest.approx(observed, abs=0.002)


def test_bootstrap_drop_is_seeded() -> None:
    first = bootstrap_drop(LABELS, PREDICTED, LABELS, resamples=50, seed=4)
    np.testing.assert_array_equal(first, bootstrap_drop(LABELS, PREDICTED, LABELS, resamples=50, seed=4))
    assert not np.array_equal(first, bootstrap_drop(LABELS, PREDICTED, LABELS, resamples=50, seed=5))
