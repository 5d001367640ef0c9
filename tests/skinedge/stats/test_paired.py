"""Paired statistics against published examples, SciPy, and enumeration of all outcomes."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from scipy import stats

from skinedge.stats import gates, metrics
from skinedge.stats.bootstrap import bootstrap_drop
from skinedge.stats.paired import ONE_SIDED, McNemar, balanced_accuracy_drop, mean_estimate, score_interval

# Complete response before and after consolidation (Cavo et al. 2012), as Fagerland, Lydersen and Laake, "Statistical
# Analysis of Contingency Tables" (2017), chapter 8, evaluate it.
CAVO = McNemar(59, 6, 16, 80)


def test_the_score_interval_of_a_published_example() -> None:
    found = CAVO.estimate()
    assert [round(number, 4) for number in (found.value, found.low, found.high)] == [-0.0621, -0.1240, -0.0054]
    assert CAVO.p == pytest.approx(0.052479, abs=5e-7)  # their exact conditional test


@pytest.mark.parametrize(("lost", "gained", "n"), [(8, 7, 1002), (3, 0, 112), (0, 4, 30), (40, 20, 160), (1, 1, 2)])
@pytest.mark.parametrize("z", [ONE_SIDED, metrics.Z95])
def test_its_bounds_are_those_of_the_likelihoods_score_test(lost: int, gained: int, n: int, z: float) -> None:
    """The restricted likelihood is maximised numerically here, not by the closed form."""
    from scipy.optimize import minimize_scalar

    def statistic(delta: float) -> float:
        def against(q: float) -> float:  # q: chance of a gain; q + delta: of a loss
            terms = ((lost, q + delta), (gained, q), (n - lost - gained, 1 - 2 * q - delta))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

        bounds = (max(0.0, -delta), (1 - delta) / 2)
        q = minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        return (lost - gained - n * delta) / math.sqrt(n * (2 * q + delta - delta**2))

    low, high = score_interval(lost, gained, n, z)
    assert statistic(low) == pytest.approx(z, abs=2e-3)
    assert statistic(high) == pytest.approx(-z, abs=2e-3)


@pytest.mark.parametrize("n", [1, 40, 112, 5000])
def test_no_change_is_no_proof(n: int) -> None:
    low, high = score_interval(0, 0, n, ONE_SIDED)
    assert high == pytest.approx(ONE_SIDED**2 / (n + ONE_SIDED**2)) and low == pytest.approx(-high)


def test_the_score_interval_is_symmetric_and_ends_at_one() -> None:
    low, high = score_interval(9, 2, 60, ONE_SIDED)
    assert score_interval(2, 9, 60, ONE_SIDED) == pytest.approx((-high, -low))
    assert score_interval(0, 0, 0, ONE_SIDED) == (-1, 1)
    assert score_interval(5, 0, 5, ONE_SIDED)[1] == 1 and score_interval(0, 5, 5, ONE_SIDED)[0] == -1


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (5, 0), (3, 3), (12, 4), (400, 350)])
def test_mcnemar_is_scipys_sign_test(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert McNemar(10, lost, gained, 3).p == pytest.approx(expected)


def test_mcnemars_table_counts() -> None:
    table = McNemar.of(np.array([1, 1, 1, 0, 0, 0], dtype=bool), np.array([1, 0, 0, 1, 0, 0], dtype=bool))
    assert table == McNemar(1, 2, 1, 2) and table.n == 6 and table.drop == pytest.approx(1 / 6)
    assert math.isnan(McNemar(0, 0, 0, 0).drop)


@functools.cache
def melanoma_verdict(n: int, lost: int, gained: int) -> str:
    return gates.melanoma_gate(McNemar(n - lost - gained, lost, gained, 0)).verdict


def verdict_chances(n: int, loss: float, gain: float) -> dict[str, float]:
    """Probability of each verdict on melanomas: the exact sum over all tables of n images."""
    chances = {"pass": 0.0, "fail": 0.0, "inconclusive": 0.0}
    totals = np.arange(n + 1)
    for total, chance in zip(totals, stats.binom.pmf(totals, n, loss + gain), strict=True):
        for lost, share in enumerate(stats.binom.pmf(totals[: total + 1], total, loss / (loss + gain))):
            if chance * share > 1e-6:
                chances[melanoma_verdict(n, lost, int(total) - lost)] += chance * share
    assert sum(chances.values()) > 0.999
    return chances


@pytest.mark.parametrize(("n", "gain"), [(40, 1e-9), (40, 0.02), (112, 1e-9), (112, 0.02), (300, 1e-9)])
def test_a_melanoma_gates_errors_are_one_in_twenty_at_the_margin_and_rare_without_a_drop(n: int, gain: float) -> None:
    at_margin = verdict_chances(n, 0.03 + gain, gain)
    assert at_margin["pass"] < 0.06 and at_margin["fail"] < 0.08  # 5 %, but for the steps of whole images
    assert verdict_chances(n, gain, gain)["fail"] < 0.005
    if gain < 0.01:
        collapsed = verdict_chances(n, 0.25, gain)
        assert collapsed["pass"] < 1e-4 and collapsed["fail"] > 0.9


def test_the_drop_gate_fails_no_file_that_loses_nothing_and_every_file_that_loses_much() -> None:
    """Simulated: seven classes as common as in HAM10000, 1.2 % of the predictions changed."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), [33, 51, 110, 11, 112, 670, 15])

    def verdicts(loss: float, gain: float, runs: int) -> list[str]:
        said = []
        for _ in range(runs):
            reference = np.where(rng.random(len(labels)) < 0.7, labels, (labels + 1) % 7)
            right, luck = reference == labels, rng.random(len(labels))
            wrong_now = np.where(luck < loss / 0.7, (labels + 2) % 7, reference)
            file = np.where(right, wrong_now, np.where(luck < gain / 0.3, labels, reference))
            said.append(gates.drop_gate(labels, reference, file).verdict)
        return said

    assert verdicts(0.006, 0.006, 100).count("fail") <= 2
    at_margin = verdicts(0.013, 0.003, 100)
    assert at_margin.count("fail") <= 8 and at_margin.count("pass") <= 25  # the bootstrap's bound is a little short
    much = verdicts(0.08, 0.005, 20)
    assert much.count("fail") >= 18 and "pass" not in much


