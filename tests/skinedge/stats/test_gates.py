"""Gates fail a wrong file, pass a correct one, and are inconclusive if the images cannot decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from skinedge.core.outputs import Outputs
from skinedge.stats import metrics
from skinedge.stats.differences import largest_difference
from skinedge.stats.gates import (
    Gate,
    agreement_gate,
    drop_gate,
    finite_gate,
    fp32_gates,
    golden_gates,
    lossy_gates,
    passed,
    unmeasured_gates,
)

RNG = np.random.default_rng(11)
LOGITS = (RNG.normal(size=(300, 7)) * 3).astype(np.float32)


def verdicts(gates: tuple[Gate, ...]) -> dict[str, str]:
    return {gate.name: gate.verdict for gate in gates}


def from_logits(logits: np.ndarray) -> Outputs:
    return Outputs(metrics.softmax(logits))


def test_fp32_passes_the_same_model_with_and_without_logits() -> None:
    for outputs in (from_logits(LOGITS), Outputs(metrics.softmax(LOGITS), LOGITS)):
        assert passed(fp32_gates(LOGITS, outputs), strict=True)


def test_a_constant_added_to_all_logits_is_no_difference_of_probabilities() -> None:
    assert largest_difference(LOGITS + 5, from_logits(LOGITS)) < 1e-4
    assert largest_difference(LOGITS + 5, Outputs(metrics.softmax(LOGITS), LOGITS)) == pytest.approx(5, abs=1e-4)


def test_the_difference_is_that_of_the_logits_up_to_their_mean() -> None:
    moved = np.array([[1.03, 0.5, 0.2]])
    difference = largest_difference(np.array([[1.0, 0.5, 0.2]]), from_logits(moved))
    assert difference == pytest.approx(0.02, abs=1e-6)  # 0.03 minus the mean change of 0.01


@pytest.mark.parametrize("change", [2e-3, 0.1])
def test_fp32_fails_a_small_change(change: float) -> None:
    moved = LOGITS.copy()
    moved[17, 3] = LOGITS[17].max() + 1
    reference = moved.copy()
    moved[17, 3] += change
    gates = verdicts(fp32_gates(reference, from_logits(moved)))
    assert gates["max_difference"] == "fail"


def test_fp32_fails_swapped_labels() -> None:
    swapped = LOGITS[:, [1, 0, 2, 3, 4, 5, 6]]
    gates = verdicts(fp32_gates(LOGITS, from_logits(swapped)))
    assert gates["max_difference"] == gates["argmax_flips"] == "fail"


def test_a_second_class_counts_although_the_reference_gives_it_no_probability() -> None:
    sure = np.array([[30.0, 0.0, 0.0]])
    doubtful = Outputs(np.array([[0.6, 0.4, 0.0]], dtype=np.float32))
    assert largest_difference(sure, doubtful) > 1


def test_argmax_may_flip_only_within_the_margin() -> None:
    reference = np.array([[1.0, 0.9995], [1.0, 0.9]])
    near = Outputs(np.array([[0.49990, 0.50010], [0.525, 0.475]], dtype=np.float32))
    assert verdicts(fp32_gates(reference, near))["argmax_flips"] == "pass"
    clear = Outputs(np.array([[0.5001, 0.4999], [0.475, 0.525]], dtype=np.float32))
    assert verdicts(fp32_gates(reference, clear))["argmax_flips"] == "fail"


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_fail_every_kind_of_file(poison: float) -> None:
    rows = metrics.softmax(LOGITS)
    rows[5, 2] = poison
    labels = LOGITS.argmax(axis=1)
    for gates in (
        fp32_gates(LOGITS, Outputs(rows)),
        lossy_gates(labels, LOGITS, Outputs(rows), (1, 4), 4),
        golden_gates(LOGITS, Outputs(rows), exact=False),
    ):
        assert not passed(gates)


POISON = (math.nan, math.inf, -math.inf)
WHERE = {"one value": np.s_[5, 2], "one image": np.s_[5, :], "the whole output": np.s_[:, :]}


def all_gates(reference: np.ndarray, outputs: Outputs) -> dict[str, Gate]:
    """Every gate that compares a file with the reference, by its function and name."""
    labels = LOGITS.argmax(axis=1)[: len(reference)]
    kinds = {
        "fp32": fp32_gates(reference, outputs),
        "lossy": lossy_gates(labels, reference, outputs, (1, 4), 4),
        "golden fp32": golden_gates(reference, outputs, exact=True),
        "golden int8": golden_gates(reference, outputs, exact=False),
    }
    return {f"{kind} {gate.name}": gate for kind, gates in kinds.items() for gate in gates}


def test_all_gates_pass_the_reference_itself() -> None:
    """The tests below would prove nothing if a gate never passed."""
    passing = {name for name, gate in all_gates(LOGITS, from_logits(LOGITS)).items() if gate.verdict == "pass"}
    assert passing == set(all_gates(LOGITS, from_logits(LOGITS))) - {"lossy melanoma_sensitivity_fall"}  # too few


@pytest.mark.parametrize("poison", POISON)
@pytest.mark.parametrize("where", WHERE)
def test_no_gate_passes_a_poisoned_reference(poison: float, where: str) -> None:
    reference = LOGITS.copy()
    reference[WHERE[where]] = poison
    verdicts = {name: gate.verdict for name, gate in all_gates(reference, from_logits(LOGITS)).items()}
    assert {verdict for name, verdict in verdicts.items() if not name.endswith("finite")} == {"fail"}


@pytest.mark.parametrize("poison", POISON)
def test_no_gate_passes_poisoned_outputs(poison: float) -> None:
    rows = np.full_like(LOGITS, poison)
    verdicts = {name: gate.verdict for name, gate in all_gates(LOGITS, Outputs(rows)).items()}
    assert set(verdicts.values()) == {"fail"}, verdicts


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_row_counts_as_a_wrong_prediction(poison: float) -> None:
    """NaN is where argmax looks for the largest value: it would agree with the reference by chance."""
    rows = metrics.softmax(LOGITS)
    for image, label in enumerate(LOGITS.argmax(axis=1)):
        rows[image, label] = poison if image % 10 == 0 else rows[image, label]
    gates = all_gates(LOGITS, Outputs(rows))
    assert gates["lossy agreement"].value == pytest.approx(0.9)
    assert {name for name, gate in gates.items() if gate.verdict == "pass"} == set()


def test_no_gate_passes_without_images() -> None:
    gates = all_gates(LOGITS[:0], Outputs(metrics.softmax(LOGITS[:0].reshape(0, 7))))
    assert {gate.verdict for gate in gates.values()} <= {"inconclusive", "not measured"}
    assert {gate.value for gate in gates.values()} == {None}


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_a_gate_of_nan_has_failed_whatever_its_verdict(verdict: str) -> None:
    assert Gate("a", math.nan, 1.0, verdict).verdict == Gate("a", 0.0, math.nan, verdict).verdict == "fail"
    assert Gate("a", None, 1.0, "pass").verdict == "fail"
    assert Gate("a", None, 1.0, "inconclusive").verdict == "inconclusive"


@given(*[st.floats(allow_nan=True, allow_infinity=True, width=32) | st.just(1.0)] * 3)
def test_max_difference_passes_only_what_is_near(logit: float, reference: float, probability: float) -> None:
    """Any three floats in place of a logit, the reference's and a probability: only small differences pass."""
    expected, logits, rows = LOGITS[:8].copy(), LOGITS[:8].copy(), metrics.softmax(LOGITS[:8])
    expected[0, 0], logits[0, 0], rows[0, 0] = reference, logit, probability
    gates = {gate.name: gate for gate in fp32_gates(expected, Outputs(rows, logits))}
    near = abs(logit - reference) <= 1e-3  # False for NaN
    assert near or gates["max_difference"].verdict == "fail"
    assert math.isfinite(reference) or gates["argmax_flips"].verdict == "fail"
    assert (math.isfinite(logit) and math.isfinite(probability)) or gates["finite"].verdict == "fail"


