"""Does a model file say what the model in PyTorch says? Gates, as pure functions of arrays.

reference_logits: (N, C) float32, from the merged model in PyTorch; outputs: what the file said of the
same N images. A gate ends 'pass', 'fail', or 'underpowered': too few images to tell.

A file that is not exact is judged by intervals, all in one way (`_margin_gate`): it passes when the whole interval is
within the margin, and then only is called non-inferior (CONSORT for non-inferiority trials, Piaggio et al. 2012,
doi:10.1001/jama.2012.87802); it fails when the whole interval is beyond it; anything else is underpowered. So each
bound is a one-sided test at 5 % of whether the margin is kept: of files at the margin itself about one in twenty
fails, of files that lose nothing far fewer. To fail what fell beyond the margin and, by its lower bound, fell at all,
as this gate did once, fails one in twenty of the files that lose nothing, where a few changed answers in a rare class
carry the estimate over the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skinedge.core.outputs import Outputs
from skinedge.stats import metrics
from skinedge.stats.paired import (
    FEWEST,
    ONE_SIDED,
    Estimate,
    McNemar,
    balanced_accuracy_drop,
    mean_estimate,
    score_interval,
)

MAX_DIFFERENCE = 1e-3
DECIDED_MARGIN = 2e-3  # twice the largest difference: below it two right files may disagree
MIN_PROBABILITY = 1e-4
MIN_AGREEMENT = 0.97
MAX_FALL = 0.01  # of balanced accuracy
MAX_MELANOMA_FALL = 0.03  # of the share of melanomas that are called melanoma
MAX_SCORE_CHANGE = 0.01  # of the malignant score, 0..1, the mean of its absolute change
CLEAR_MARGIN = 1.0  # logits; int8's own noise stays below it, a wrong graph does not
MAX_SUM_ERROR = 1e-3  # of a row of probabilities in floating point
TAIL = 0.025  # of a one-sided exact test: as strict as the 95 % interval's bound

Verdict = Literal["pass", "fail", "underpowered"]
Array = NDArray[Any]


@dataclass(frozen=True)
class Gate:
    """One check: `value` against `limit` (None: not measured), the verdict, and a sentence for people."""

    name: str
    value: float | None
    limit: float
    verdict: Verdict
    detail: str = ""

    @property
    def measured(self) -> str:
        """The value, for people."""
        return "not measured" if self.value is None else f"{self.value:.4g}"


def passed(gates: Sequence[Gate], *, strict: bool = False) -> bool:
    """True when no gate failed (strict: and none is underpowered); False for no gates at all."""
    allowed = ("pass",) if strict else ("pass", "underpowered")
    return bool(gates) and all(gate.verdict in allowed for gate in gates)


def centred_log_probabilities(probabilities: Array, keep: Array) -> NDArray[np.float64]:
    """Log-probabilities minus their mean over the classes in `keep`: what softmax leaves of the logits.

    probabilities: (N, C); keep: (N, C) bool, at least one class a row; returns (N, C) float64, NaN
    outside `keep`. A kept probability of 0 gives infinities.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64))
        mean = np.where(keep, logs, 0).sum(axis=1, keepdims=True) / keep.sum(axis=1, keepdims=True)
        return np.where(keep, logs - mean, math.nan)


def largest_difference(reference_logits: Array, outputs: Outputs) -> float:
    """Largest absolute difference of centred log-probabilities, and of logits where the file has them.

    The former over the classes to which either side gives more than 1e-4. Infinite for NaN or infinities.
    """
    if not _all_finite(outputs):
        return math.inf
    logits = outputs.logits
    most = 0.0 if logits is None else float(np.abs(logits.astype(np.float64) - reference_logits).max(initial=0))
    gap = np.abs(log_differences(reference_logits, outputs.probabilities))
    return max(most, float(gap.max(initial=0))) if np.isfinite(gap).all() else math.inf


