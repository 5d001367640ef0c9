"""Gates that compare a model file with the merged network in PyTorch, as pure functions of arrays.

reference_logits: (N, C) float32, from the merged network; outputs: of the file, for the same N images. A gate's verdict
is 'pass', 'fail', 'inconclusive' (too few images for a decision), or 'not measured' (nothing to compare with). A value
that is not finite never passes.

A file that is not exact is judged by intervals, by one rule (`_margin_gate`): it passes, and is called non-inferior, if
the whole interval is within the margin (CONSORT for non-inferiority trials, Piaggio et al. 2012,
doi:10.1001/jama.2012.87802); it fails if the whole interval is beyond the margin; otherwise it is inconclusive. Each
bound is a one-sided test at 5 % against the margin: about one in twenty files at the margin itself fails, and far fewer
of the files that lose nothing. An earlier rule failed a file whose estimate was beyond the margin and whose lower bound
was above 0: it failed one in twenty of the files that lose nothing, since a few changed predictions in a rare class
carry the estimate beyond the margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.outputs import Outputs
from skinedge.stats import metrics
from skinedge.stats.differences import largest_difference
from skinedge.stats.paired import (
    FEWEST,
    ONE_SIDED,
    Estimate,
    McNemar,
    balanced_accuracy_drop,
    mean_estimate,
    score_interval,
)
from skinedge.stats.verdicts import Verdict, word, worst_of

MAX_DIFFERENCE = 1e-3
DECIDED_MARGIN = 2e-3  # twice the largest difference: below it two correct files may disagree
MIN_AGREEMENT = 0.97
MAX_DROP = 0.01  # of balanced accuracy
MAX_MELANOMA_DROP = 0.03  # of the sensitivity for melanoma, as the top class
MAX_SCORE_CHANGE = 0.01  # mean absolute change of the malignant score, 0..1
CLEAR_MARGIN = 1.0  # logits; the noise of int8 stays below it, that of a wrong graph does not
MAX_SUM_ERROR = 1e-3  # of a row of probabilities in floating point
MAX_OUTPUT_CHANGE = 1e-3  # of a probability: the same bytes in the same runtime on the same instruction set
MEAN_OUTPUT_CHANGE = 0.01  # elsewhere: twice the largest mean between kernels of one runtime (docs/log.md)
TAIL = 0.025  # level of a one-sided exact test, as strict as a bound of the 95 % interval

Array = NDArray[Any]


@dataclass(frozen=True)
class Gate:
    """One check: `value` (None: not measured) against `limit`, the verdict, and an explanation for the user.

    What cannot be compared has failed, whatever the verdict says: NaN, or a pass without a value.
    """

    name: str
    value: float | None
    limit: float
    verdict: Verdict
    detail: str = ""

    def __post_init__(self) -> None:
        unmeasured = self.value is None and self.verdict == "pass"
        if unmeasured or math.isnan(self.limit) or (self.value is not None and math.isnan(self.value)):
            object.__setattr__(self, "verdict", "fail")

    @property
    def word(self) -> str:
        """The verdict as shown: passed, failed, inconclusive or not measured."""
        return word(self.verdict)

    @property
    def measured(self) -> str:
        """The value as text."""
        return "not measured" if self.value is None else f"{self.value:.4g}"


def passed(gates: Sequence[Gate], *, strict: bool = False) -> bool:
    """Return True if no gate failed (strict: nor is inconclusive or not measured); False for no gates."""
    allowed = ("pass",) if strict else ("pass", "inconclusive", "not measured")
    return bool(gates) and all(gate.verdict in allowed for gate in gates)


def worst(gates: Sequence[Gate]) -> Verdict:
    """Return the worst verdict, 'pass' for no gates."""
    return worst_of(gate.verdict for gate in gates)


def verdict_of(gates: Sequence[Gate], name: str) -> Verdict | None:
    """Return the verdict of the gate of this name, None without it."""
    return next((gate.verdict for gate in gates if gate.name == name), None)


def fp32_gates(reference_logits: Array, outputs: Outputs) -> tuple[Gate, ...]:
    """Gates of an fp32 file: finite; max_difference <= 1e-3; same argmax where the reference's margin exceeds 2e-3."""
    if (unusable := _unusable(reference_logits, _limits(exact=True))) is not None:
        return (finite_gate(outputs), *unusable)
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
    """Gates of a file that is not exact (int8, fp16, ...): finite, and `diagnosis_gates`."""
    return (finite_gate(outputs), *diagnosis_gates(labels, reference_logits, outputs, malignant, melanoma))


