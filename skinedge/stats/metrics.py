"""Metrics of predictions, as pure functions of arrays.

Throughout: labels, predicted: (N,) class indices; probabilities: (N, C), rows sum to 1; positive: (N,) bool; score:
(N,). `weighted_*` metrics take weights (R, N) float64, how often each of R resamples holds each image, and return
(R,) or (R, C) float64. A point estimate is a weighted metric at R = 1, with weight 1 for every image.
An undefined metric (an absent class, no positives) is NaN, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Array = NDArray[Any]

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


@dataclass(frozen=True)
class PerClass:
    """One value per class: (C,) float64, support (C,) int64; under weights (R, N), all are (R, C) float64.

    precision is NaN where nothing was predicted as the class; recall, auc and average_precision where the class is
    absent; specificity where there is no other; f1 is NaN for an absent class, else 2TP / (2TP + FP + FN).
    """

    precision: Floats
    recall: Floats
    specificity: Floats
    f1: Floats
    auc: Floats
    average_precision: Floats
    support: Array


def softmax(logits: Array) -> NDArray[np.float32]:
    """Row-wise softmax of (N, C), computed in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    powers = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def confusion(labels: Array, predicted: Array, classes: int) -> Indices:
    """(C, C) int64 counts: rows are truth, columns are predictions."""
    flat = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def ratio(upper: Array, lower: Array) -> Floats:
    """Divide element by element; NaN where `lower` is 0."""
    quotient: Floats = np.divide(upper, lower, out=np.full(np.shape(lower), math.nan), where=np.asarray(lower) > 0)
    return quotient


def unit_weights(images: int) -> Floats:
    """Return the weights of a point estimate: (1, N) ones."""
    return np.ones((1, images))


def weighted_share(hits: Array, among: Array, weights: Floats) -> Floats:
    """Weighted share of the images `among` that are also `hits`. hits, among: (N,) bool; returns (R,)."""
    return ratio(weights @ (hits & among), weights @ among)


def weighted_per_class(labels: Array, probabilities: Array, weights: Floats) -> PerClass:
    """Metrics of each of the C classes against all others, (R, C) each."""
    hits, support, flagged = _class_counts(labels, probabilities.argmax(axis=1), weights, probabilities.shape[1])
    others = weights.sum(axis=1)[:, None] - support
    areas, precisions = weighted_class_areas(labels, probabilities, weights)
    return PerClass(
        precision=ratio(hits, flagged),
        recall=ratio(hits, support),
        specificity=ratio(others - (flagged - hits), others),
        f1=np.where(support > 0, ratio(2 * hits, support + flagged), math.nan),
        auc=areas,
        average_precision=precisions,
        support=support,
    )


def weighted_class_areas(labels: Array, probabilities: Array, weights: Floats) -> tuple[Floats, Floats]:
    """AUC and average precision of each class against the rest, (R, C) each."""
    areas = [weighted_areas(labels == c, probabilities[:, c], weights) for c in range(probabilities.shape[1])]
    return np.stack([area for area, _ in areas], axis=1), np.stack([precision for _, precision in areas], axis=1)


def weighted_areas(positive: Array, score: Array, weights: Floats) -> tuple[Floats, Floats]:
    """AUC and average precision of a score, (R,) each; NaN unless both kinds occur and all scores are finite.

    `auc` and `average_precision` have the definitions.
    """
    if not np.isfinite(score).all():
        return np.full(len(weights), math.nan), np.full(len(weights), math.nan)
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))  # equal scores count together
    ordered = weights[:, order]
    total = np.add.reduceat(ordered, starts, axis=1)
    hits = np.add.reduceat(ordered * positive[order], starts, axis=1)
    above, hits_above = total.cumsum(axis=1), hits.cumsum(axis=1)
    positives, negatives = weights @ positive, weights @ ~positive
    outscored = negatives[:, None] - (above - hits_above) + (total - hits) / 2
    area = ratio((hits * outscored).sum(axis=1), positives * negatives)
    precision = np.divide(hits_above, above, out=np.zeros_like(above), where=above > 0)
    average = ratio((hits * precision).sum(axis=1), positives)
    return area, np.where(negatives > 0, average, math.nan)


def mean_over_classes(values: Floats) -> Floats:
    """Mean of the classes whose value is defined: (R, C) -> (R,)."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1))


def accuracy(labels: Array, predicted: Array) -> float:
    """Share of right predictions, NaN for no images."""
    right = np.asarray(labels == predicted)
    return float(weighted_share(right, np.ones_like(right), unit_weights(len(labels)))[0])


def balanced_accuracy(labels: Array, predicted: Array) -> float:
    """Mean recall over the classes that occur in `labels`, NaN for no images."""
    hits, support, _ = _class_counts(labels, predicted, unit_weights(len(labels)), int(labels.max(initial=-1)) + 1)
    return _nanmean(ratio(hits, support)[0])


def per_class(labels: Array, probabilities: Array) -> PerClass:
    """Metrics of each of the C classes against all others, (C,) each."""
    rows = weighted_per_class(labels, probabilities, unit_weights(len(labels)))
    point = PerClass(*(getattr(rows, field.name)[0] for field in fields(PerClass)))
    precisions = [average_precision(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])]
    return replace(point, average_precision=np.array(precisions), support=point.support.astype(np.int64))


def auc(positive: Array, score: Array) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting half.

    The Mann-Whitney statistic (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747). NaN unless both kinds
    occur and all scores are finite.
    """
    return float(weighted_areas(np.asarray(positive, dtype=bool), np.asarray(score), unit_weights(len(score)))[0][0])


