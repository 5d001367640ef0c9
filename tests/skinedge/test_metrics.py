"""Every figure against scikit-learn or scipy, or against its definition written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy import stats

from skinedge import metrics

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 5, 400)
PROBABILITIES = metrics.softmax(np.round(RNG.normal(size=(400, 5)) + 1.5 * np.eye(5)[LABELS], 1))  # rounded: ties
PREDICTED = PROBABILITIES.argmax(axis=1)


def test_accuracy_and_balanced_accuracy() -> None:
    assert metrics.accuracy(LABELS, PREDICTED) == pytest.approx(oracle.accuracy_score(LABELS, PREDICTED))
    expected = oracle.balanced_accuracy_score(LABELS, PREDICTED)
    assert metrics.balanced_accuracy(LABELS, PREDICTED) == pytest.approx(expected)


def test_balanced_accuracy_leaves_absent_classes_out() -> None:
    labels, predicted = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    assert metrics.balanced_accuracy(labels, predicted) == pytest.approx(0.75)


def test_per_class_figures() -> None:
    precision, recall, f1, support = oracle.precision_recall_fscore_support(LABELS, PREDICTED)
    each = metrics.per_class(LABELS, PROBABILITIES)
    np.testing.assert_allclose(each.precision, precision)
    np.testing.assert_allclose(each.recall, recall)
    np.testing.assert_allclose(each.f1, f1)
    np.testing.assert_array_equal(each.support, support)


def test_confusion_has_truth_in_rows() -> None:
    np.testing.assert_array_equal(
        metrics.confusion(LABELS, PREDICTED, 5), oracle.confusion_matrix(LABELS, PREDICTED, labels=range(5))
    )
    assert metrics.confusion(np.array([0]), np.array([1]), 3).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_auc_with_ties() -> None:
    for c in range(5):
        score = np.round(PROBABILITIES[:, c], 1)
        assert len(np.unique(score)) < 12
        assert metrics.auc(c == LABELS, score) == pytest.approx(oracle.roc_auc_score(c == LABELS, score))


def test_macro_auc() -> None:
    exact = PROBABILITIES.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    expected = oracle.roc_auc_score(LABELS, exact, multi_class="ovr", average="macro")
    assert metrics.macro_auc(LABELS, exact) == pytest.approx(expected)


def test_undefined_figures_are_nan_not_zero() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.2, 0.0], [0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.9, 0.1, 0.0]])
    each = metrics.per_class(labels, probabilities)
    assert math.isnan(each.recall[2]) and math.isnan(each.precision[2])
    assert math.isnan(each.f1[2]) and math.isnan(each.auc[2])
    assert metrics.macro_auc(labels, probabilities) == pytest.approx(np.mean(each.auc[:2]))
    assert math.isnan(metrics.auc(np.array([True, True]), np.array([0.1, 0.2])))
    assert math.isnan(metrics.auc(np.array([True, False]), np.array([math.nan, 0.2])))
    assert math.isnan(metrics.accuracy(np.array([]), np.array([])))


def test_f1_of_a_class_that_is_never_predicted_is_zero() -> None:
    each = metrics.per_class(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    assert each.f1[1] == 0 and math.isnan(each.precision[1])


def test_sensitivity_and_specificity() -> None:
    positive = np.array([True, True, True, False, False])
    flagged = np.array([True, False, True, False, True])
    assert metrics.sensitivity_specificity(positive, flagged) == pytest.approx((2 / 3, 1 / 2))
    alone = metrics.sensitivity_specificity(np.array([True]), np.array([False]))
    assert alone[0] == 0 and math.isnan(alone[1])


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 3), (97, 100), (970, 1000)])
def test_wilson_interval(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert metrics.wilson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_knows_nothing() -> None:
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_bootstrap_fall_is_the_paired_stratified_bootstrap() -> None:
    """Against the definition: draw images with replacement within each class, keep the pairs."""
    labels = np.repeat([0, 1, 2], [60, 30, 12])
    rng = np.random.default_rng(3)
    reference = np.where(rng.random(102) < 0.8, labels, (labels + 1) % 3)
    predicted = np.where(rng.random(102) < 0.9, reference, (reference + 1) % 3)
    slow = []
    for _ in range(3000):
        chosen = np.concatenate([rng.choice(np.flatnonzero(labels == c), (labels == c).sum()) for c in range(3)])
        slow.append(
            metrics.balanced_accuracy(labels[chosen], reference[chosen])
            - metrics.balanced_accuracy(labels[chosen], predicted[chosen])
        )
    fast = metrics.bootstrap_fall(labels, reference, predicted, resamples=20_000, seed=1)
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(np.quantile(fast, quantiles), np.quantile(slow, quantiles), atol=0.012)
    observed = metrics.balanced_accuracy(labels, reference) - metrics.balanced_accuracy(labels, predicted)
    assert fast.mean() == pytest.approx(observed, abs=0.002)


def test_bootstrap_fall_is_seeded() -> None:
    first = metrics.bootstrap_fall(LABELS, PREDICTED, LABELS, resamples=50, seed=4)
    np.testing.assert_array_equal(first, metrics.bootstrap_fall(LABELS, PREDICTED, LABELS, resamples=50, seed=4))
    assert not np.array_equal(first, metrics.bootstrap_fall(LABELS, PREDICTED, LABELS, resamples=50, seed=5))


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(metrics.softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])), [[0.5, 0.5], [0, 1]])


def test_malignant_score_sums_the_named_columns() -> None:
    scores = metrics.malignant_score(np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]), (0, 2))
    np.testing.assert_allclose(scores, [0.8, 0.75])