def diagnosis_gates(
    labels: Array, reference_logits: Array, outputs: Outputs, malignant: Sequence[int], melanoma: int | None
) -> tuple[Gate, ...]:
    """Gates of the diagnosis: is it as good as the reference's?

    Agreement of the predictions; drop of balanced accuracy; drop of melanoma sensitivity; mean change of the malignant
    score. labels: (N,) int64; malignant: indices of the malignant classes, empty omits the gate of the score;
    melanoma: index of that class, None omits its gate.
    """
    limits = _limits(exact=False, malignant=malignant, melanoma=melanoma)
    if (unusable := _unusable(reference_logits, limits)) is not None:
        return unusable
    reference, predicted = _predicted(reference_logits), _predicted(outputs.probabilities)
    gates = [
        agreement_gate(int((reference == predicted).sum()), len(labels)),
        drop_gate(labels, reference, predicted),
    ]
    if melanoma is not None:
        inside = labels == melanoma
        gates.append(melanoma_gate(McNemar.of(reference[inside] == melanoma, predicted[inside] == melanoma)))
    if malignant:
        gates.append(score_gate(metrics.softmax(reference_logits), outputs.probabilities, malignant))
    return tuple(gates)


def golden_gates(reference_logits: Array, outputs: Outputs, *, exact: bool) -> tuple[Gate, ...]:
    """Gates on the golden images, which are no patient's. exact: a file in fp32, to which the fp32 gates apply.

    Any other file must agree where the reference is clear (margin above 1 logit): golden images are synthetic, a
    trained model is often undecided on them, and a near tie is no evidence.
    """
    if exact:
        gates = fp32_gates(reference_logits, outputs)
    elif (unusable := _unusable(reference_logits, {"agreement": MIN_AGREEMENT})) is not None:
        gates = (finite_gate(outputs), *unusable)
    else:
        clear = _margin(reference_logits) > CLEAR_MARGIN
        same = (_predicted(reference_logits) == _predicted(outputs.probabilities))[clear]
        gates = (finite_gate(outputs), _clear_gate(int(same.sum()), same.size))
    return tuple(Gate(f"golden_{g.name}", g.value, g.limit, g.verdict, g.detail) for g in gates)


def golden_outputs_gate(recorded: Array, outputs: Outputs, *, same_environment: bool) -> Gate:
    """Gate on the probabilities that the file itself gave when it was made: damage to its weights changes them.

    recorded: (N, C). same_environment: same runtime, version and instruction set, where the largest change counts;
    elsewhere kernels round in other places, and the mean counts.
    """
    change = np.abs(outputs.probabilities.astype(np.float64) - recorded)
    value, limit = float(change.mean()), MEAN_OUTPUT_CHANGE
    if same_environment:
        value, limit = float(change.max()), MAX_OUTPUT_CHANGE
    where = "here" if same_environment else "on another instruction set or runtime version, mean"
    detail = f"change of a probability since the file was made {where}"
    return Gate("golden_outputs", value, limit, _verdict(value <= limit), detail)


def finite_gate(outputs: Outputs, *, max_sum_error: float = MAX_SUM_ERROR) -> Gate:
    """Every row is finite, in 0..1 and sums to 1, and is the softmax of the file's logits, if it gives them.

    The sum and the softmax may differ by max_sum_error; infinite for classes that do not exclude each other.
    """
    rows = outputs.probabilities.astype(np.float64)
    if not len(rows):
        return Gate("finite", None, 0, "not measured", "no images")
    largest = 1 + min(max_sum_error, MAX_SUM_ERROR)
    sound = np.isfinite(rows).all(axis=1) & (rows >= 0).all(axis=1) & (rows <= largest).all(axis=1)
    sound &= np.abs(np.where(np.isfinite(rows), rows, 0).sum(axis=1) - 1) <= max_sum_error
    if outputs.logits is not None:
        sound &= np.isfinite(outputs.logits).all(axis=1)
        with np.errstate(invalid="ignore"):
            sound &= np.abs(metrics.softmax(outputs.logits) - rows).max(axis=1, initial=0) <= max_sum_error
    bad = int((~sound).sum())
    return Gate("finite", bad, 0, _verdict(bad == 0), "rows that are no probabilities")


