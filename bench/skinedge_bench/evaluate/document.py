"""What a model said of labelled images, and the figures that follow from it, as they stand in JSON.

Which class is likeliest depends on how common the classes are taken to be. Accuracy is a figure of the images as they
come, so it is of the probabilities at the training prior, as published figures of networks trained with plain cross
entropy are; balanced accuracy and what is told class by class counts every class the same, so it is of those at the
uniform prior. The malignant score, its threshold, the reliability and the confusion matrix are of the file as it
answers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics

PER_CLASS = ("precision", "recall", "specificity", "f1", "auc", "average_precision")
BALANCED = ("balanced_accuracy", "macro_auc", "macro_average_precision", "per_class", "subgroups")
AS_ANSWERED = ("malignant", "ece", "confusion")


@dataclass(frozen=True)
class Predictions:
    """Probabilities beside the truth, for N images and C classes.

    labels: in the order of the columns; truth: (N,) int64, indices of labels; probabilities: (N, C) float32;
    malignant: indices that count towards the malignant score, None where the classes are unknown; threshold: of
    that score (0..1), at and above which an image is flagged, None where nothing is flagged; prior: (C,), the class
    shares that the probabilities assume; training: (C,), those of the training images; None where nobody tells.
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
        """(N,) int64, the likeliest class, as the file itself answers."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @cached_property
    def uniform(self) -> NDArray[Any]:
        """(N, C) probabilities at the uniform prior; the file's own where its prior is unknown."""
        return self._at((1 / len(self.labels),) * len(self.labels))

    @cached_property
    def trained(self) -> NDArray[Any]:
        """(N, C) probabilities at the training prior; the file's own where that or its prior is unknown."""
        return self._at(self.training)

    def _at(self, wanted: tuple[float, ...] | None) -> NDArray[Any]:
        if self.prior is None or wanted is None:
            return self.probabilities
        return reweighed(self.probabilities, self.prior, wanted)

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


def reweighed(probabilities: NDArray[Any], assumed: tuple[float, ...], wanted: tuple[float, ...]) -> NDArray[Any]:
    """What the probabilities are if the classes come as in `wanted`: p * wanted / assumed, rows summing to 1.

    probabilities: (N, C); assumed, wanted: (C,) positive, the class prior that they assume and the one that they are
    to assume. Saerens, Latinne and Decaestecker 2002, doi:10.1162/089976602753284446, equation 2.4.
    """
    if np.allclose(assumed, wanted, rtol=1e-9, atol=0):
        return probabilities  # to the bit: equal scores stay equal
    odds = probabilities.astype(np.float64) * (np.asarray(wanted) / np.asarray(assumed))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float64)


def priors_document(said: Predictions) -> dict[str, object]:
    """The priors, label -> share (None where unknown), and which of them each figure assumes.

    assumed_prior: figure -> 'training', 'uniform' or 'file' (that of the file, whatever it is).
    """
    known = {"class_prior": said.prior, "training_prior": said.training}
    trained = "file" if said.prior is None or said.training is None else "training"
    balanced = "file" if said.prior is None else "uniform"
    return {
        **{n: None if prior is None else dict(zip(said.labels, prior, strict=True)) for n, prior in known.items()},
        "assumed_prior": {
            **dict.fromkeys(("accuracy", "macro_auc_training_prior"), trained),
            **dict.fromkeys(BALANCED, balanced),
            **dict.fromkeys(AS_ANSWERED, "file"),
        },
    }


def overall_document(said: Predictions) -> dict[str, float]:
    """The figures that are one number each; NaN where undefined.

    macro_auc_training_prior: each class against the rest depends on the prior too, since what the rest gets is what
    the other classes share; NaN where the training prior is unknown.
    """
    known = said.prior is not None and said.training is not None
    return {
        "accuracy": metrics.accuracy(said.truth, said.trained.argmax(axis=1)),
        "balanced_accuracy": metrics.balanced_accuracy(said.truth, said.uniform.argmax(axis=1)),
        "macro_auc": metrics.macro_auc(said.truth, said.uniform),
        "macro_auc_training_prior": metrics.macro_auc(said.truth, said.trained) if known else float("nan"),
        "macro_average_precision": metrics.macro_average_precision(said.truth, said.uniform),
    }


def per_class_document(said: Predictions) -> dict[str, dict[str, object]]:
    """label -> precision, recall (and, the same, sensitivity), specificity, f1, auc, average_precision, support."""
    each = metrics.per_class(said.truth, said.uniform)
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


def reliability_document(said: Predictions) -> dict[str, object]:
    """`ece` over the images as they are, `ece_at_class_prior` as if the classes came as is assumed, and the bins."""
    found = metrics.reliability(said.truth, said.probabilities)
    weights = metrics.prior_weights(said.truth, np.array(said.prior)) if said.prior is not None else None
    at_prior = None if weights is None else metrics.reliability(said.truth, said.probabilities, weights).ece
    bins = zip(found.edges, found.edges[1:], found.share, found.confidence, found.accuracy, strict=False)
    names = ("above", "up_to", "share", "confidence", "accuracy")
    rows = [dict(zip(names, map(float, values), strict=True)) for values in bins]
    return {"ece": found.ece, "ece_at_class_prior": at_prior, "reliability": rows}


def roc_document(said: Predictions) -> dict[str, object]:
    """`roc`: where the curves turn, [negatives flagged, positives flagged] from [0, 0] on; the last holds all images.

    per_class: label -> points, at the same prior as the classes' areas; malignant: those of the score. None where the
    images are all of one kind, or nobody knows which classes are malignant.
    """
    classes = {label: _corners(said.truth == i, said.uniform[:, i]) for i, label in enumerate(said.labels)}
    known = said.malignant is not None
    return {"roc": {"per_class": classes, "malignant": _corners(said.positive, said.score) if known else None}}


def _corners(positive: NDArray[np.bool_], score: NDArray[Any]) -> list[list[int]] | None:
    both = positive.any() and not positive.all()
    return metrics.roc_corners(positive, score).tolist() if both else None