def test_a_mean_has_the_normal_interval_and_few_values_prove_nothing() -> None:
    values = np.random.default_rng(1).exponential(0.004, 500)
    found = mean_estimate(values)
    expected = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), *expected))
    few = mean_estimate(values[:29], ONE_SIDED)
    assert few.high == 1 and few.low > 0
    assert mean_estimate(np.zeros(0)).n == 0 and math.isnan(mean_estimate(np.zeros(0)).value)
    assert math.isnan(mean_estimate(np.array([0.1, math.nan])).high)


def test_the_bootstrap_is_never_narrower_than_plain_accuracys_interval() -> None:
    labels = np.repeat([0, 1], [20, 10])
    same = balanced_accuracy_drop(labels, labels, labels, ONE_SIDED)
    assert (same.value, same.high) == pytest.approx((0, ONE_SIDED**2 / (30 + ONE_SIDED**2)))
    assert math.isnan(balanced_accuracy_drop(labels[:0], labels[:0], labels[:0]).value)
    file = np.where(np.arange(30) % 4 == 0, 1 - labels, labels)  # many changes: the bootstrap's own quantiles
    found = balanced_accuracy_drop(labels, labels, file, ONE_SIDED)
    drawn = np.quantile(bootstrap_drop(labels, labels, file), [0.05, 0.95])
    assert (found.low, found.high) == pytest.approx(tuple(drawn), abs=0.01)


def test_the_score_gate() -> None:
    reference = np.full((200, 2), 0.5)
    near = reference + np.array([0.004, -0.004])
    gate = gates.score_gate(reference, near, [1])
    assert gate.verdict == "pass" and gate.value == pytest.approx(0.004) and gate.detail.startswith("non-inferior")
    far = gates.score_gate(reference, reference + np.array([0.02, -0.02]), [1])
    assert far.verdict == "fail" and far.value == pytest.approx(0.02)
    assert gates.score_gate(reference[:10], near[:10], [1]).verdict == "inconclusive"
    assert "about 30 images" in gates.score_gate(reference[:10], near[:10], [1]).detail
    assert gates.score_gate(reference[:0], near[:0], [1]).verdict == "inconclusive"
    broken = near.copy()
    broken[3, 1] = math.nan
    assert gates.score_gate(reference, broken, [1]).verdict == "fail"


@pytest.mark.parametrize("table", [McNemar(40, 0, 0, 0), McNemar(73, 2, 0, 37), McNemar(250, 9, 1, 40)])
def test_the_number_of_melanomas_that_would_decide_does(table: McNemar) -> None:
    gate = gates.melanoma_gate(table)
    assert gate.verdict == "inconclusive" and "images of melanoma would decide" in gate.detail
    wanted = int(gate.detail.split("about ")[1].split(" ")[0])
    scale = wanted / table.n

    def decided(n: float) -> bool:
        low, high = score_interval(table.only_reference * n / table.n, table.only_file * n / table.n, n, ONE_SIDED)
        return high <= 0.03 or low > 0.03

    assert scale > 1 and decided(wanted) and not decided(wanted - 2)


def test_a_gate_notes_an_estimate_beyond_the_margin_that_is_inconclusive() -> None:
    gate = gates.melanoma_gate(McNemar(60, 8, 1, 20))
    assert gate.verdict == "inconclusive" and gate.detail.startswith("beyond the margin, though chance may explain it")
    assert gates.melanoma_gate(McNemar(60, 12, 1, 20)).verdict == "fail"
    assert gates.melanoma_gate(McNemar(0, 0, 0, 0)).value is None
    assert "exactly at the limit" in gates.melanoma_gate(McNemar(97, 3, 0, 0)).detail
