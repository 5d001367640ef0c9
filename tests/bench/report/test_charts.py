"""The report's charts: places from independent arithmetic, text alternatives, and SVG that a page may hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from skinedge.core.terminal import visible
from skinedge.run.report_schemas import Corner, ReliabilityBin
from skinedge_bench.report import pareto, plots
from skinedge_bench.report.charts import (
    Distributions,
    Estimate,
    Estimates,
    LearningCurves,
    ReliabilityDiagram,
    RocCurve,
    Series,
    Timings,
)
from skinedge_bench.report.content import Chart
from skinedge_bench.report.pareto import Candidate, Pareto
from skinedge_bench.report.svg import svg

NUMBER = r"-?\d+(?:\.\d+)?"
ATTRIBUTES = {"viewBox", "role", "aria-label", "d", "style", "x", "y", "transform", "class"}


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(NUMBER, text)]


def points(path: ElementTree.Element) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """The corners of a path, (N, 2), y downwards."""
    return np.array(numbers(path.attrib["d"])).reshape(-1, 2)


def parsed(chart: Chart) -> ElementTree.Element:
    """The drawing is well-formed, stays inside its box, has only the page's colours, and describes itself in words."""
    drawn = svg(chart)
    root = ElementTree.fromstring(drawn)
    assert root.get("role") == "img" and root.get("aria-label") == visible(chart.description)
    assert {"svg", "g", "path", "text"} >= {part.tag for part in root.iter()}
    assert {name for part in root.iter() for name in part.attrib} <= ATTRIBUTES
    assert not re.search(r"#[0-9a-f]{3}|url\(|font-family|rgb\(", drawn)
    assert svg(chart) == drawn
    _, _, width, height = numbers(root.attrib["viewBox"])
    for part in root.iter():
        shift = numbers(part.get("transform", "")) if part.tag == "path" else []
        places = points(part) if part.tag == "path" else np.array([numbers(f"{part.get('x', 0)} {part.get('y', 0)}")])
        places = places + (shift or [0.0, 0.0])
        assert (places >= -1).all() and (places <= [width + 1, height + 1]).all(), part.attrib
    return root


def painted(root: ElementTree.Element, *styles: str) -> list[ElementTree.Element]:
    """The paths whose style holds all of `styles`."""
    return [path for path in root.iter("path") if all(style in path.get("style", "") for style in styles)]


def marks(root: ElementTree.Element, *styles: str) -> list[list[float]]:
    """Where the marks of a style are."""
    return [numbers(path.attrib["transform"]) for path in painted(root, *styles) if "transform" in path.attrib]


@pytest.mark.parametrize(("low", "high"), [(1, 100), (4.3, 4.9), (0.62, 0.97), (3, 12345), (7.99, 8.01)])
def test_ticks_of_a_logarithmic_scale_are_round_and_inside(low: float, high: float) -> None:
    ticks = np.array(plots.round_ticks(low, high))
    assert len(ticks) > 1 and ticks.min() >= low and ticks.max() <= high
    assert plots.round_ticks(1, 100) == [1, 2, 5, 10, 20, 50, 100]
    assert all(len(f"{tick:.12g}".replace(".", "").strip("0")) <= 4 for tick in ticks)


def test_curves_go_through_their_points() -> None:
    chart = LearningCurves("Loss", (Series("loss", ((1, 3.0), (2, 2.0), (3, 1.0))),), 2)
    xs, ys = np.array(marks(parsed(chart), "fill: var(--first)")[:3]).T  # the legend's mark is the last
    assert np.allclose(np.diff(xs), xs[1] - xs[0], atol=0.02) and np.allclose(np.diff(ys), ys[1] - ys[0], atol=0.02)
    assert ys[2] > ys[0]
    assert "loss: 3.000 in epoch 1, 1.000 in epoch 3" in chart.description and "Kept: epoch 2" in chart.description
    parsed(LearningCurves("One epoch", (Series("loss", ((1, 3.0),)),), None))
    level = ((1, 0.5), (2, 0.5))
    parsed(LearningCurves("Level", (Series("a", level), Series("b", level)), 1))


def test_lines_differ_in_dashes_and_marks_not_in_colour_alone() -> None:
    series = tuple(Series(name, ((1, 0.1 * i), (2, 0.2))) for i, name in enumerate("abc"))
    root = parsed(LearningCurves("Three", series, None))
    lines = [painted(root, "fill: none", f"stroke: var(--{name})") for name in ("first", "second", "third")]
    dashes = [re.search(r"stroke-dasharray: ([^;]*)", line[0].attrib["style"]) for line in lines]
    assert dashes[0] is None and dashes[1] and dashes[2] and dashes[1][1] != dashes[2][1]
    shapes = [
        next(path.attrib["d"] for path in painted(root, f"fill: var(--{name})") if "transform" in path.attrib)
        for name in ("first", "second", "third")
    ]
    assert len(set(shapes)) == 3
    assert {"a", "b", "c"} <= {text.text for text in root.iter("text")}


