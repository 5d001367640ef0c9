"""Every metric against scikit-learn or SciPy, or against its definition written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy import stats

from skinedge.stats import metrics

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


def test_per_class_metrics() -> None:
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


def test_undefined_metrics_are_nan_not_zero() -> None:
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


def test_softmax_survives_large_logits() -> None:
    np.testing.assert_allclose(metrics.softmax(np.array([[1000.0, 1000.0], [-1000.0, 0.0]])), [[0.5, 0.5], [0, 1]])


def test_malignant_score_sums_the_named_columns() -> None:
    scores = metrics.malignant_score(np.array([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]]), (0, 2))
    np.testing.assert_allclose(scores, [0.8, 0.75])


def test_specificity_and_average_precision_of_each_class() -> None:
    each = metrics.per_class(LABELS, PROBABILITIES)
    for c in range(5):
        specificity = oracle.recall_score(c != LABELS, c != PREDICTED)
        assert each.specificity[c] == pytest.approx(specificity)
        expected = oracle.average_precision_score(c == LABELS, PROBABILITIES[:, c])
        assert each.average_precision[c] == pytest.approx(expected)
    expected = oracle.average_precision_score(np.eye(5)[LABELS], PROBABILITIES, average="macro")
    assert metrics.macro_average_precision(LABELS, PROBABILITIES) == pytest.approx(expected)


@pytest.mark.parametrize("levels", [2, 7, 10_000])
def test_the_corners_of_the_roc_curve_are_points_of_scikit_learns_with_its_area(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive, score = rng.random(300) < 0.3, np.round(rng.random(300) * levels)
    corners = metrics.roc_corners(positive, score) / [(~positive).sum(), positive.sum()]
    every = np.column_stack(oracle.roc_curve(positive, score, drop_intermediate=False)[:2])
    assert {tuple(point) for point in corners.round(9)} <= {tuple(point) for point in every.round(9)}
    assert oracle.auc(*corners.T) == pytest.approx(oracle.roc_auc_score(positive, score))
    steps = np.diff(corners, axis=0)
    assert np.abs(steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]).min() > 1e-9, "a point on a line"


def test_average_precision_with_ties_and_where_it_is_undefined() -> None:
    score = np.round(PROBABILITIES[:, 1], 1)
    expected = oracle.average_precision_score(LABELS == 1, score)
    assert metrics.average_precision(LABELS == 1, score) == pytest.approx(expected)
    for positive, scores in (([True, True], [0.1, 0.2]), ([False, False], [0.1, 0.2]), ([True, False], [math.nan, 0])):
        assert math.isnan(metrics.average_precision(np.array(positive), np.array(scores)))
    alone = metrics.per_class(np.array([0, 0]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert math.isnan(alone.specificity[0]) and alone.specificity[1] == 0.5


def test_operating_points_are_the_roc_and_the_precision_recall_curve() -> None:
    positive, score = LABELS == 2, np.round(PROBABILITIES[:, 2], 2)
    thresholds, hits, alarms = metrics.operating_points(positive, score)
    false, true, expected = oracle.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(thresholds, expected[1:])  # scikit-learn starts above the highest score
    np.testing.assert_allclose(hits / hits[-1], true[1:])
    np.testing.assert_allclose(alarms / alarms[-1], false[1:])
    precision, recall, _ = oracle.precision_recall_curve(positive, score)
    np.testing.assert_allclose((hits / (hits + alarms))[::-1], precision[:-1])
    np.testing.assert_allclose((hits / hits[-1])[::-1], recall[:-1])


def test_weighted_metrics_are_those_of_the_repeated_images() -> None:
    weights = RNG.integers(0, 4, (5, 400)).astype(np.float64)
    weights[4, LABELS == 3] = 0  # a class without images
    rows = metrics.weighted_per_class(LABELS, PROBABILITIES, weights)
    means = metrics.mean_over_classes(rows.recall)
    for row, times in enumerate(weights.astype(int)):
        labels, probabilities = np.repeat(LABELS, times), np.repeat(PROBABILITIES, times, axis=0)
        expected = metrics.per_class(labels, probabilities)
        for name, values in vars(expected).items():
            np.testing.assert_allclose(getattr(rows, name)[row], values, err_msg=name)
        assert means[row] == pytest.approx(metrics.balanced_accuracy(labels, probabilities.argmax(axis=1)))
        share = metrics.weighted_share(PREDICTED == 1, LABELS == 1, weights[row : row + 1])
        assert share[0] == pytest.approx(expected.recall[1])


def test_a_point_estimate_is_a_weighted_metric_of_one_row() -> None:
    rows = metrics.weighted_per_class(LABELS, PROBABILITIES, metrics.unit_weights(400))
    each = metrics.per_class(LABELS, PROBABILITIES)
    for name in ("precision", "recall", "specificity", "f1", "auc", "support"):
        np.testing.assert_array_equal(getattr(rows, name)[0], getattr(each, name))
    np.testing.assert_allclose(rows.average_precision[0], each.average_precision, rtol=1e-14)


def test_the_difference_of_two_shares_is_that_of_the_published_example() -> None:
    """Newcombe 1998, table II, example (a), method 10."""
    assert metrics.share_difference((56, 48), (70, 80)) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert all(math.isnan(value) for value in metrics.share_difference((0, 1), (0, 2)))
    low, high = metrics.share_difference((10, 10), (10, 10))[1:]
    assert low < 0 < high
