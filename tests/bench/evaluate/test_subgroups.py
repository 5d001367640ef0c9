"""Group membership, and the metrics of a group against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy import stats

from skinedge.data.dataset import Sample
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.subgroups import LEAST, age_band, subgroups, worst_group

RNG = np.random.default_rng(4)
SEXES = RNG.choice(["female", "male"], 90)
TRUTH = RNG.integers(0, 3, 90)
PROBABILITIES = RNG.dirichlet(np.ones(3), 90).astype(np.float32) * 0.5 + np.float32(0.5) * np.eye(3, dtype="f")[TRUTH]
PROBABILITIES[::4] = np.roll(PROBABILITIES[::4], 1, axis=1)
PREDICTIONS = Predictions(("a", "b", "c"), TRUTH, PROBABILITIES, (2,), 0.4)


def samples(**meta: list[str]) -> list[Sample]:
    return [
        Sample(f"{i}", f"{i}.jpg", "a", meta={name: values[i] for name, values in meta.items() if values[i]})
        for i in range(90)
    ]


AGES = {
    "<30": ("0.0", "5", "29.9"),
    "30-44": ("30", "44.9"),
    "45-59": ("45.0", "59"),
    "60-74": ("60", "74.99"),
    ">=75": ("75", "101"),
    "unknown": ("", "unknown", "nan", "inf", "-1"),
}


@pytest.mark.parametrize(("band", "ages"), AGES.items())
def test_age_bands(band: str, ages: tuple[str, ...]) -> None:
    assert {age_band(age) for age in ages} == {band}


def test_a_groups_metrics_are_those_of_its_images() -> None:
    groups = subgroups(PREDICTIONS, samples(sex=SEXES.tolist()))
    assert list(groups) == ["sex"] and set(groups["sex"]) == {"female", "male"}
    for sex, group in groups["sex"].items():
        inside = sex == SEXES
        truth, predicted = TRUTH[inside], PROBABILITIES[inside].argmax(axis=1)
        positive, flagged = truth == 2, PROBABILITIES[inside, 2] >= 0.4
        assert group["n"] == inside.sum() and group["classes"] == 3
        assert group["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, predicted))
        for name, kind, right in (("sensitivity", positive, flagged), ("specificity", ~positive, ~flagged)):
            assert group[name] == pytest.approx(oracle.recall_score(kind, right))
            assert group[f"{name}_counts"] == [(kind & right).sum(), kind.sum()]
            wilson = stats.binomtest(int((kind & right).sum()), int(kind.sum())).proportion_ci(method="wilson")
            assert group[f"{name}_wilson"] == pytest.approx([wilson.low, wilson.high])
    assert 0 < groups["sex"]["male"]["sensitivity"] < 1  # both kinds of outcome are there to be counted


def test_a_small_group_has_its_number_of_images_only() -> None:
    sites = ["ear"] * (LEAST - 1) + ["Back"] * LEAST + ["face"] * 60 + [""] * (71 - LEAST - 60 + 20 - LEAST)
    groups = subgroups(PREDICTIONS, samples(site=sites))["site"]
    assert list(groups) == ["face", "back", "ear", "unknown"]
    assert groups["ear"] == {"n": LEAST - 1} and "sensitivity" in groups["back"]
    assert sum(group["n"] for group in groups.values()) == 90


def test_ages_are_in_order_and_an_unknown_attribute_is_omitted() -> None:
    ages = ["80"] * 30 + [""] * 20 + ["5.0"] * 15 + ["50"] * 25
    groups = subgroups(PREDICTIONS, samples(age=ages, sex=["unknown"] * 90))
    assert list(groups) == ["age"] and list(groups["age"]) == ["<30", "45-59", ">=75", "unknown"]
    assert subgroups(PREDICTIONS, samples()) == {}


def test_skin_tones_are_in_order_and_each_scale_is_its_own_attribute() -> None:
    fitzpatrick = ["6"] * 30 + ["1"] * 12 + ["3"] * 40 + [""] * 8
    monk = ["10"] * 45 + ["2"] * 45
    groups = subgroups(PREDICTIONS, samples(fitzpatrick=fitzpatrick, monk_us=monk, skin_tone=["56"] * 50 + ["12"] * 40))
    assert list(groups) == ["fitzpatrick", "monk_us", "skin_tone"]
    assert {value: group["n"] for value, group in groups["fitzpatrick"].items()} == {
        "1": 12,
        "3": 40,
        "6": 30,
        "unknown": 8,
    }
    assert list(groups["fitzpatrick"])[-1] == "unknown" and groups["fitzpatrick"]["unknown"] == {"n": 8}
    assert list(groups["monk_us"]) == ["2", "10"] and list(groups["skin_tone"]) == ["12", "56"]
    assert "sensitivity" in groups["fitzpatrick"]["6"]


def test_without_a_threshold_nothing_is_flagged() -> None:
    alone = Predictions(PREDICTIONS.labels, TRUTH, PROBABILITIES, (2,), None)
    group = subgroups(alone, samples(sex=SEXES.tolist()))["sex"]["male"]
    assert group["sensitivity"] is None and group["specificity_wilson"] is None and group["balanced_accuracy"] > 0


def test_the_worst_group_is_named_with_its_gap_to_all_other_images() -> None:
    groups = subgroups(PREDICTIONS, samples(sex=SEXES.tolist(), site=["back"] * 60 + [""] * 30))
    rates = {(a, v): g["sensitivity"] for a, values in groups.items() for v, g in values.items() if "sensitivity" in g}
    gaps = {
        key: groups[key[0]][key[1]]["sensitivity_gap"] for key in rates if groups[key[0]][key[1]].get("sensitivity_gap")
    }
    male, female = groups["sex"]["male"], groups["sex"]["female"]
    assert male["sensitivity_gap"][0] == pytest.approx(male["sensitivity"] - female["sensitivity"])  # type: ignore
    assert female["sensitivity_gap"][0] == pytest.approx(-male["sensitivity_gap"][0])  # type: ignore
    attribute, value = min((key for key in gaps if key[1] != "unknown"), key=lambda key: gaps[key][0])  # type: ignore
    sentence = worst_group(groups)
    hits, n = groups[attribute][value]["sensitivity_counts"]  # type: ignore
    assert f"{attribute} {value}: {hits} of {n}, " in sentence


def test_no_group_is_named_without_a_gap() -> None:
    assert worst_group({}) == ""
    assert worst_group(subgroups(PREDICTIONS, samples(sex=["male"] * 90))) == ""
    assert (
        "sensitivity_gap"
        not in subgroups(PREDICTIONS, samples(site=["ear"] * LEAST + [""] * (90 - LEAST)))["site"]["ear"]
    )


def test_a_gap_needs_enough_malignant_images_on_both_sides() -> None:
    sites = np.full(90, "back", dtype=object)
    sites[np.flatnonzero(TRUTH == 2)[: LEAST - 1]] = "ear"
    groups = subgroups(PREDICTIONS, samples(site=sites.tolist()))["site"]
    assert groups["back"]["sensitivity_gap"] is None and "sensitivity_gap" not in groups["ear"]
