"""Thresholds, predictive values, net benefit and reliability of the score agree with scikit-learn and with counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from skinedge.stats.decisions import (
    PREVALENCES,
    SENSITIVITIES,
    decision_curve,
    operating_table,
    predictive_values,
    score_bins,
)


def sample(seed: int, n: int = 300, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and scores with ties."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.3
    score = np.clip(rng.normal(0.3 + 0.3 * positive, 0.2), 0, 1).round(decimals)
    return positive, score


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_is_the_highest_that_reaches_the_sensitivity(seed: int) -> None:
    positive, score = sample(seed)
    rows = operating_table(positive, score)
    assert [row.wanted for row in rows] == list(SENSITIVITIES)
    for row in rows:
        flagged = score >= row.threshold
        tn, fp, _, tp = confusion_matrix(positive, flagged).ravel()
        assert row.sensitivity == pytest.approx(recall_score(positive, flagged)) and row.sensitivity >= row.wanted
        assert row.specificity == pytest.approx(tn / (tn + fp)) and row.alarms == pytest.approx(fp / tp)
        higher = score[score > row.threshold]
        assert not len(higher) or recall_score(positive, score >= higher.min()) < row.wanted


def test_a_share_that_is_reached_exactly_counts_as_reached() -> None:
    positive = np.array([True] * 20 + [False] * 20)
    score = np.r_[np.linspace(1, 0.05, 20), np.zeros(20)]
    reached = {row.wanted: row.sensitivity for row in operating_table(positive, score)}
    assert reached[0.80] == 0.80 and reached[0.95] == 0.95 and reached[0.97] == 1.0


@pytest.mark.parametrize("positive", [np.zeros(4, bool), np.ones(4, bool), np.zeros(0, bool)])
def test_without_both_kinds_there_is_no_operating_point(positive: np.ndarray) -> None:
    assert operating_table(positive, np.linspace(0, 1, len(positive))) == ()


@pytest.mark.parametrize("seed", range(4))
def test_predictive_values_are_the_precision_of_images_of_that_prevalence(seed: int) -> None:
    positive, score = sample(seed)
    flagged = score >= 0.4
    tn, fp, fn, tp = confusion_matrix(positive, flagged).ravel()
    values = predictive_values(tp / (tp + fn), tn / (tn + fp), float(positive.mean()))
    assert values.ppv == pytest.approx(precision_score(positive, flagged))
    assert values.npv == pytest.approx(precision_score(~positive, ~flagged))
    for prevalence in PREVALENCES:
        weights = np.where(positive, prevalence / positive.mean(), (1 - prevalence) / (~positive).mean())
        values = predictive_values(tp / (tp + fn), tn / (tn + fp), prevalence)
        assert values.ppv == pytest.approx(precision_score(positive, flagged, sample_weight=weights))


def test_predictive_values_without_a_flag_are_undefined() -> None:
    assert math.isnan(predictive_values(0, 1, 0.1).ppv) and math.isnan(predictive_values(1, 0, 0.1).npv)


@pytest.mark.parametrize("seed", range(4))
def test_net_benefit_counts_true_and_false_alarms(seed: int) -> None:
    positive, score = sample(seed)
    for row in decision_curve(positive, score):
        _, fp, _, tp = confusion_matrix(positive, score >= row.risk, labels=[False, True]).ravel()
        odds = row.risk / (1 - row.risk)
        assert row.model == pytest.approx(tp / 300 - fp / 300 * odds)
        assert row.everyone == pytest.approx(positive.sum() / 300 - (~positive).sum() / 300 * odds)
    assert decision_curve(np.zeros(0, bool), np.zeros(0)) == ()


@pytest.mark.parametrize("seed", range(4))
def test_reliability_of_the_score_agrees_with_scikit_learn(seed: int) -> None:
    positive, score = sample(seed, decimals=6)
    rows = [row for row in score_bins(positive, score) if row.images]
    share, mean = calibration_curve(positive, score, n_bins=10)
    assert [row.malignant / row.images for row in rows] == pytest.approx(share)
    assert [row.mean_score for row in rows] == pytest.approx(mean)
    assert sum(row.images for row in rows) == 300 and sum(row.malignant for row in rows) == positive.sum()