def log_differences(reference_logits: Array, probabilities: Array) -> NDArray[np.float64]:
    """Centred log-probabilities minus the reference's, of all classes to which either side gives more than 1e-4.

    (K,) float64, image by image; not finite where a probability is 0 or none.
    """
    shifted = np.asarray(reference_logits, dtype=np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    expected = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    keep = (expected > MIN_PROBABILITY) | (probabilities > MIN_PROBABILITY)
    ours = centred_log_probabilities(probabilities, keep)
    with np.errstate(invalid="ignore"):
        return np.asarray((ours - centred_log_probabilities(expected, keep))[keep], dtype=np.float64)


def fp32_gates(reference_logits: Array, outputs: Outputs) -> tuple[Gate, ...]:
    """finite; max_difference <= 1e-3; same argmax wherever the reference's margin exceeds 2e-3."""
    compared = "logits" if outputs.logits is not None else "centred log-probabilities"
    difference = largest_difference(reference_logits, outputs)
    decided = _margin(reference_logits) > DECIDED_MARGIN
    flips = int((_predicted(reference_logits) != _predicted(outputs.probabilities))[decided].sum())
    return (
        finite_gate(outputs),
        Gate("max_difference", difference, MAX_DIFFERENCE, _verdict(difference <= MAX_DIFFERENCE), compared),
        Gate("argmax_flips", flips, 0, _verdict(flips == 0), f"of {int(decided.sum())} images with a clear margin"),
    )


def lossy_gates(
    labels: Array, reference_logits: Array, outputs: Outputs, malignant: Sequence[int], melanoma: int | None
) -> tuple[Gate, ...]:
    """The gates of a file that is not exact (int8, fp16, ...): finite, and `diagnosis_gates`."""
    found = diagnosis_gates(labels, reference_logits, outputs, malignant, melanoma)
    return (finite_gate(outputs), *found)


def diagnosis_gates(
    labels: Array, reference_logits: Array, outputs: Outputs, malignant: Sequence[int], melanoma: int | None
) -> tuple[Gate, ...]:
    """Is the diagnosis as good as the reference's?

    Agreement of the answers; fall of balanced accuracy; fall of melanoma sensitivity; mean change of the
    malignant score. labels: (N,) int64; malignant: indices of the classes that count towards the malignant score, none
    leaves that gate out; melanoma: index of that class, None leaves its gate out.
    """
    reference, predicted = _predicted(reference_logits), _predicted(outputs.probabilities)
    gates = [
        agreement_gate(int((reference == predicted).sum()), len(labels)),
        drop_gate(labels, reference, predicted),
    ]
    if melanoma is not None:
        gates.append(
            melanoma_gate(McNemar.of(*((said == melanoma)[labels == melanoma] for said in (reference, predicted))))
        )
    if malignant:
        gates.append(score_gate(metrics.softmax(reference_logits), outputs.probabilities, malignant))
    return tuple(gates)


def golden_gates(reference_logits: Array, outputs: Outputs, *, exact: bool) -> tuple[Gate, ...]:
    """The gates that need no patient's image. exact: a file in floating point, held to the fp32 gates.

    Any other file must agree where the reference is clear (margin above 1 logit): golden images are
    drawings, on which a trained model is often undecided, and a near tie there says nothing.
    """
    if exact:
        gates = fp32_gates(reference_logits, outputs)
    else:
        clear = _margin(reference_logits) > CLEAR_MARGIN
        same = (_predicted(reference_logits) == _predicted(outputs.probabilities))[clear]
        gates = (finite_gate(outputs), _clear_gate(int(same.sum()), same.size))
    return tuple(Gate(f"golden_{g.name}", g.value, g.limit, g.verdict, g.detail) for g in gates)


def finite_gate(outputs: Outputs, *, max_sum_error: float = MAX_SUM_ERROR) -> Gate:
    """Every row is finite, not negative and sums to 1, and is the softmax of its logits where the file gives these
    (both within max_sum_error).
    """
    rows = outputs.probabilities.astype(np.float64)
    sound = np.isfinite(rows).all(axis=1) & (rows >= 0).all(axis=1)
    sound &= np.abs(np.where(np.isfinite(rows), rows, 0).sum(axis=1) - 1) <= max_sum_error
    if outputs.logits is not None:
        sound &= np.isfinite(outputs.logits).all(axis=1)
        with np.errstate(invalid="ignore"):
            sound &= np.abs(metrics.softmax(outputs.logits) - rows).max(axis=1, initial=0) <= max_sum_error
    bad = int((~sound).sum())
    return Gate("finite", bad, 0, _verdict(bad == 0), "rows that are no probabilities")


def agreement_gate(same: int, n: int) -> Gate:
    """Fail: Wilson's 95 % upper bound is below 97 %. Pass: the lower bound is not. Else underpowered."""
    low, high = metrics.wilson(same, n)
    share = same / n if n else None
    bounds = f"95 % interval {low:.4f} to {high:.4f}, {n} images"
    if high < MIN_AGREEMENT:
        return Gate("agreement", share, MIN_AGREEMENT, "fail", bounds)
    if low >= MIN_AGREEMENT:
        return Gate("agreement", share, MIN_AGREEMENT, "pass", bounds)
    return Gate(
        "agreement",
        share,
        MIN_AGREEMENT,
        "underpowered",
        f"{bounds}; {_would_decide(_agreement_n(share), n, 'images')}",
    )


def drop_gate(labels: Array, reference: Array, predicted: Array, *, seed: int = 0) -> Gate:
    """How far balanced accuracy fell: one-sided 95 % bounds of the paired, class-stratified bootstrap.

    A rare class of which no image changed adds no spread to it: `melanoma_gate` and `agreement_gate` guard there.
    """
    fall = balanced_accuracy_drop(labels, reference, predicted, ONE_SIDED, seed)
    return _margin_gate("balanced_accuracy_fall", fall, MAX_FALL, "labelled images", _root_n(fall, MAX_FALL))


def melanoma_gate(table: McNemar) -> Gate:
    """How far the sensitivity for melanoma fell (as the top class), by the paired score interval (Tango 1998).

    table: of the images of melanomas. 40 of them without a change leave a fall of 6 points possible, 88 rule out 3.
    """
    fall = table.estimate(ONE_SIDED)
    wanted = _melanomas(table, fall.value)
    return _margin_gate("melanoma_sensitivity_fall", fall, MAX_MELANOMA_FALL, "images of melanoma", wanted)


def score_gate(reference: Array, probabilities: Array, malignant: Sequence[int]) -> Gate:
    """How much the malignant score changed, up or down: the mean over the images. Both: (N, C) probabilities.

    Fails where a score is not finite.
    """
    before, after = (metrics.malignant_score(rows, tuple(malignant)) for rows in (reference, probabilities))
    change = mean_estimate(np.abs(after - before), ONE_SIDED)
    small = change.n < FEWEST and not change.value > MAX_SCORE_CHANGE
    wanted = FEWEST if small else _root_n(change, MAX_SCORE_CHANGE)
    return _margin_gate("malignant_score_change", change, MAX_SCORE_CHANGE, "images", wanted)


def _margin_gate(name: str, found: Estimate, margin: float, images: str, wanted: float) -> Gate:
    """Pass: the upper bound is within the margin. Fail: the lower bound is beyond it. Else underpowered.

    images: what `found` counts; wanted: how many of them would decide if all shares stay as they are.
    """
    if found.n == 0:
        return Gate(name, None, margin, "underpowered", f"needs {images} of the split")
    bounds = f"one-sided 95 % bounds {found.low:+.4f} and {found.high:+.4f}, {found.n} {images}"
    if found.high <= margin:
        return Gate(name, found.value, margin, "pass", f"non-inferior: {bounds}")
    if found.low > margin or math.isnan(found.value):
        return Gate(name, found.value, margin, "fail", bounds)
    doubt = "beyond the margin, though chance may explain it; " if found.value > margin else ""
    detail = f"{doubt}{bounds}; {_would_decide(wanted, found.n, images)}"
    return Gate(name, found.value, margin, "underpowered", detail)


def _root_n(found: Estimate, margin: float) -> float:
    """How many images decide: the distance from the estimate to a bound shrinks with the root of their number."""
    beyond = found.value > margin
    have, need = (
        (found.value - found.low, found.value - margin) if beyond else (found.high - found.value, margin - found.value)
    )
    return found.n * (have / need) ** 2 if need > 0 else math.inf


def _melanomas(table: McNemar, fall: float) -> float:
    """How many images of melanoma decide: the score interval, at the shares that were found, solved for n."""
    if table.n == 0 or math.isclose(fall, MAX_MELANOMA_FALL, abs_tol=1e-9):
        return math.inf

    def decided(n: float) -> bool:
        scale = n / table.n
        low, high = score_interval(table.only_reference * scale, table.only_file * scale, n, ONE_SIDED)
        return high <= MAX_MELANOMA_FALL or low > MAX_MELANOMA_FALL

    enough = float(table.n)
    while not decided(enough):
        enough *= 2
    few = enough / 2
    while enough - few > 1:
        middle = (few + enough) / 2
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    return enough


def unmeasured_gates(
    reason: str, *, exact: bool, malignant: Sequence[int] = (), melanoma: int | None = None
) -> tuple[Gate, ...]:
    """The gates over the test split where its images are not at hand.

    exact: those of `fp32_gates`; else those of `lossy_gates`, which says what malignant and melanoma are.
    """
    if exact:
        limits = {"max_difference": MAX_DIFFERENCE, "argmax_flips": 0.0}
    else:
        limits = {"agreement": MIN_AGREEMENT, "balanced_accuracy_fall": MAX_FALL}
        limits |= {} if melanoma is None else {"melanoma_sensitivity_fall": MAX_MELANOMA_FALL}
        limits |= {"malignant_score_change": MAX_SCORE_CHANGE} if malignant else {}
    return tuple(Gate(name, None, limit, "underpowered", reason) for name, limit in limits.items())


def _clear_gate(same: int, n: int) -> Gate:
    """Fail: so few agreements are improbable (exact binomial test) if the file agrees on 97 % of all images."""
    if n == 0:
        return Gate("agreement", None, MIN_AGREEMENT, "underpowered", "no image on which the reference is clear")
    chance = _binomial_tail(same, n, MIN_AGREEMENT)
    could_fail = _binomial_tail(0, n, MIN_AGREEMENT) < TAIL
    detail = f"{same} of {n} images on which the reference is clear; so few by chance: {chance:.4f}"
    verdict: Verdict = "underpowered"
    if chance < TAIL:
        verdict = "fail"
    elif could_fail and same >= MIN_AGREEMENT * n:
        verdict = "pass"
    return Gate("agreement", same / n, MIN_AGREEMENT, verdict, detail)


def _binomial_tail(successes: int, n: int, p: float) -> float:
    """P(X <= successes) for X binomial (n, p), 0 < p < 1; in logarithms, for n of any size."""
    whole, log_p, log_q = math.lgamma(n + 1), math.log(p), math.log1p(-p)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)
        for k in range(successes + 1)
    )
    return min(1.0, math.fsum(terms))


def _agreement_n(share: float | None) -> float | None:
    """How many images decide if the share stays: Wilson's bound is the inverted score test."""
    if share is None:
        return None
    if math.isclose(share, MIN_AGREEMENT, abs_tol=1e-9):
        return math.inf
    spread = MIN_AGREEMENT * (1 - MIN_AGREEMENT)
    return metrics.Z95**2 * spread / (share - MIN_AGREEMENT) ** 2


def _would_decide(wanted: float | None, have: int, images: str) -> str:
    if wanted is None:
        return "needs labelled images of the test split"
    if math.isinf(wanted):
        return "exactly at the limit: more images alone would not decide"
    return f"about {max(math.ceil(wanted), have + 1)} {images} would decide"


def _verdict(good: bool) -> Verdict:
    return "pass" if good else "fail"


def _predicted(scores: Array) -> NDArray[np.int64]:
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def _margin(logits: Array) -> Array:
    top = np.sort(logits, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def _all_finite(outputs: Outputs) -> bool:
    return bool(
        np.isfinite(outputs.probabilities).all() and (outputs.logits is None or np.isfinite(outputs.logits).all())
    )