def agreement_gate(same: int, n: int) -> Gate:
    """Fail: Wilson's 95 % upper bound is below 97 %. Pass: the lower bound is at least 97 %. Else inconclusive."""
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
        "inconclusive",
        f"{bounds}; {_would_decide(_agreement_images(share), n, 'images')}",
    )


def drop_gate(labels: Array, reference: Array, predicted: Array, *, seed: int = 0) -> Gate:
    """Drop of balanced accuracy: one-sided 95 % bounds of the paired, class-stratified bootstrap.

    A rare class without a changed prediction adds no spread to it: `melanoma_gate` and `agreement_gate` cover that.
    """
    drop = balanced_accuracy_drop(labels, reference, predicted, ONE_SIDED, seed)
    return _margin_gate("balanced_accuracy_fall", drop, MAX_DROP, "labelled images", _images_to_decide(drop, MAX_DROP))


def melanoma_gate(table: McNemar) -> Gate:
    """Drop of the sensitivity for melanoma (as the top class), by the paired score interval (Tango 1998).

    table: of the melanoma images. 40 unchanged images leave a drop of 6 points possible, 88 rule out 3 points.
    """
    drop = table.estimate(ONE_SIDED)
    required = _melanomas_to_decide(table, drop.value)
    return _margin_gate("melanoma_sensitivity_fall", drop, MAX_MELANOMA_DROP, "images of melanoma", required)


def score_gate(reference: Array, probabilities: Array, malignant: Sequence[int]) -> Gate:
    """Mean absolute change of the malignant score. reference, probabilities: (N, C).

    Fails if a score is not finite.
    """
    before, after = (metrics.malignant_score(rows, tuple(malignant)) for rows in (reference, probabilities))
    change = mean_estimate(np.abs(after - before), ONE_SIDED)
    small = change.n < FEWEST and not change.value > MAX_SCORE_CHANGE
    required = FEWEST if small else _images_to_decide(change, MAX_SCORE_CHANGE)
    return _margin_gate("malignant_score_change", change, MAX_SCORE_CHANGE, "images", required)


def _margin_gate(name: str, estimate: Estimate, margin: float, images: str, required: float) -> Gate:
    """Pass: the upper bound is within the margin. Fail: the lower bound is beyond it. Else inconclusive.

    images: the unit that the estimate counts; required: number of them that would decide at the same shares.
    """
    if estimate.n == 0:
        return Gate(name, None, margin, "inconclusive", f"needs {images} of the split")
    bounds = f"one-sided 95 % bounds {estimate.low:+.4f} and {estimate.high:+.4f}, {estimate.n} {images}"
    if math.isnan(estimate.value + estimate.low + estimate.high):
        return Gate(name, math.nan, margin, "fail", "not defined: an output is not finite")
    if estimate.high <= margin:
        return Gate(name, estimate.value, margin, "pass", f"non-inferior: {bounds}")
    if estimate.low > margin:
        return Gate(name, estimate.value, margin, "fail", bounds)
    beyond = "beyond the margin, though chance may explain it; " if estimate.value > margin else ""
    detail = f"{beyond}{bounds}; {_would_decide(required, estimate.n, images)}"
    return Gate(name, estimate.value, margin, "inconclusive", detail)


def _images_to_decide(estimate: Estimate, margin: float) -> float:
    """Number of images that would decide: the distance from the estimate to a bound shrinks with its square root."""
    if estimate.value > margin:
        width, distance = estimate.value - estimate.low, estimate.value - margin
    else:
        width, distance = estimate.high - estimate.value, margin - estimate.value
    return estimate.n * (width / distance) ** 2 if distance > 0 else math.inf


