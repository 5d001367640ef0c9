"""Predictions for labelled images, and their metrics in JSON.

The most likely class depends on the class prior, the assumed share of each class. Accuracy counts the images as they
come, so it is computed at the training prior, as published accuracies of networks trained with plain cross entropy are.
Balanced accuracy and the metrics of each class count every class the same, so they are computed at the uniform prior.
The malignant score, its decision threshold, the reliability and the confusion matrix use the file's own probabilities.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.taxonomy import full_name
from skinedge.stats import decisions, metrics
from skinedge.stats.reliability import prior_weights, reliability

PER_CLASS = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
BALANCED = ("balanced_accuracy", "macro_auc", "macro_average_precision", "per_class", "subgroups")
OWN_PRIOR = ("malignant", "ece", "confusion")


@dataclass(frozen=True)
class Predictions:
    """Probabilities and true classes of N images, for C classes.

    labels: in the order of the columns; truth: (N,) int64, indices of labels; probabilities: (N, C) float32;
    malignant: indices of the malignant classes, None if unknown; threshold: decision threshold of the malignant score
    (0..1), at and above which an image is flagged, None if nothing is flagged; prior: (C,), the class prior that the
    probabilities assume; training: (C,), the class shares of the training images; None if unknown.
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    malignant: tuple[int, ...] | None
    threshold: float | None
    prior: tuple[float, ...] | None = None
    training: tuple[float, ...] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) int64, the most likely class by the file's own probabilities."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def uniform(self) -> NDArray[Any]:
        """(N, C) probabilities at the uniform prior; the file's own if its prior is unknown."""
        return self._at((1 / len(self.labels),) * len(self.labels))

    @cached_property
    def trained(self) -> NDArray[Any]:
        """(N, C) probabilities at the training prior; the file's own if either prior is unknown."""
        return self._at(self.training)

    def _at(self, prior: tuple[float, ...] | None) -> NDArray[Any]:
        if self.prior is None or prior is None:
            return self.probabilities
        return reweighed(self.probabilities, self.prior, prior)

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without an image: means over classes leave them out."""
        return tuple(label for i, label in enumerate(self.labels) if i not in self.truth)

    @property
    def positive(self) -> NDArray[np.bool_]:
        """(N,) bool: truly malignant. All False if the malignant classes are unknown."""
        return np.isin(self.truth, self.malignant or ())

    @property
    def score(self) -> NDArray[np.float64]:
        """(N,) float64: the malignant score. Zeros if the malignant classes are unknown."""
        return metrics.malignant_score(self.probabilities, self.malignant or ())

    @property
    def flagged(self) -> NDArray[np.bool_] | None:
        """(N,) bool: at or above the threshold; None without a score or a threshold."""
        return None if self.malignant is None or self.threshold is None else self.score >= self.threshold

    def where(self, chosen: NDArray[np.bool_]) -> Predictions:
        """Select images. chosen: (N,) bool."""
        return replace(self, truth=self.truth[chosen], probabilities=self.probabilities[chosen])


def reweighed(probabilities: NDArray[Any], assumed: tuple[float, ...], wanted: tuple[float, ...]) -> NDArray[Any]:
    """Change the class prior of probabilities: p * wanted / assumed, normalized so that rows sum to 1.

    probabilities: (N, C); assumed, wanted: (C,) positive, the class prior before and after.
    Saerens, Latinne and Decaestecker 2002, doi:10.1162/089976602753284446, equation 2.4.
    """
    if np.allclose(assumed, wanted, rtol=1e-9, atol=0):
        return probabilities  # bit for bit: equal scores stay equal
    odds = probabilities.astype(np.float64) * (np.asarray(wanted) / np.asarray(assumed))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def priors_document(predictions: Predictions) -> dict[str, object]:
    """The class priors, label -> share (None if unknown), and the prior that each metric assumes.

    assumed_prior: metric -> 'training', 'uniform' or 'file' (the file's own prior).
    """
    priors = {"class_prior": predictions.prior, "training_prior": predictions.training}
    trained = "file" if predictions.prior is None or predictions.training is None else "training"
    balanced = "file" if predictions.prior is None else "uniform"
    labels = predictions.labels
    return {
        **{name: None if prior is None else dict(zip(labels, prior, strict=True)) for name, prior in priors.items()},
        "assumed_prior": {
            **dict.fromkeys(("accuracy", "macro_auc_training_prior"), trained),
            **dict.fromkeys(BALANCED, balanced),
            **dict.fromkeys(OWN_PRIOR, "file"),
        },
    }


def overall_document(predictions: Predictions) -> dict[str, float]:
    """The overall metrics; NaN where undefined.

    macro_auc_training_prior: the one-vs-rest AUC depends on the prior too, since it sets the weights of the other
    classes within the rest; NaN if the training prior is unknown.
    """
    truth, uniform, trained = predictions.truth, predictions.uniform, predictions.trained
    known = predictions.prior is not None and predictions.training is not None
    return {
        "accuracy": metrics.accuracy(truth, trained.argmax(axis=1)),
        "balanced_accuracy": metrics.balanced_accuracy(truth, uniform.argmax(axis=1)),
        "macro_auc": metrics.macro_auc(truth, uniform),
        "macro_auc_training_prior": metrics.macro_auc(truth, trained) if known else float("nan"),
        "macro_average_precision": metrics.macro_average_precision(truth, uniform),
    }


def per_class_document(predictions: Predictions) -> dict[str, dict[str, object]]:
    """label -> its metrics: `PER_CLASS`, sensitivity (= recall), and

    name: of the condition; support: images of the class; flagged: [images with a malignant score at the threshold or
    above, all images of the class], None without a threshold.
    """
    classes = metrics.per_class(predictions.truth, predictions.uniform)
    flagged = flagged_document(predictions) or dict.fromkeys(predictions.labels)
    return {
        label: {
            "name": full_name(label),
            **{name: float(getattr(classes, name)[i]) for name in PER_CLASS},
            "sensitivity": float(classes.recall[i]),
            "support": int(classes.support[i]),
            "flagged": flagged[label],
        }
        for i, label in enumerate(predictions.labels)
    }


def flagged_document(predictions: Predictions) -> dict[str, list[int]] | None:
    """label -> [images flagged as malignant, all images of the class]; None without a threshold."""
    if (flagged := predictions.flagged) is None:
        return None
    of_class = [predictions.truth == i for i in range(len(predictions.labels))]
    return {
        label: [int((flagged & images).sum()), int(images.sum())]
        for label, images in zip(predictions.labels, of_class, strict=True)
    }


def decisions_document(predictions: Predictions) -> dict[str, object]:
    """Thresholds, predictive values, decision curve and reliability of the malignant score: lists of rows.

    Empty if the malignant classes are unknown; predictive_values is empty without a threshold.
    """
    if predictions.malignant is None:
        return {}
    positive, score, flagged = predictions.positive, predictions.score, predictions.flagged
    values = []
    if flagged is not None and positive.any() and not positive.all():
        rates = metrics.sensitivity_specificity(positive, flagged)
        values = [asdict(decisions.predictive_values(*rates, share)) for share in decisions.PREVALENCES]
    return {
        "operating_points": [asdict(row) for row in decisions.operating_table(positive, score)],
        "predictive_values": values,
        "decision_curve": [asdict(row) for row in decisions.decision_curve(positive, score)],
        "score_reliability": [asdict(row) for row in decisions.score_bins(positive, score)],
    }


def malignant_document(predictions: Predictions) -> dict[str, object]:
    """Malignant against benign: AUC and average precision of the score; sensitivity, specificity at the threshold.

    *_counts: [right, total]; *_wilson: 95 % interval that assumes independent images (the bootstrap does not). None
    if unknown.
    """
    known = predictions.malignant is not None
    areas = {
        "auc": metrics.auc(predictions.positive, predictions.score) if known else None,
        "average_precision": metrics.average_precision(predictions.positive, predictions.score) if known else None,
    }
    return {**flags_document(predictions), **areas, "threshold": predictions.threshold if known else None}


def flags_document(predictions: Predictions) -> dict[str, object]:
    """Sensitivity and specificity at the threshold, with counts and Wilson's interval; None without a threshold."""
    flagged, positive = predictions.flagged, predictions.positive
    if flagged is None:
        return {f"{name}{part}": None for name in ("sensitivity", "specificity") for part in ("", "_counts", "_wilson")}
    document: dict[str, object] = {}
    for name, right, among in (
        ("sensitivity", flagged & positive, positive),
        ("specificity", ~flagged & ~positive, ~positive),
    ):
        hits, n = int(right.sum()), int(among.sum())
        document[name] = hits / n if n else float("nan")
        document[f"{name}_counts"] = [hits, n]
        document[f"{name}_wilson"] = list(metrics.wilson(hits, n))
    return document


def reliability_document(predictions: Predictions) -> dict[str, object]:
    """`ece` of the images as they are, `ece_at_class_prior` weighted to the assumed prior, and the diagram's bins."""
    diagram = reliability(predictions.truth, predictions.probabilities)
    weights = prior_weights(predictions.truth, np.array(predictions.prior)) if predictions.prior is not None else None
    at_prior = None if weights is None else reliability(predictions.truth, predictions.probabilities, weights).ece
    bins = zip(diagram.edges, diagram.edges[1:], diagram.share, diagram.confidence, diagram.accuracy, strict=False)
    names = ("above", "up_to", "share", "confidence", "accuracy")
    rows = [dict(zip(names, map(float, values), strict=True)) for values in bins]
    return {"ece": diagram.ece, "ece_at_class_prior": at_prior, "reliability": rows}


def roc_document(predictions: Predictions) -> dict[str, object]:
    """`roc`: corners of the curves, [negatives flagged, positives flagged], from [0, 0] to all images.

    per_class: label -> corners, at the same prior as the areas of the classes; malignant: corners of the score. None
    if all images are of one kind, or the malignant classes are unknown.
    """
    truth, uniform = predictions.truth, predictions.uniform
    classes = {label: _corners(truth == i, uniform[:, i]) for i, label in enumerate(predictions.labels)}
    malignant = None if predictions.malignant is None else _corners(predictions.positive, predictions.score)
    return {"roc": {"per_class": classes, "malignant": malignant}}


def _corners(positive: NDArray[np.bool_], score: NDArray[Any]) -> list[list[int]] | None:
    both = positive.any() and not positive.all()
    return metrics.roc_corners(positive, score).tolist() if both else None