def operating_points(positive: Array, score: Array) -> tuple[Floats, Floats, Floats]:
    """Return (T,) falling thresholds, and the positives and the negatives that score at least each threshold.

    T is the number of different scores; the counts are float64 and rise.
    """
    thresholds, index = np.unique(score, return_inverse=True)
    hits = np.bincount(index[positive], minlength=len(thresholds))[::-1].cumsum()
    alarms = np.bincount(index[~positive], minlength=len(thresholds))[::-1].cumsum()
    return thresholds[::-1].astype(np.float64), hits.astype(np.float64), alarms.astype(np.float64)


def roc_corners(positive: Array, score: Array) -> Indices:
    """Return the corners of the ROC curve: (K, 2) int64, negatives and positives flagged, from (0, 0) to all of both.

    Straight lines between the corners are the curve: the area is `auc`.
    """
    _, hits, alarms = operating_points(positive, score)
    points = np.array([[0, 0], *zip(alarms, hits, strict=True)], dtype=np.int64)
    steps = np.diff(points, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    corners: Indices = points[np.concatenate([[True], turns, [True]])]
    return corners


def average_precision(positive: Array, score: Array) -> float:
    """Precision at each threshold, weighted by the recall gained there (no interpolation).

    As `sklearn.metrics.average_precision_score`; NaN unless both kinds occur. Not by `weighted_areas`, which rounds
    in another order: the last bit of published figures would change.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any() or not np.isfinite(score).all():
        return math.nan
    _, hits, alarms = operating_points(positive, score)
    return float(np.sum(np.diff(hits, prepend=0) * hits / (hits + alarms)) / hits[-1])


def macro_average_precision(labels: Array, probabilities: Array) -> float:
    """Mean one-vs-rest average precision over the classes that have positives and negatives."""
    columns = range(probabilities.shape[1])
    return _nanmean(np.array([average_precision(labels == c, probabilities[:, c]) for c in columns]))


def macro_auc(labels: Array, probabilities: Array) -> float:
    """Mean one-vs-rest AUC over the classes that have positives and negatives."""
    return _nanmean(weighted_class_areas(labels, probabilities, unit_weights(len(labels)))[0][0])


def sensitivity_specificity(positive: Array, flagged: Array) -> tuple[float, float]:
    """Share of the positives that are flagged, share of the negatives that are not.

    flagged: (N,) bool. NaN without positives, or without negatives.
    """
    positive, flagged = np.asarray(positive, dtype=bool), np.asarray(flagged, dtype=bool)
    weights = unit_weights(len(positive))
    return (
        float(weighted_share(flagged, positive, weights)[0]),
        float(weighted_share(~flagged, ~positive, weights)[0]),
    )


def malignant_score(probabilities: Array, malignant: tuple[int, ...]) -> Floats:
    """Sum of the probabilities of the malignant classes: (N,) float64."""
    scores: Floats = np.asarray(probabilities, dtype=np.float64)[:, list(malignant)].sum(axis=1)
    return scores


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    n = 0 gives (0, 1).
    """
    if n == 0:
        return 0.0, 1.0
    share, weight = successes / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return max(0.0, low), min(1.0, high)


def share_difference(successes: tuple[int, int], n: tuple[int, int]) -> tuple[float, float, float]:
    """Return (difference, low, high) of two independent shares, the first minus the second, with its 95 % interval.

    Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10
    (doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I). NaN if either n is 0.
    """
    if 0 in n:
        return math.nan, math.nan, math.nan
    first, second = (hits / total for hits, total in zip(successes, n, strict=True))
    (low_1, high_1), (low_2, high_2) = (wilson(hits, total) for hits, total in zip(successes, n, strict=True))
    difference = first - second
    below = math.hypot(first - low_1, high_2 - second)
    above = math.hypot(high_1 - first, second - low_2)
    return difference, difference - below, difference + above


def _class_counts(labels: Array, predicted: Array, weights: Floats, classes: int) -> tuple[Floats, Floats, Floats]:
    """Weighted counts of each class, (R, C) each: right predictions, images, predictions."""
    of_class = (labels[:, None] == np.arange(classes)).astype(np.float64)
    as_class = (predicted[:, None] == np.arange(classes)).astype(np.float64)
    return weights @ (of_class * as_class), weights @ of_class, weights @ as_class


def _nanmean(values: Array) -> float:
    """Mean of the values that are defined, NaN (without a warning) when none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan
