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

    precision is NaN where nothing was predicted as the class, recall and auc where the class is absent;
    f1 is NaN for an absent class, else 2TP / (2TP + FP + FN).
    """

    precision: Floats
    recall: Floats
    f1: Floats
    auc: Floats
    support: Indices


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
    """Precision, recall, F1, one-vs-rest AUC and support of each of the C classes."""
    classes = probabilities.shape[1]
    matrix = confusion(labels, probabilities.argmax(axis=1), classes)
    hits = np.diag(matrix).astype(np.float64)
    support, flagged = matrix.sum(axis=1), matrix.sum(axis=0)
    return PerClass(
        precision=_ratio(hits, flagged),
        recall=_ratio(hits, support),
        f1=np.where(support > 0, _ratio(2 * hits, support + flagged), math.nan),
        auc=np.array([auc(labels == c, probabilities[:, c]) for c in range(classes)]),
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


def bootstrap_fall(
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