def test_poisoned_logits_fail_though_the_probabilities_are_fine() -> None:
    bad = LOGITS.copy()
    bad[0, 0] = math.nan
    assert not passed(fp32_gates(LOGITS, Outputs(metrics.softmax(LOGITS), bad)))


def test_rows_that_do_not_sum_to_one_fail() -> None:
    assert finite_gate(Outputs(metrics.softmax(LOGITS) * np.float32(1.01))).verdict == "fail"


@pytest.mark.parametrize(
    ("same", "n", "verdict"),
    [
        (125, 125, "pass"),  # lower bound .9702
        (124, 124, "inconclusive"),  # .9699: one image short
        (64, 64, "inconclusive"),
        (0, 0, "inconclusive"),
        (985, 1000, "pass"),
        (970, 1000, "inconclusive"),
        (958, 1000, "fail"),
        (90, 100, "fail"),
    ],
)
def test_agreement_is_judged_by_wilsons_bounds(same: int, n: int, verdict: str) -> None:
    assert agreement_gate(same, n).verdict == verdict


@pytest.mark.parametrize(("same", "n"), [(99, 100), (40, 40), (95, 100)])
def test_the_number_of_images_that_would_decide_does(same: int, n: int) -> None:
    gate = agreement_gate(same, n)
    assert gate.verdict == "inconclusive"
    wanted = int(gate.detail.split("about ")[1].split(" ")[0])
    share = same / n
    low, high = _wilson_of_share(share, wanted)
    assert (low >= 0.97) if share > 0.97 else (high <= 0.97)
    low, high = _wilson_of_share(share, wanted - 2)
    assert low < 0.97 < high


def _wilson_of_share(share: float, n: int) -> tuple[float, float]:
    z = metrics.Z95
    centre, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def test_no_images_and_exactly_at_the_limit_have_different_details() -> None:
    assert "needs labelled images" in agreement_gate(0, 0).detail
    for same, n in ((97, 100), (194, 200)):
        gate = agreement_gate(same, n)
        assert gate.verdict == "inconclusive" and "exactly at the limit" in gate.detail
    labels = np.zeros(100, dtype=np.int64)
    gate = drop_gate(labels, labels, np.where(np.arange(100) == 7, 1, labels))  # 1 point, of one class
    assert gate.verdict == "inconclusive" and "exactly at the limit" in gate.detail


