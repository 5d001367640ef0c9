"""The report's drawings. Each takes plain values and gives a `Chart`, whose text says the same with numbers.

Nothing is told by colour alone: lines differ in their dashes and carry their names, marks differ in shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from skinedge_bench.report import svg
from skinedge_bench.report.content import Chart
from skinedge_bench.report.svg import Frame, LogScale, Point, Scale

WIDTH = 420.0  # of a chart: what a phone shows at about its own size
STYLES = ("first", "second", "third")
MARKS = (svg.dot, svg.square, svg.diamond)


@dataclass(frozen=True)
class Series:
    """One line: its name and its (x, y) points, NaN left out."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and what was decided on it ('' where nothing was)."""

    name: str
    value: float
    low: float
    high: float
    verdict: str = ""


def curves(title: str, series: Sequence[Series], best: float | None) -> Chart:
    """Lines over the epochs. best: the epoch that was kept; each name stands at its line's end."""
    points = [point for each in series for point in each.points]
    x = Scale(*spread([p[0] for p in points]), 44, WIDTH - 100)
    y = Scale(*spread([p[1] for p in points], 0.06), 218, 26)
    frame = Frame(WIDTH, 262, x, y)
    parts = [svg.axes(frame, "epoch", "")]
    if best is not None:
        parts.append(svg.line([frame.point(best, y.low), frame.point(best, y.high)], "mark"))
        parts.append(svg.text(x.at(best), 18, f"kept: epoch {best:g}", "tick middle"))
    heights = apart([y.at(each.points[-1][1]) for each in series], 16)
    for index, (each, height) in enumerate(zip(series, heights, strict=True)):
        places, style = [frame.point(*point) for point in each.points], STYLES[index % len(STYLES)]
        parts.append(svg.line(places, style))
        parts += [MARKS[index % len(MARKS)](place, style, 3) for place in places]
        parts.append(svg.text(places[-1][0] + 9, height + 4, each.name, style))
    said = "; ".join(_course(each) for each in series)
    kept = "" if best is None else f" Kept: epoch {best:g}."
    return _chart(title, frame, f"{said}.{kept}", parts)


def roc(title: str, corners: Sequence[Sequence[int]], area: str, mark: Point | None, *, width: float = WIDTH) -> Chart:
    """Sensitivity over false alarms. corners: [negatives, positives] flagged; area: the AUC in words; mark: where the
    threshold lies, (false alarms, sensitivity).
    """
    negatives, positives = corners[-1]
    side = width - 52
    frame = Frame(width, side + 62, Scale(0, 1, 44, 44 + side), Scale(0, 1, side + 20, 20))
    places = [frame.point(alarms / negatives, hits / positives) for alarms, hits in corners]
    parts = [
        svg.axes(frame, "share of the others flagged", "sensitivity"),
        svg.line([frame.point(0, 0), frame.point(1, 1)], "chance"),
        svg.area([*places, frame.point(1, 0)], "first"),
        svg.line(places, "first"),
        svg.text(40 + side, side + 6, area, "strong end"),
    ]
    says = f"ROC curve, {title}: {area}; {positives} images of it, {negatives} others."
    if mark is not None:
        parts.append(svg.diamond(frame.point(*mark), "second", 6))
        parts.append(svg.text(frame.x.at(mark[0]) + 12, frame.y.at(mark[1]) + 22, "at the threshold", "second"))
        says += f" At the threshold: sensitivity {mark[1]:.3f}, {mark[0]:.3f} of the others flagged."
    return _chart(title, frame, says, parts)


def reliability(bins: Sequence[Mapping[str, float | None]], ece: float | None) -> Chart:
    """How often the likeliest class is right, by how sure the model was; below, the share of images that were."""
    frame = Frame(WIDTH, 400, Scale(0, 1, 44, WIDTH - 12), Scale(0, 1, 280, 20))
    parts = [svg.axes(frame, "", "share that is right")]
    said = []
    for found in bins:
        low, high, right, sure = (found[name] for name in ("above", "up_to", "accuracy", "confidence"))
        if low is None or high is None or right is None or sure is None:
            continue
        left, top = frame.point(low, right)
        parts.append(svg.bar(left + 1, top, frame.x.at(high) - left - 2, frame.y.at(0) - top, "bar first"))
        parts.append(svg.dot(frame.point(sure, right), "ink", 3.5))
        said.append(f"{sure:.2f} sure, {right:.2f} right")
    parts.append(svg.line([frame.point(0, 0), frame.point(1, 1)], "chance"))
    most = max((found["share"] or 0 for found in bins), default=0) or 1
    below = Frame(WIDTH, 400, frame.x, Scale(0, most, 362, 312))
    for found in bins:
        left, top = below.point(found["above"] or 0, found["share"] or 0)
        width = below.x.at(found["up_to"] or 0) - left - 2
        parts.append(svg.bar(left + 1, top, width, below.y.at(0) - top, "bar quiet"))
    parts.append(svg.line([(44, 362), (WIDTH - 12, 362)], "axis"))
    parts.append(svg.text(38, 340, "images", "tick end"))
    parts.append(svg.text((WIDTH + 32) / 2, 386, "confidence in the likeliest class", "title middle"))
    error = "" if ece is None else f" Expected calibration error {ece:.3f}."
    return _chart("Reliability", frame, f"Bars on the diagonal would be perfect.{error} {'; '.join(said)}.", parts)


