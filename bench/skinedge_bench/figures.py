"""What a model said of labelled images, and the figures that follow from it, as they stand in JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from skinedge import metrics

PER_CLASS = ("precision", "recall", "specificity", "f1", "auc", "average_precision")


@dataclass(frozen=True)
class Predictions:
    """Probabilities beside the truth, for N images and C classes.

    labels: in the order of the columns; truth: (N,) int64, indices of labels; probabilities: (N, C) float32;
    malignant: indices that count towards the malignant score, None where the classes are unknown; threshold: of
    that score (0..1), at and above which an image is flagged, None where nothing is flagged.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    malignant: tuple[int, ...] | None
    threshold: float | None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) int64, the likeliest class."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(N,) bool: truly malignant. All False where nobody knows which classes are."""
        return np.isin(self.truth, self.malignant or ())

    @property
    def score(self) -> NDArray[np.float64]:
        """(N,) float64: the malignant score. Zeros where nobody knows which classes are malignant."""
        return metrics.malignant_score(self.probabilities, self.malignant or ())

    @property
    def flagged(self) -> NDArray[np.bool_] | None:
        """(N,) bool: at or above the threshold; None where there is no score or no threshold."""
        return None if self.malignant is None or self.threshold is None else self.score >= self.threshold

    def where(self, chosen: NDArray[np.bool_]) -> Predictions:
        """The same for some of the images; chosen: (N,) bool."""
        return replace(self, truth=self.truth[chosen], probabilities=self.probabilities[chosen])


def overall_document(said: Predictions) -> dict[str, float]:
    """The figures that are one number each; NaN where undefined."""
    return {
        "accuracy": metrics.accuracy(said.truth, said.predicted),
        "balanced_accuracy": metrics.balanced_accuracy(said.truth, said.predicted),
        "macro_auc": metrics.macro_auc(said.truth, said.probabilities),
        "macro_average_precision": metrics.macro_average_precision(said.truth, said.probabilities),
    }


def per_class_document(said: Predictions) -> dict[str, dict[str, object]]:
    """label -> precision, recall (and, the same, sensitivity), specificity, f1, auc, average_precision, support."""
    each = metrics.per_class(said.truth, said.probabilities)
    return {
        label: {
            **{name: float(getattr(each, name)[i]) for name in PER_CLASS},
            "sensitivity": float(each.recall[i]),
            "support": int(each.support[i]),
        }
        for i, label in enumerate(said.labels)
    }


def malignant_document(said: Predictions) -> dict[str, object]:
    """Malignant against benign: AUC and average precision of the score; sensitivity, specificity at the threshold.

    *_counts: [how many were right, of how many]; *_wilson: their 95 % interval (it takes images for independent,
    the bootstrap does not). None where unknown.
    """
    known = said.malignant is not None
    areas = {
        "auc": metrics.auc(said.positive, said.score) if known else None,
        "average_precision": metrics.average_precision(said.positive, said.score) if known else None,
    }
    return {**flags_document(said), **areas, "threshold": said.threshold if known else None}


def flags_document(said: Predictions) -> dict[str, object]:
    """Sensitivity and specificity at the threshold, with counts and Wilson's interval; None without a threshold."""
    flagged, positive = said.flagged, said.positive
    if flagged is None:
        return {f"{name}{part}": None for name in ("sensitivity", "specificity") for part in ("", "_counts", "_wilson")}
    document: dict[str, object] = {}
    for name, right, of in (
        ("sensitivity", flagged & positive, positive),
        ("specificity", ~flagged & ~positive, ~positive),
    ):
        hits, n = int(right.sum()), int(of.sum())
        document[name] = hits / n if n else float("nan")
        document[f"{name}_counts"] = [hits, n]
        document[f"{name}_wilson"] = list(metrics.wilson(hits, n))
    return document


def reliability_document(said: Predictions, prior: tuple[float, ...] | None) -> dict[str, object]:
    """`ece` over the images as they are, `ece_at_class_prior` as if the classes came at `prior`, and the bins.

    prior: (C,), what the probabilities assume; None where no run tells.
    """
    found = metrics.reliability(said.truth, said.probabilities)
    weights = metrics.prior_weights(said.truth, np.array(prior)) if prior is not None else None
    at_prior = None if weights is None else metrics.reliability(said.truth, said.probabilities, weights).ece
    bins = zip(found.edges, found.edges[1:], found.share, found.confidence, found.accuracy, strict=False)
    names = ("above", "up_to", "share", "confidence", "accuracy")
    rows = [dict(zip(names, map(float, values), strict=True)) for values in bins]
    return {"ece": found.ece, "ece_at_class_prior": at_prior, "reliability": rows}
