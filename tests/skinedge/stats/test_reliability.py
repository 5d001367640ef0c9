"""Reliability diagram and expected calibration error, against their definitions written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skinedge.stats.metrics import softmax
from skinedge.stats.reliability import prior_weights, reliability, weighted_ece

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 5, 400)
PROBABILITIES = softmax(np.round(RNG.normal(size=(400, 5)) + 1.5 * np.eye(5)[LABELS], 1))  # rounded: ties


def test_reliability_is_its_definition() -> None:
    """Bin by bin, image by image: bin b of 15 holds confidences in (b / 15, (b + 1) / 15]."""
    found = reliability(LABELS, PROBABILITIES)
    ece = 0.0
    for b in range(15):
        sure, right = [], []
        for row, label in zip(PROBABILITIES, LABELS, strict=True):
            if b / 15 < row.max() <= (b + 1) / 15:
                sure.append(float(row.max()))
                right.append(row.argmax() == label)
        assert found.share[b] == pytest.approx(len(sure) / 400)
        if sure:
            assert found.confidence[b] == pytest.approx(np.mean(sure)) and found.accuracy[b] == pytest.approx(
                np.mean(right)
            )
            ece += len(sure) / 400 * abs(np.mean(right) - np.mean(sure))
        else:
            assert math.isnan(found.confidence[b]) and math.isnan(found.accuracy[b])
    assert found.ece == pytest.approx(ece) and 0 < ece < 1 and found.share.sum() == pytest.approx(1)


def test_reliability_at_its_edges() -> None:
    """Confidence 0.2 is in (2/15, 3/15], not above it; certainty is in the last bin; nothing has no error."""
    found = reliability(np.array([0, 1]), np.array([[0.2] * 5, [1.0, 0, 0, 0, 0]]))
    assert np.flatnonzero(found.share).tolist() == [2, 14] and found.ece == pytest.approx((0.8 + 1) / 2)
    assert math.isnan(reliability(np.array([], dtype=int), np.zeros((0, 3))).ece) is True


def test_weights_of_the_reliability_are_repetitions() -> None:
    times = RNG.integers(0, 4, 400)
    weighted = reliability(LABELS, PROBABILITIES, times)
    repeated = reliability(np.repeat(LABELS, times), np.repeat(PROBABILITIES, times, axis=0))
    assert weighted.ece == pytest.approx(repeated.ece)
    np.testing.assert_allclose(weighted.accuracy, repeated.accuracy)
    np.testing.assert_allclose(weighted.share, repeated.share)


def test_the_weighted_error_is_that_of_the_repeated_images() -> None:
    prior, weights = np.array([0.1, 0.4, 0.2, 0.2, 0.1]), RNG.integers(0, 3, (4, 400)).astype(np.float64)
    weights[3, LABELS == 0] = 0  # a class without images
    plain, at_prior = weighted_ece(LABELS, PROBABILITIES, weights, prior)
    for row, times in enumerate(weights.astype(int)):
        labels, probabilities = np.repeat(LABELS, times), np.repeat(PROBABILITIES, times, axis=0)
        assert plain[row] == pytest.approx(reliability(labels, probabilities).ece)
        shifted = reliability(labels, probabilities, prior_weights(labels, prior)).ece
        assert at_prior[row] == pytest.approx(shifted)
    assert np.isnan(weighted_ece(LABELS, PROBABILITIES, weights, None)[1]).all()