def test_the_roc_curve_is_where_the_counts_are() -> None:
    corners = [Corner(0, 0), Corner(0, 3), Corner(2, 6), Corner(10, 6)]
    chart = RocCurve("mel", corners, "AUC 0.9", (0.2, 1.0))
    root = parsed(chart)
    curve = points(painted(root, "fill: none", "stroke: var(--first)")[0])
    (left, bottom), (right, top) = curve[0], curve[-1]
    shares = (curve - [left, bottom]) / [right - left, top - bottom]
    assert np.allclose(shares, [[0, 0], [0, 0.5], [0.2, 1], [1, 1]], atol=1e-3)
    (mark,) = marks(root, "fill: var(--second)")
    assert np.allclose((np.array(mark) - [left, bottom]) / [right - left, top - bottom], [0.2, 1], atol=1e-3)
    assert "6 positive images, 10 negative" in chart.description
    assert "sensitivity 1.000, false positive rate 0.200" in chart.description
    parsed(RocCurve("mel", corners, "AUC 0.9", small=True))


def test_empty_bins_of_the_reliability_are_left_out() -> None:
    empty = ReliabilityBin(above=0.0, up_to=0.5, share=0.0, accuracy=None, confidence=None)
    full = ReliabilityBin(above=0.5, up_to=1.0, share=1.0, accuracy=0.75, confidence=0.8)
    chart = ReliabilityDiagram((empty, full), 0.05)
    root = parsed(chart)
    (bar,) = painted(root, "fill: var(--first)")
    (diagonal,) = painted(root, "fill: none", "stroke-dasharray", "stroke: var(--quiet)")
    height, whole = np.ptp(points(bar)[:, 1]), np.ptp(points(diagonal)[:, 1])
    assert height == pytest.approx(0.75 * whole, abs=0.1)
    assert "confidence 0.80, accuracy 0.75" in chart.description and "error 0.050" in chart.description
    parsed(ReliabilityDiagram((empty,), None))


def test_estimates_stand_beside_their_limit() -> None:
    rows = (Estimate("a<b", 0.98, 0.96, 0.99, "pass"), Estimate("b", 0.9, 0.85, 0.95, "fail"))
    chart = Estimates("Agreement", rows, 0.97, "share")
    root = parsed(chart)
    assert "a<b 0.98 (0.96 to 0.99) passed; b 0.9 (0.85 to 0.95) failed" in chart.description
    assert "a&lt;b" in svg(chart)
    (limit,) = painted(root, "stroke-dasharray", "stroke: var(--second)")
    at = points(limit)[0, 0]
    ranges = [points(path)[:, 0] for path in painted(root, "stroke-width: 5")]
    assert ranges[0][0] < at < ranges[0][1] and ranges[1][1] < at
    width = ranges[0][1] - ranges[0][0]
    assert (ranges[1][1] - ranges[1][0]) / width == pytest.approx(0.1 / 0.03, abs=0.01)
    parsed(Estimates("All the same", (Estimate("a", 1, 1, 1),), 1, "share"))


def test_distributions_tell_the_quantiles_of_all_samples() -> None:
    rng = np.random.default_rng(0)
    samples = {"fast": rng.gamma(9, 0.5, 1000), "slow": rng.gamma(9, 4, 1000), "steady": np.full(30, 2.0)}
    chart = Distributions("Times", tuple(Timings(name, values.tolist()) for name, values in samples.items()))
    root = parsed(chart)
    medians = [points(path)[0, 0] for path in painted(root, "stroke: var(--ink)", "fill: none")]
    for name, values in samples.items():
        p50, p90 = np.quantile(values, [0.5, 0.9])
        assert f"{name}: p50 {p50:.2f} ms, p90 {p90:.2f} ms, {values.size} samples" in chart.description
    logs = np.log([np.median(values) for values in samples.values()])
    assert len(medians) == 3
    assert (medians[1] - medians[0]) / (medians[2] - medians[0]) == pytest.approx(
        (logs[1] - logs[0]) / (logs[2] - logs[0]), abs=0.01
    )
    parsed(Distributions("One", (Timings("one", [3.0]),)))


def test_the_best_are_those_that_nothing_beats() -> None:
    rng = np.random.default_rng(3)
    candidates = [
        Candidate("", f"{i}", "litert", "int8", *(float(value) for value in rng.integers(1, 9, 2)), 1)
        for i in range(40)
    ]
    candidates.append(Candidate("x", "away", "litert", "int8", 0.5, 99, 1, incomparable="other CPU"))
    ranked = pareto.ranked(candidates)
    for each in ranked:
        if each.incomparable:
            assert not each.best
        else:
            beaten = any(
                o.ms <= each.ms and o.accuracy >= each.accuracy and (o.ms, o.accuracy) != (each.ms, each.accuracy)
                for o in candidates
                if not o.incomparable
            )
            twin = any((o.ms, o.accuracy) == (each.ms, each.accuracy) and o.best and o is not each for o in ranked)
            assert each.best == (not beaten and not twin)
    root = parsed(Pareto(ranked))
    assert len(marks(root, "stroke: var(--first)")) == 40
    assert {str(i) for i in range(1, 41)} <= {text.text for text in root.iter("text")}
    assert [row[0] for row in pareto.table(ranked).rows] == [str(i) for i in range(1, 42)]
    parsed(Pareto(pareto.ranked(candidates[:1])))


def test_names_that_are_markup_or_in_no_font_are_drawn_as_text() -> None:
    for name in ("<script>$x$", "_hidden", "皮膚 \N{GRINNING FACE}", "a\x01b"):
        root = parsed(Estimates("Names", (Estimate(name, 0.5, 0.4, 0.6),), 0.5, "share"))
        shown = [text.text for text in root.iter("text")]
        assert any(name.replace("\x01", "") in str(text) or "x01" in str(text) for text in shown)