@pytest.mark.parametrize(("lost", "n"), [(0, 200), (3, 400), (4, 200)])
def test_the_number_of_images_that_would_decide_the_drop_does(lost: int, n: int) -> None:
    """The same shares of more images: a drop of 0 and of .75 points passes, a drop of 2 fails."""
    gate = one_class(lost, n)
    assert gate.verdict == "inconclusive"
    wanted = int(gate.detail.split("about ")[1].split(" ")[0])
    times = math.ceil(wanted / n * 1.05)  # 5 %: a bound does not shrink quite with the root of n
    assert one_class(lost * times, n * times).verdict == ("pass" if lost / n < 0.01 else "fail")


def one_class(lost: int, n: int) -> Gate:
    labels = np.zeros(n, dtype=np.int64)
    return drop_gate(labels, labels, np.where(np.arange(n) < lost, 1, labels))


def test_a_lost_class_fails_with_its_drop() -> None:
    """All melanomas missed, 1 % of the images: agreement passes, balanced accuracy does not."""
    labels = np.repeat([0, 1, 2], [900, 90, 10])
    collapsed = np.where(labels == 2, 0, labels)
    gate = drop_gate(labels, labels, collapsed)
    assert gate.verdict == "fail"
    assert gate.value == pytest.approx(1 / 3)
    assert agreement_gate(int((labels == collapsed).sum()), 1000).verdict == "pass"


def test_no_drop_passes_and_a_gain_passes() -> None:
    labels = np.repeat([0, 1], [200, 100])
    worse = np.where(np.arange(300) % 10 == 0, 1 - labels, labels)
    same = drop_gate(labels, worse, worse)
    assert same.verdict == "pass" and same.detail.startswith("non-inferior")
    assert drop_gate(labels, worse, labels).verdict == "pass"


def test_few_changes_in_both_directions_are_inconclusive() -> None:
    labels = np.repeat([0, 1], [60, 20])
    reference, predicted = labels.copy(), labels.copy()
    reference[[0, 61]] = [1, 0]
    predicted[[1, 62]] = [1, 0]
    gate = drop_gate(labels, reference, predicted)
    assert gate.verdict == "inconclusive"
    assert int(gate.detail.split("about ")[1].split(" ")[0]) > 80


def test_no_images_are_inconclusive() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert drop_gate(none, none, none).verdict == "inconclusive"


def test_golden_int8_ignores_ties_but_not_a_wrong_graph() -> None:
    noisy = from_logits(LOGITS + RNG.normal(size=LOGITS.shape) * 0.15)
    assert passed(golden_gates(LOGITS, noisy, exact=False), strict=True)
    wrong = from_logits(LOGITS[:, ::-1])
    assert verdicts(golden_gates(LOGITS, wrong, exact=False))["golden_agreement"] == "fail"
    flat = golden_gates(LOGITS * 0.01, from_logits(LOGITS), exact=False)
    assert verdicts(flat)["golden_agreement"] == "inconclusive"


@pytest.mark.parametrize(
    ("same", "n", "verdict"),
    [
        (1, 1, "inconclusive"),  # one image cannot fail: .03 of the files that agree on 97 % miss it
        (2, 2, "pass"),
        (1, 2, "inconclusive"),  # .059
        (0, 2, "fail"),
        (5, 6, "inconclusive"),  # .167
        (4, 6, "fail"),  # .0125
        (59, 64, "inconclusive"),  # .0430
        (58, 64, "fail"),  # .0128
        (63, 64, "pass"),
        (900, 2000, "fail"),
    ],
)
def test_golden_agreement_is_an_exact_binomial_test(same: int, n: int, verdict: str) -> None:
    logits = np.tile(np.array([[4.0, 0.0]], dtype=np.float32), (n, 1))
    said = logits.copy()
    said[same:] = [0.0, 4.0]
    (gate,) = (g for g in golden_gates(logits, from_logits(said), exact=False) if g.name == "golden_agreement")
    assert gate.verdict == verdict
    chance = scipy.stats.binom.cdf(same, n, 0.97)
    assert float(gate.detail.rpartition(" ")[2]) == pytest.approx(chance, abs=1e-4)


def test_a_collapse_to_one_class_fails_the_golden_vectors() -> None:
    constant = np.zeros_like(LOGITS)
    constant[:, 4] = 5
    assert not passed(golden_gates(LOGITS, from_logits(constant), exact=False))


def test_strict_and_empty() -> None:
    undecided = (Gate("a", 1.0, 1.0, "pass"), Gate("b", 1.0, 1.0, "inconclusive"))
    assert passed(undecided) and not passed(undecided, strict=True)
    assert not passed((Gate("a", 1.0, 1.0, "fail"),))
    assert not passed(())
    for exact in (True, False):
        gates = unmeasured_gates("no images", exact=exact)
        assert passed(gates) and not passed(gates, strict=True)
