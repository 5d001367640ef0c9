"""Paired comparison of a file with the reference: drops with intervals, and the images with a changed diagnosis."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics
from skinedge.stats.paired import Estimate, McNemar, balanced_accuracy_drop, mean_estimate

MISSED, ALARM = "malignant to benign", "benign to malignant"


@dataclass(frozen=True)
class Side:
    """Outputs of one side. probabilities: (N, C) float32; threshold: decision threshold, None if it flags nothing."""

    probabilities: NDArray[np.float32]
    threshold: float | None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) int64, the most likely class."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Pair:
    """N images, with the outputs of both sides.

    ids: of the images; labels: names of the classes; truth: (N,) int64, indices of labels; malignant: indices of the
    malignant classes; melanoma: index of that class, None without one.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    reference: Side
    file: Side
    malignant: tuple[int, ...]
    melanoma: int | None

    def scores(self, side: Side) -> NDArray[np.float64]:
        """(N,) malignant scores."""
        return metrics.malignant_score(side.probabilities, self.malignant)

    def flags(self, side: Side) -> NDArray[np.bool_] | None:
        """(N,) bool, whether each image is flagged as malignant; None without a threshold or malignant classes."""
        if side.threshold is None or not self.malignant:
            return None
        return np.asarray(self.scores(side) >= side.threshold)


@dataclass(frozen=True)
class Comparison:
    """Paired statistics of a file that is not exact. A drop (*_fall) is positive for a loss; intervals are at 95 %.

    mcnemar: right predictions of the most likely class; melanoma_sensitivity_fall: over the melanomas, None without
    that class; malignant_sensitivity_fall: over the malignant images, flagged by each side at its own threshold, None
    without one; malignant_score_change: mean absolute change, None without malignant classes.
    """

    mcnemar: McNemar
    balanced_accuracy_fall: Estimate
    melanoma_sensitivity_fall: Estimate | None
    malignant_sensitivity_fall: Estimate | None
    malignant_score_change: Estimate | None

    def document(self) -> dict[str, object]:
        """Return as JSON; McNemar's table with its p."""
        return {**asdict(self), "mcnemar": {**asdict(self.mcnemar), "p": self.mcnemar.p}}


@dataclass(frozen=True)
class Change:
    """An image with a changed diagnosis: another most likely class, or flagged by one side only.

    image: its id; label: the truth; *_probability: of the predicted class; *_malignant: the malignant score; verdict:
    'malignant to benign' or 'benign to malignant' if one side only flags it, else None.
    """

    image: str
    label: str
    reference: str
    reference_probability: float
    file: str
    file_probability: float
    reference_malignant: float
    file_malignant: float
    verdict: str | None


def compare(pair: Pair) -> Comparison:
    """Compute the paired statistics."""
    before, after = pair.reference.predicted, pair.file.predicted
    table = McNemar.of(before == pair.truth, after == pair.truth)
    change = np.abs(pair.scores(pair.file) - pair.scores(pair.reference))
    return Comparison(
        mcnemar=table,
        balanced_accuracy_fall=balanced_accuracy_drop(pair.truth, before, after),
        melanoma_sensitivity_fall=_melanoma_drop(pair),
        malignant_sensitivity_fall=_malignant_drop(pair),
        malignant_score_change=mean_estimate(change) if pair.malignant else None,
    )


def _melanoma_drop(pair: Pair) -> Estimate | None:
    if pair.melanoma is None:
        return None
    inside = pair.truth == pair.melanoma
    return McNemar.of(*(side.predicted[inside] == pair.melanoma for side in (pair.reference, pair.file))).estimate()


def _malignant_drop(pair: Pair) -> Estimate | None:
    before, after = pair.flags(pair.reference), pair.flags(pair.file)
    if before is None or after is None:
        return None
    inside = np.isin(pair.truth, pair.malignant)
    return McNemar.of(before[inside], after[inside]).estimate()


def changes(pair: Pair) -> tuple[Change, ...]:
    """List the images whose diagnosis changed.

    First those that the file no longer flags, then those that it alone flags, then the rest; within each, malignant
    images first, then the largest change of the malignant score.
    """
    verdicts = _verdicts(pair)
    changed = np.flatnonzero((pair.reference.predicted != pair.file.predicted) | (verdicts != ""))
    unsorted = [_change(pair, int(i), str(verdicts[i])) for i in changed]
    ranks = {MISSED: 0, ALARM: 1, None: 2}
    malignant = {pair.labels[index] for index in pair.malignant}

    def order(change: Change) -> tuple[int, bool, float, str]:
        difference = abs(change.file_malignant - change.reference_malignant)
        return ranks[change.verdict], change.label not in malignant, -difference, change.image

    return tuple(sorted(unsorted, key=order))


def _verdicts(pair: Pair) -> NDArray[np.str_]:
    """(N,) MISSED, ALARM or ''."""
    before, after = pair.flags(pair.reference), pair.flags(pair.file)
    if before is None or after is None:
        return np.full(len(pair.ids), "")
    return np.where(before & ~after, MISSED, np.where(after & ~before, ALARM, ""))


def _change(pair: Pair, index: int, verdict: str) -> Change:
    old, new = int(pair.reference.predicted[index]), int(pair.file.predicted[index])
    before, after = pair.reference.probabilities[index], pair.file.probabilities[index]
    malignant = list(pair.malignant)
    return Change(
        image=pair.ids[index],
        label=pair.labels[pair.truth[index]],
        reference=pair.labels[old],
        reference_probability=float(before[old]),
        file=pair.labels[new],
        file_probability=float(after[new]),
        reference_malignant=float(before[malignant].sum(dtype=np.float64)),
        file_malignant=float(after[malignant].sum(dtype=np.float64)),
        verdict=verdict or None,
    )
