"""Numbers about predictions, as pure functions of arrays.

Throughout: labels, predicted: (N,) integers, indices of classes; probabilities: (N, C), rows sum to 1.
A figure that is undefined (an absent class, no positives) is NaN, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Array = NDArray[Any]

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


@dataclass(frozen=True)
class PerClass:
    """One value per class: (C,) float64, support (C,) int64.

    precision is NaN where nothing was predicted as the class; recall, auc and average_precision where the class is
    absent; specificity where there is no other; f1 is NaN for an absent class, else 2TP / (2TP + FP + FN).
    """

    precision: Floats
    recall: Floats
    specificity: Floats
    f1: Floats
    auc: Floats
    average_precision: Floats
    support: Indices


@dataclass(frozen=True)
class Reliability:
    """How often the top class is right, by how sure the model was: (B,) float64 for B bins of equal width.

    edges: (B + 1,), 0 to 1, a bin holds its upper edge; share: of the images' weight; confidence, accuracy: means
    within the bin, NaN where it is empty; ece: expected calibration error, the sum of share * |accuracy - confidence|
    (Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, arXiv:1706.04599), NaN for no images.
    """

    edges: Floats
    share: Floats
    confidence: Floats
    accuracy: Floats
    ece: float


def softmax(logits: Array) -> NDArray[np.float32]:
    """Row-wise softmax of (N, C), computed in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    powers = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)


def confusion(labels: Array, predicted: Array, classes: int) -> Indices:
    """(C, C) int64 counts: rows are truth, columns are predictions."""
    flat = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(labels: Array, predicted: Array) -> float:
    """Share of right predictions, NaN for no images."""
    return float(np.mean(labels == predicted)) if len(labels) else math.nan


def balanced_accuracy(labels: Array, predicted: Array) -> float:
    """Mean recall over the classes that occur in `labels`, NaN for no images."""
    return nanmean(np.array([np.mean(predicted[labels == c] == c) for c in np.unique(labels)]))


def per_class(labels: Array, probabilities: Array) -> PerClass:
    """Each of the C classes against all others: precision, recall, specificity, F1, AUC, average precision, support."""
    classes = range(probabilities.shape[1])
    matrix = confusion(labels, probabilities.argmax(axis=1), len(classes))
    hits = np.diag(matrix).astype(np.float64)
    support, flagged = matrix.sum(axis=1), matrix.sum(axis=0)
    others = len(labels) - support
    return PerClass(
        precision=_ratio(hits, flagged),
        recall=_ratio(hits, support),
        specificity=_ratio(others - (flagged - hits), others),
        f1=np.where(support > 0, _ratio(2 * hits, support + flagged), math.nan),
        auc=np.array([auc(labels == c, probabilities[:, c]) for c in classes]),
        average_precision=np.array([average_precision(labels == c, probabilities[:, c]) for c in classes]),
        support=support,
    )


def auc(positive: Array, score: Array) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting half.

    positive: (N,) bool; score: (N,). The Mann-Whitney statistic from mid-ranks
    (Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747). NaN unless both kinds occur.
    """
    positive = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0 or not np.isfinite(score).all():
        return math.nan
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    mid_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mid_ranks[place][positive].sum())
    return (rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def operating_points(positive: Array, score: Array) -> tuple[Floats, Floats, Floats]:
    """What each threshold would flag: (T,) thresholds, falling; positives and negatives that score as much or more.

    positive: (N,) bool; score: (N,). T is the number of different scores; the counts are float64 and rise.
    """
    thresholds, place = np.unique(score, return_inverse=True)
    hits = np.bincount(place[positive], minlength=len(thresholds))[::-1].cumsum()
    alarms = np.bincount(place[~positive], minlength=len(thresholds))[::-1].cumsum()
    return thresholds[::-1].astype(np.float64), hits.astype(np.float64), alarms.astype(np.float64)


def roc_corners(positive: Array, score: Array) -> Indices:
    """Where the ROC curve turns: (K, 2) int64, negatives and positives flagged, from (0, 0) to all of both.

    positive: (N,) bool; score: (N,). Straight lines between them are the whole curve: the area is `auc`.
    """
    _, hits, alarms = operating_points(positive, score)
    points = np.array([[0, 0], *zip(alarms, hits, strict=True)], dtype=np.int64)
    steps = np.diff(points, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] != steps[:-1, 1] * steps[1:, 0]
    corners: Indices = points[np.concatenate([[True], turns, [True]])]
    return corners


def average_precision(positive: Array, score: Array) -> float:
    """Precision at each threshold, weighted by the recall gained there (no interpolation).

    positive: (N,) bool; score: (N,). As `sklearn.metrics.average_precision_score`; NaN unless both kinds occur.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any() or not np.isfinite(score).all():
        return math.nan
    _, hits, alarms = operating_points(positive, score)
    return float(np.sum(np.diff(hits, prepend=0) * hits / (hits + alarms)) / hits[-1])