def estimates(title: str, rows: Sequence[Estimate], limit: float, unit: str) -> Chart:
    """Values with their 95 % intervals beside the gate's limit, a row each."""
    top, step = 34.0, 46.0
    bottom = top + step * len(rows)
    values = [value for row in rows for value in (row.low, row.high)]
    x = Scale(*spread([*values, limit], 0.05), 12, WIDTH - 12)
    frame = Frame(WIDTH, bottom + 44, x, Scale(0, 1, bottom, top))
    parts = [svg.line([(x.at(tick), top), (x.at(tick), bottom)], "grid") for tick in x.ticks()]
    parts += [svg.text(x.at(tick), bottom + 17, label, "tick middle") for tick, label in svg.labelled(x)]
    parts += [
        svg.line([(12, bottom), (WIDTH - 12, bottom)], "axis"),
        svg.text(WIDTH / 2, bottom + 36, unit, "title middle"),
    ]
    parts += [svg.line([(x.at(limit), top - 8), (x.at(limit), bottom)], "limit")]
    anchor = "end" if x.at(limit) > WIDTH / 2 else ""
    parts += [svg.text(x.at(limit) + (-6 if anchor else 6), top - 12, f"limit {limit:g}", f"second {anchor}")]
    for index, row in enumerate(rows):
        height = top + step * index + 32
        style = "second" if row.verdict == "fail" else "first"
        parts.append(svg.text(12, height - 14, row.name + (f" · {row.verdict}" if row.verdict else ""), "label"))
        parts.append(svg.line([(x.at(row.low), height), (x.at(row.high), height)], f"range {style}"))
        mark = svg.diamond if row.verdict == "fail" else svg.dot if row.verdict != "underpowered" else svg.square
        parts.append(mark((x.at(row.value), height), style, 5))
    said = [f"{row.name} {row.value:.4g} ({row.low:.4g} to {row.high:.4g}) {row.verdict}".strip() for row in rows]
    return _chart(title, frame, f"{title}, {unit}, limit {limit:g}: {'; '.join(said)}.", parts)


def distributions(title: str, rows: Sequence[tuple[str, Sequence[float]]]) -> Chart:
    """How the measured times spread, a hill each, on one logarithmic scale. rows: name, samples in milliseconds.

    The slowest and the fastest half per cent are left out of the hills; the numbers beside them are of all.
    """
    whole = [np.asarray(samples, dtype=np.float64) for _, samples in rows]
    inner = [
        each[(each >= low) & (each <= high)] for each in whole for low, high in [np.quantile(each, (0.005, 0.995))]
    ]
    low, high = min(each.min() for each in inner), max(each.max() for each in inner)
    top, step = 8.0, 62.0
    bottom = top + step * len(rows)
    x = LogScale(low / 1.08, high * 1.08, 12, WIDTH - 12)
    frame = Frame(WIDTH, bottom + 44, x, Scale(0, 1, bottom, top))
    edges = np.geomspace(x.low, x.high, 85)
    parts = [svg.line([(x.at(tick), top), (x.at(tick), bottom)], "grid") for tick in x.ticks()]
    parts += [svg.text(x.at(tick), bottom + 17, label, "tick middle") for tick, label in svg.labelled(x)]
    parts.append(svg.text(WIDTH / 2, bottom + 36, "milliseconds, logarithmic", "title middle"))
    said = []
    for index, ((name, _), every, each) in enumerate(zip(rows, whole, inner, strict=True)):
        base = top + step * (index + 1)
        heights = np.histogram(each, edges)[0]
        rise = 32 * heights / heights.max()
        middle = [(x.at(math.sqrt(a * b)), base - r) for (a, b), r in zip(pairwise(edges), rise, strict=True)]
        parts.append(svg.area([(x.start, base), *middle, (x.end, base)], "first"))
        parts.append(svg.line([(x.start, base), (x.end, base)], "axis"))
        p50, p90 = (float(value) for value in np.quantile(every, (0.5, 0.9)))
        parts += [svg.line([(x.at(p50), base), (x.at(p50), base - 34)], "strong")]
        parts += [svg.line([(x.at(p90), base), (x.at(p90), base - 16)], "second")]
        parts.append(svg.text(12, base - 44, f"{name} · p50 {p50:.2f}, p90 {p90:.2f}", "label"))
        said.append(f"{name}: p50 {p50:.2f} ms, p90 {p90:.2f} ms, {every.size} samples")
    return _chart(title, frame, f"{title}. {'; '.join(said)}.", parts)


def apart(heights: Sequence[float], least: float) -> list[float]:
    """The heights, moved down as far as it takes for any two to be `least` apart."""
    moved = dict.fromkeys(range(len(heights)), 0.0)
    previous = -math.inf
    for index in sorted(moved, key=lambda i: heights[i]):
        previous = moved[index] = max(heights[index], previous + least)
    return list(moved.values())


def spread(values: Sequence[float], margin: float = 0.0) -> Point:
    """Lowest and highest value, with a share of their distance around; never the same."""
    low, high = min(values), max(values)
    room = (high - low) * margin if high > low else max(abs(low) * 0.1, 0.5)
    return low - room, high + room


def _course(series: Series) -> str:
    first, last = series.points[0], series.points[-1]
    return f"{series.name}: {first[1]:.3f} in epoch {first[0]:g}, {last[1]:.3f} in epoch {last[0]:g}"


def _chart(title: str, frame: Frame, says: str, parts: Sequence[Any]) -> Chart:
    return Chart(title, svg.drawing(frame.width, frame.height, says, *parts), says)