def _melanomas_to_decide(table: McNemar, drop: float) -> float:
    """Number of melanoma images that would decide: the score interval at the measured shares, solved for n."""
    if table.n == 0 or math.isclose(drop, MAX_MELANOMA_DROP, abs_tol=1e-9):
        return math.inf

    def decided(n: float) -> bool:
        scale = n / table.n
        low, high = score_interval(table.only_reference * scale, table.only_file * scale, n, ONE_SIDED)
        return high <= MAX_MELANOMA_DROP or low > MAX_MELANOMA_DROP

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
    """Gates of the test split that are not measured, for when its images are not available.

    exact: those of `fp32_gates`; else those of `lossy_gates`, which documents malignant and melanoma.
    """
    limits = _limits(exact=exact, malignant=malignant, melanoma=melanoma)
    return tuple(Gate(name, None, limit, "not measured", reason) for name, limit in limits.items())


def _limits(*, exact: bool, malignant: Sequence[int] = (), melanoma: int | None = None) -> dict[str, float]:
    """Return the names of the gates that compare a file with the reference, and their limits."""
    if exact:
        return {"max_difference": MAX_DIFFERENCE, "argmax_flips": 0.0}
    limits = {"agreement": MIN_AGREEMENT, "balanced_accuracy_fall": MAX_DROP}
    limits |= {} if melanoma is None else {"melanoma_sensitivity_fall": MAX_MELANOMA_DROP}
    return limits | ({"malignant_score_change": MAX_SCORE_CHANGE} if malignant else {})


def _unusable(reference_logits: Array, limits: Mapping[str, float]) -> tuple[Gate, ...] | None:
    """Return these gates for a reference with nothing to compare with, failed if not finite; None if it is fine."""
    if not len(reference_logits):
        return tuple(Gate(name, None, limit, "inconclusive", "no images") for name, limit in limits.items())
    if np.isfinite(reference_logits).all():
        return None
    reason = "the outputs of the merged network are not finite"
    return tuple(Gate(name, math.nan, limit, "fail", reason) for name, limit in limits.items())


def _clear_gate(same: int, n: int) -> Gate:
    """Fail: that few agreements are improbable (exact binomial test) if the file agrees on 97 % of all images."""
    if n == 0:
        return Gate("agreement", None, MIN_AGREEMENT, "inconclusive", "no image on which the reference is clear")
    chance = _binomial_tail(same, n, MIN_AGREEMENT)
    could_fail = _binomial_tail(0, n, MIN_AGREEMENT) < TAIL
    detail = f"{same} of {n} images on which the reference is clear; so few by chance: {chance:.4f}"
    verdict: Verdict = "inconclusive"
    if chance < TAIL:
        verdict = "fail"
    elif could_fail and same >= MIN_AGREEMENT * n:
        verdict = "pass"
    return Gate("agreement", same / n, MIN_AGREEMENT, verdict, detail)


def _binomial_tail(successes: int, n: int, p: float) -> float:
    """P(X <= successes) for X binomial (n, p), 0 < p < 1; computed in logarithms, for large n."""
    log_factorial, log_p, log_q = math.lgamma(n + 1), math.log(p), math.log1p(-p)
    terms = (
        math.exp(log_factorial - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)
        for k in range(successes + 1)
    )
    return min(1.0, math.fsum(terms))


def _agreement_images(share: float | None) -> float | None:
    """Number of images that would decide at the same share: Wilson's bound is the inverted score test."""
    if share is None:
        return None
    if math.isclose(share, MIN_AGREEMENT, abs_tol=1e-9):
        return math.inf
    spread = MIN_AGREEMENT * (1 - MIN_AGREEMENT)
    return metrics.Z95**2 * spread / (share - MIN_AGREEMENT) ** 2


def _would_decide(required: float | None, available: int, images: str) -> str:
    if required is None:
        return "needs labelled images of the test split"
    if math.isinf(required):
        return "exactly at the limit: more images alone would not decide"
    return f"about {max(math.ceil(required), available + 1)} {images} would decide"


def _verdict(holds: bool) -> Verdict:
    return "pass" if holds else "fail"


def _predicted(scores: Array) -> NDArray[np.int64]:
    """Return each row's class; -1, which no label is, for a row that is not finite."""
    return np.where(np.isfinite(scores).all(axis=1), scores.argmax(axis=1), -1).astype(np.int64)


def _margin(logits: Array) -> Array:
    top = np.sort(logits, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])