def macro_average_precision(labels: Array, probabilities: Array) -> float:
    """Mean one-vs-rest average precision over the classes that occur (and are not all there is)."""
    columns = range(probabilities.shape[1])
    return nanmean(np.array([average_precision(labels == c, probabilities[:, c]) for c in columns]))


def reliability(labels: Array, probabilities: Array, weights: Array | None = None, bins: int = 15) -> Reliability:
    """The reliability diagram of the top class, and its expected calibration error.

    weights: (N,), how much each image counts; None: all alike.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    weight = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    right = probabilities.argmax(axis=1) == labels
    total, sure, hits = (np.bincount(place, weight * v, bins) for v in (np.ones(len(labels)), confidence, right))
    whole: float = total.sum()
    share: Floats = total / whole if whole else total.astype(np.float64)
    mean, accurate = _ratio(sure, total), _ratio(hits, total)
    ece = float(np.nansum(share * np.abs(accurate - mean))) if whole else math.nan
    return Reliability(edges, share, mean, accurate, ece)


def prior_weights(labels: Array, prior: Array) -> Floats:
    """One weight per image, mean 1, with which the classes that occur count as `prior` says. prior: (C,)."""
    counts = np.bincount(labels, minlength=len(prior))
    weights: Floats = np.asarray(prior, dtype=np.float64)[labels] / counts[labels]
    return weights / weights.mean() if len(weights) else weights


def macro_auc(labels: Array, probabilities: Array) -> float:
    """Mean one-vs-rest AUC over the classes that occur (and are not all there is)."""
    return nanmean(np.array([auc(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])]))


def sensitivity_specificity(positive: Array, flagged: Array) -> tuple[float, float]:
    """Share of the positives that were flagged, share of the negatives that were not.

    positive, flagged: (N,) bool. NaN where there are no positives, or no negatives.
    """
    positive, flagged = np.asarray(positive, dtype=bool), np.asarray(flagged, dtype=bool)
    hits, rejections = flagged[positive], ~flagged[~positive]
    return (
        float(hits.mean()) if hits.size else math.nan,
        float(rejections.mean()) if rejections.size else math.nan,
    )


def malignant_score(probabilities: Array, malignant: tuple[int, ...]) -> Floats:
    """Sum of the probabilities of the classes that count as malignant: (N,) float64."""
    scores: Floats = np.asarray(probabilities, dtype=np.float64)[:, list(malignant)].sum(axis=1)
    return scores


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    n = 0 gives (0, 1): nothing is known.
    """
    if n == 0:
        return 0.0, 1.0
    share, weight = successes / n, z * z / n
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return max(0.0, low), min(1.0, high)


def bootstrap_drop(
    labels: Array, reference: Array, predicted: Array, *, resamples: int = 10_000, seed: int = 0
) -> Floats:
    """Bootstrap distribution of how far balanced accuracy fell from `reference` to `predicted`.

    Paired (an image keeps both its predictions) and stratified (each class is resampled to its own
    size). An image contributes -1, 0 or 1, so a class's resample is one multinomial draw of three counts.

    reference, predicted: (N,) predicted classes; returns (resamples,) float64, positive for a fall.
    """
    rng = np.random.default_rng(seed)
    falls = np.zeros(resamples)
    present = np.unique(labels)
    for c in present:
        inside = labels == c
        lost = (reference[inside] == c).astype(np.int64) - (predicted[inside] == c)
        shares = np.array([np.mean(lost == -1), np.mean(lost == 0), np.mean(lost == 1)])
        counts = rng.multinomial(lost.size, shares / shares.sum(), size=resamples)
        falls += (counts[:, 2] - counts[:, 0]) / lost.size
    return falls / max(1, present.size)


def nanmean(values: Array) -> float:
    """Mean of the values that are defined, NaN (without a warning) when none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def _ratio(upper: Array, lower: Array) -> Floats:
    ratio: Floats = np.divide(upper, lower, out=np.full(len(upper), math.nan), where=np.asarray(lower) > 0)
    return ratio
