"""The report's drawings: scales and places from independent arithmetic, and what a drawing says of itself."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from skinedge_bench.report import charts, pareto, svg
from skinedge_bench.report.charts import Estimate, Series
from skinedge_bench.report.content import Chart
from skinedge_bench.report.pareto import Candidate
from skinedge_bench.report.svg import LogScale, Scale


def parsed(chart: Chart) -> ElementTree.Element:
    """The drawing is well-formed, stays inside its box, and says in words what it shows."""
    root = ElementTree.fromstring(chart.svg)
    assert root.get("role") == "img" and root.get("aria-label") == chart.says
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for part in root.iter():
        for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert -1 <= float(part.get(name, 0)) <= most + 1, part.attrib
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", part.get("d", ""))]
        assert all(np.isfinite(numbers)) and all(-1 <= x <= width + 1 for x in numbers[::2])
        assert all(-1 <= y <= height + 1 for y in numbers[1::2])
    return root


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.62, 0.97), (-0.013, 0.041), (1, 12), (5, 5.0001), (0, 12345)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    scale = Scale(low, high, 0, 400)
    ticks = np.array(scale.ticks())
    assert 1 <= len(ticks) <= 7 and ticks.min() >= low - 1e-9 and ticks.max() <= high + 1e-9
    steps = np.diff(ticks)
    if len(steps):
        assert np.allclose(steps, steps[0])
        assert f"{steps[0]:.3e}"[0] in "125" and float(f"{steps[0]:.3e}".split("e")[0]) in (1, 2, 5)
    labels = [label for _, label in svg.labelled(scale)]
    assert len(set(labels)) == len(labels)
    assert [float(label) for label in labels] == pytest.approx(ticks.tolist(), abs=1e-9)


def test_a_scale_is_linear_or_logarithmic() -> None:
    assert Scale(2, 4, 100, 50).at(2.5) == pytest.approx(87.5)
    log = LogScale(1, 100, 0, 200)
    assert [log.at(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])
    assert log.ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert len(LogScale(4.3, 4.9, 0, 400).ticks()) > 1


def test_names_stand_apart() -> None:
    moved = charts.apart([10, 12, 50, 11], 16)
    assert sorted(moved) == [10, 26, 42, 58] and charts.apart([10, 40], 16) == [10, 40]


def test_curves_go_through_their_points() -> None:
    drawn = charts.curves("Loss", [Series("loss", ((1, 3.0), (2, 2.0), (3, 1.0)))], 2)
    root = parsed(drawn)
    marks = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    xs, ys = np.array(marks).T
    assert np.allclose(np.diff(xs), xs[1] - xs[0]) and np.allclose(np.diff(ys), ys[1] - ys[0]) and ys[2] > ys[0]
    assert "loss: 3.000 in epoch 1, 1.000 in epoch 3" in drawn.says and "Kept: epoch 2" in drawn.says
    parsed(charts.curves("One epoch", [Series("loss", ((1, 3.0),))], None))
    parsed(charts.curves("Level", [Series("a", ((1, 0.5), (2, 0.5))), Series("b", ((1, 0.5), (2, 0.5)))], 1))


def test_the_roc_curve_is_where_the_counts_are() -> None:
    drawn = charts.roc("mel", [[0, 0], [0, 3], [2, 6], [10, 6]], "AUC 0.9", (0.2, 1.0))
    root = parsed(drawn)
    path = next(p.attrib["d"] for p in root.iter("path") if p.get("class") == "line first")
    points = np.array([float(number) for number in re.findall(r"[\d.]+", path)]).reshape(-1, 2)
    (left, bottom), (right, top) = points[0], points[-1]
    shares = (points - [left, bottom]) / [right - left, top - bottom]
    assert np.allclose(shares, [[0, 0], [0, 0.5], [0.2, 1], [1, 1]], atol=1e-3)
    assert "6 images of it, 10 others" in drawn.says and "sensitivity 1.000, 0.200 of the others" in drawn.says


def test_empty_bins_of_the_reliability_are_left_out() -> None:
    bins = [
        {"above": 0.0, "up_to": 0.5, "share": 0.0, "accuracy": None, "confidence": None},
        {"above": 0.5, "up_to": 1.0, "share": 1.0, "accuracy": 0.75, "confidence": 0.8},
    ]
    drawn = charts.reliability(bins, 0.05)
    bars = [bar for bar in parsed(drawn).iter("rect") if bar.get("class") == "bar first"]
    assert len(bars) == 1 and "0.80 sure, 0.75 right" in drawn.says and "error 0.050" in drawn.says
    assert float(bars[0].attrib["height"]) == pytest.approx(0.75 * 260, abs=0.1)
    parsed(charts.reliability([{**bins[0]}], None))


def test_estimates_stand_beside_their_limit() -> None:
    rows = [Estimate("a<b", 0.98, 0.96, 0.99, "pass"), Estimate("b", 0.9, 0.85, 0.95, "fail")]
    drawn = charts.estimates("Agreement", rows, 0.97, "share")
    root = parsed(drawn)
    assert "a<b 0.98 (0.96 to 0.99) pass; b 0.9 (0.85 to 0.95) fail" in drawn.says and "a&lt;b" in drawn.svg
    limit = next(p.attrib["d"] for p in root.iter("path") if p.get("class") == "line limit")
    at = float(re.findall(r"[\d.]+", limit)[0])
    low = [p.attrib["d"] for p in root.iter("path") if "range" in p.get("class", "")]
    ends = [[float(x) for x in re.findall(r"[\d.]+", path)][::2] for path in low]
    assert ends[0][0] < at < ends[0][1] and ends[1][1] < at
    parsed(charts.estimates("All the same", [Estimate("a", 1, 1, 1)], 1, "share"))


def test_distributions_tell_the_quantiles_of_all_samples() -> None:
    rng = np.random.default_rng(0)
    samples = {"fast": rng.gamma(9, 0.5, 1000), "slow": rng.gamma(9, 4, 1000), "steady": np.full(30, 2.0)}
    drawn = charts.distributions("Times", [(name, each.tolist()) for name, each in samples.items()])
    parsed(drawn)
    for name, each in samples.items():
        p50, p90 = np.quantile(each, [0.5, 0.9])
        assert f"{name}: p50 {p50:.2f} ms, p90 {p90:.2f} ms, {each.size} samples" in drawn.says


def test_the_best_are_those_that_nothing_beats() -> None:
    rng = np.random.default_rng(3)
    found = [
        Candidate("", f"{i}", "litert", "int8", *(float(value) for value in rng.integers(1, 9, 2)), 1)
        for i in range(40)
    ]
    found.append(Candidate("x", "away", "litert", "int8", 0.5, 99, 1, apart="other CPU"))
    for each in (ranked := pareto.judged(found)):
        if each.apart:
            assert not each.best
        else:
            beaten = any(
                o.ms <= each.ms and o.accuracy >= each.accuracy and (o.ms, o.accuracy) != (each.ms, each.accuracy)
                for o in found
                if not o.apart
            )
            twin = any((o.ms, o.accuracy) == (each.ms, each.accuracy) and o.best and o is not each for o in ranked)
            assert each.best == (not beaten and not twin)
    root = parsed(pareto.chart(ranked))
    assert sum(mark.get("class", "").startswith("point") for mark in root.iter("rect")) == 40
    assert [row[0] for row in pareto.table(ranked).rows] == [str(i) for i in range(1, 42)]
    parsed(pareto.chart(pareto.judged(found[:1])))
