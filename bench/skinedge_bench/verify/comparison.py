"""A file beside the reference on the same images: how surely it lost nothing, and whose diagnosis changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics
from skinedge.stats.paired import Estimate, McNemar, balanced_accuracy_drop, mean_estimate

MISSED, ALARM = "malignant to benign", "benign to malignant"


@dataclass(frozen=True)
class Side:
    """What one of the two said: (N, C) float32 probabilities; from which malignant score on it flags, None: never."""

    probabilities: NDArray[np.float32]
    threshold: float | None

    @property
    def answers(self) -> NDArray[np.int64]:
        """(N,) the likeliest class."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Pair:
    """N images, and what both said of them. labels: names of the classes; truth: (N,) int64, indices of labels;
    malignant: indices that count towards the malignant score; melanoma: index of that class, None without one.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    reference: Side
    file: Side
    malignant: tuple[int, ...]
    melanoma: int | None

    def scores(self, side: Side) -> NDArray[np.float64]:
        return metrics.malignant_score(side.probabilities, self.malignant)

    def flags(self, side: Side) -> NDArray[np.bool_] | None:
        """(N,) whether each image is flagged as malignant; None where nothing is."""
        if side.threshold is None or not self.malignant:
            return None
        return np.asarray(self.scores(side) >= side.threshold)


@dataclass(frozen=True)
class Comparison:
    """Paired figures of a file that is not exact. A fall is positive for a loss; intervals are two-sided, 95 %.

    mcnemar: right answers (the likeliest class); melanoma_sensitivity_fall: over the melanomas, None without that
    class; malignant_sensitivity_fall: over the malignant images, flagged by each side at its own threshold, None
    without one; malignant_score_change: mean absolute change, None where no class is malignant.
    """

    mcnemar: McNemar
    balanced_accuracy_fall: Estimate
    melanoma_sensitivity_fall: Estimate | None
    malignant_sensitivity_fall: Estimate | None
    malignant_score_change: Estimate | None

    def document(self) -> dict[str, object]:
        """The JSON form; McNemar's table with its p."""
        return {**asdict(self), "mcnemar": {**asdict(self.mcnemar), "p": self.mcnemar.p}}


@dataclass(frozen=True)
class Change:
    """One image with another diagnosis: another likeliest class, or flagged by one side alone.

    image: its id; label: the truth; *_probability: of the answer; *_malignant: the malignant score; verdict: 'malignant
    to benign' or 'benign to malignant' where one side alone flags it, else None.
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
    """All figures of `Comparison`."""
    before, after = pair.reference.answers, pair.file.answers
    table = McNemar.of(before == pair.truth, after == pair.truth)
    change = np.abs(pair.scores(pair.file) - pair.scores(pair.reference))
    return Comparison(
        mcnemar=table,
        balanced_accuracy_fall=balanced_accuracy_drop(pair.truth, before, after),
        melanoma_sensitivity_fall=_melanoma_fall(pair),
        malignant_sensitivity_fall=_malignant_fall(pair),
        malignant_score_change=mean_estimate(change) if pair.malignant else None,
    )


def _melanoma_fall(pair: Pair) -> Estimate | None:
    if pair.melanoma is None:
        return None
    of = pair.truth == pair.melanoma
    return McNemar.of(*(side.answers[of] == pair.melanoma for side in (pair.reference, pair.file))).estimate()


def _malignant_fall(pair: Pair) -> Estimate | None:
    before, after = pair.flags(pair.reference), pair.flags(pair.file)
    if before is None or after is None:
        return None
    of = np.isin(pair.truth, pair.malignant)
    return McNemar.of(before[of], after[of]).estimate()


def changes(pair: Pair) -> tuple[Change, ...]:
    """The images whose diagnosis changed: what the file no longer flags (truly malignant ones first), what it alone
    flags, the rest; in each of these the largest change of the malignant score first.
    """
    verdicts = _verdicts(pair)
    changed = np.flatnonzero((pair.reference.answers != pair.file.answers) | (verdicts != ""))
    found = [_change(pair, int(i), str(verdicts[i])) for i in changed]
    ranks = {MISSED: 0, ALARM: 1, None: 2}
    dangerous = {pair.labels[index] for index in pair.malignant}

    def order(change: Change) -> tuple[int, bool, float, str]:
        moved = abs(change.file_malignant - change.reference_malignant)
        return ranks[change.verdict], change.label not in dangerous, -moved, change.image

    return tuple(sorted(found, key=order))


def _verdicts(pair: Pair) -> NDArray[np.str_]:
    """(N,) MISSED, ALARM or ''."""
    before, after = pair.flags(pair.reference), pair.flags(pair.file)
    if before is None or after is None:
        return np.full(len(pair.ids), "")
    return np.where(before & ~after, MISSED, np.where(after & ~before, ALARM, ""))


def _change(pair: Pair, index: int, verdict: str) -> Change:
    was, now = int(pair.reference.answers[index]), int(pair.file.answers[index])
    before, after = pair.reference.probabilities[index], pair.file.probabilities[index]
    malignant = list(pair.malignant)
    return Change(
        image=pair.ids[index],
        label=pair.labels[pair.truth[index]],
        reference=pair.labels[was],
        reference_probability=float(before[was]),
        file=pair.labels[now],
        file_probability=float(after[now]),
        reference_malignant=float(before[malignant].sum(dtype=np.float64)),
        file_malignant=float(after[malignant].sum(dtype=np.float64)),
        verdict=verdict or None,
    )
