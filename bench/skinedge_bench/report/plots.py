"""Draw charts with matplotlib.

No information is in colour alone: lines also differ in dashes, marks in shape. Lengths are points of 1/72 inch, which
are the units of the view box.
"""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from skinedge.core.terminal import visible
from skinedge_bench.report.charts import (
    Distributions,
    Estimates,
    LearningCurves,
    Point,
    ReliabilityDiagram,
    RocCurve,
    Timings,
)
from skinedge_bench.report.content import Chart
from skinedge_bench.report.pareto import Pareto

WIDTH, SMALL = 420.0, 200.0  # of a chart, and of one of many; a phone shows the first at about its own size
PAPER, INK, QUIET, RULE = "#fafaf8", "#1c2226", "#566068", "#dcdfdd"
FIRST, SECOND, THIRD = "#0b6b66", "#a8470f", "#5a4a9c"
LINES = ((FIRST, "-", "o"), (SECOND, "--", "s"), (THIRD, ":", "D"))  # colour, dashes, mark
SHAPES = {"onnxruntime": "o", "litert": "s"}  # of a runtime; any other is a diamond
STEPS = (1, 2, 5, 10)  # between ticks, times a power of ten
HALO = "halo"  # group of labels that lie over lines
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "figure.facecolor": "none",
    "figure.edgecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": QUIET,
    "axes.titlecolor": QUIET,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 1,
    "axes.axisbelow": True,
    **{f"{axis}tick.{name}": value for axis in "xy" for name, value in (("color", QUIET), ("major.size", 0))},
    "xtick.major.pad": 6,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "patch.edgecolor": INK,
}


@singledispatch
def figure(chart: Chart) -> Figure:
    """Draw a chart; called within `STYLE`."""
    raise TypeError(f"no drawing for {type(chart).__name__}")


@figure.register
def _(chart: LearningCurves) -> Figure:
    drawing, axes = _axes(WIDTH, 262)
    for index, series in enumerate(chart.series):
        colour, dashes, mark = LINES[index % len(LINES)]
        x, y = zip(*series.points, strict=True)
        axes.plot(x, y, color=colour, linestyle=dashes, marker=mark, markersize=5, label=series.name)
    if chart.best is not None:
        axes.axvline(chart.best, color=QUIET, linewidth=1, linestyle=":")
        place = axes.get_xaxis_transform()
        axes.text(chart.best, 1.01, f"kept: epoch {chart.best:g}", color=QUIET, ha="center", transform=place)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS, integer=True))
    axes.set_xlabel("epoch")
    drawing.legend(loc="outside upper left", ncols=3, labelcolor="linecolor", handlelength=2.5)
    return drawing


@figure.register
def _(chart: RocCurve) -> Figure:
    width = SMALL if chart.small else WIDTH
    drawing, axes = _axes(width, width + 16)
    x, y = zip(*chart.points, strict=True)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    axes.fill([*x, 1], [*y, 0], color=FIRST, alpha=0.18, linewidth=0)
    axes.plot(x, y, color=FIRST)
    axes.text(0.98, 0.04, chart.area, weight="bold", ha="right")
    if chart.operating_point is not None:
        axes.plot(*chart.operating_point, "D", color=SECOND, markersize=9, markeredgecolor=PAPER)
        axes.annotate("at the threshold", chart.operating_point, (10, -18), color=SECOND, textcoords="offset points")
    ticks = [0, 0.5, 1] if chart.small else [0, 0.2, 0.4, 0.6, 0.8, 1]
    axes.set(xlim=(0, 1), ylim=(0, 1), xticks=ticks, yticks=ticks, box_aspect=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="false positive rate", title="sensitivity")
    return drawing


@figure.register
def _(chart: ReliabilityDiagram) -> Figure:
    drawing = _figure(WIDTH, 400)
    above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    for bin_ in chart.bins:
        low, high = bin_.above or 0, bin_.up_to or 0
        below.bar(low, bin_.share or 0, high - low, align="edge", color=QUIET, alpha=0.55, edgecolor=PAPER)
        if bin_.accuracy is not None and bin_.confidence is not None:
            above.bar(low, bin_.accuracy, high - low, align="edge", color=FIRST, alpha=0.35, edgecolor=PAPER)
            above.plot(bin_.confidence, bin_.accuracy, "o", color=INK, markersize=7, markeredgecolor=PAPER)
    above.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=":")
    above.set(xlim=(0, 1), ylim=(0, 1), title="accuracy")
    below.set(yticks=[], ylabel="images", xlabel="confidence in the top class")
    return drawing


@figure.register
def _(chart: Estimates) -> Figure:
    drawing, axes = _rows(len(chart.rows), 46, 64)
    for index, row in enumerate(chart.rows):
        colour = SECOND if row.verdict == "fail" else FIRST
        mark = {"fail": "D", "inconclusive": "s"}.get(row.verdict or "", "o")
        axes.plot([row.low, row.high], [index, index], color=colour, linewidth=5, alpha=0.45)
        axes.plot(row.value, index, mark, color=colour, markersize=9, markeredgecolor=PAPER)
        _row_label(axes, index - 0.28, row.name + (f" · {row.word}" if row.word else ""))
    axes.axvline(chart.limit, color=SECOND, linestyle="--")
    low, high = axes.get_xlim()
    align = "right" if chart.limit > (low + high) / 2 else "left"
    place = axes.get_xaxis_transform()
    axes.text(chart.limit, 1.02, f"limit {chart.limit:g}", color=SECOND, ha=align, transform=place)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(chart.unit)
    return drawing


@figure.register
def _(chart: Distributions) -> Figure:
    drawing, axes = _rows(len(chart.rows), 62, 44)
    low = min(float(row.inner.min()) for row in chart.rows) / 1.08
    high = max(float(row.inner.max()) for row in chart.rows) * 1.08
    edges = np.geomspace(low, high, 85)
    for index, row in enumerate(chart.rows):
        _histogram(axes, row, index + 0.45, edges)
        p50, p90 = row.p50_p90
        _row_label(axes, index - 0.28, f"{row.name} · p50 {p50:.2f}, p90 {p90:.2f}")
    _logarithmic(axes, low, high)
    axes.set_xlabel("milliseconds, logarithmic")
    return drawing


def _histogram(axes: Axes, row: Timings, base: float, edges: np.ndarray[Any, Any]) -> None:
    """Draw the hill of one row, its median and its 90th percentile; y points down, a row is 1 high."""
    counts = np.histogram(row.inner, edges)[0]
    heights = base - 0.52 * counts / counts.max()
    middles = np.sqrt(edges[:-1] * edges[1:])
    axes.fill([edges[0], *middles, edges[-1]], [base, *heights, base], color=FIRST, alpha=0.25, linewidth=0)
    axes.plot([edges[0], edges[-1]], [base, base], color=QUIET, linewidth=1)
    p50, p90 = row.p50_p90
    axes.plot([p50, p50], [base, base - 0.55], color=INK)
    axes.plot([p90, p90], [base, base - 0.26], color=SECOND, linestyle="--")


@figure.register
def _(chart: Pareto) -> Figure:
    drawing, axes = _axes(WIDTH, 350)
    points = [(candidate.ms, candidate.accuracy) for _, candidate in chart.drawn]
    best = [(c.ms, c.accuracy) for _, c in chart.drawn if c.best]
    times, accuracies = zip(*points, strict=True)
    low, high = min(times) / 1.25, max(times) * 1.25
    axes.step(*zip(*best, (high, best[-1][1]), strict=True), where="post", color=FIRST, linewidth=1.5, linestyle=":")
    for _, c in chart.drawn:
        hollow: Any = {"markerfacecolor": PAPER, "markeredgewidth": 2.5} if c.precision == "fp32" else {}
        axes.plot(c.ms, c.accuracy, SHAPES.get(c.runtime, "D"), color=FIRST, markersize=10, **hollow)
    margin = max((max(accuracies) - min(accuracies)) * 0.2, 0.005)  # thousandths look like thousandths
    axes.set_ylim(min(accuracies) - margin, max(accuracies) + margin)
    _logarithmic(axes, low, high)
    axes.set(xlabel="p50 in milliseconds, logarithmic", title="balanced accuracy")
    key = "circle: ONNX Runtime, square: LiteRT, diamond: PyTorch; hollow: fp32"
    drawing.supxlabel(key, fontsize=11, color=QUIET)
    _number(drawing, axes, chart)
    return drawing


def _number(drawing: Figure, axes: Axes, chart: Pareto) -> None:
    """Write each candidate's number beside its mark, where no other number is."""
    drawing.draw_without_rendering()  # places the axes
    taken: list[Point] = []
    for number, c in chart.drawn:
        x, y = axes.transData.transform((c.ms, c.accuracy))
        label_x, label_y = free_place((float(x), float(y)), taken)
        taken.append((label_x, label_y))
        style: Any = {"weight": "bold", "color": INK} if c.best else {"color": QUIET}
        style |= {"ha": "center", "va": "center", "in_layout": False, "textcoords": "offset points"}
        axes.annotate(str(number), (c.ms, c.accuracy), (label_x - x, label_y - y), **style)


def free_place(mark: Point, taken: list[Point]) -> Point:
    """Return a place beside a mark at which no other label is, in points; the first one where all are taken."""
    offsets = [(14, 0), (-14, 0), (0, 15), (0, -16), (14, 15), (-14, 15), (14, -16), (-14, -16), (28, 0), (-28, 0)]
    places = [(mark[0] + dx, mark[1] + dy) for dx, dy in offsets]
    free = [p for p in places if all(abs(p[0] - q[0]) > 13 or abs(p[1] - q[1]) > 12 for q in taken)]
    return (free or places)[0]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    drawing = _figure(width, height)
    return drawing, drawing.subplots()


def _rows(count: int, step: float, rest: float) -> tuple[Figure, Axes]:
    """Axes of `count` rows from top to bottom, each `step` high and 1 in y; rest: height of all else."""
    drawing, axes = _axes(WIDTH, step * count + rest)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks([])
    axes.grid(axis="x")
    return drawing, axes


def _row_label(axes: Axes, y: float, label: str) -> None:
    """Write a row's name at the left edge, over what it covers."""
    place = axes.get_yaxis_transform()
    axes.text(0, y, visible(label), transform=place, va="center", in_layout=False, gid=HALO)


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """Scale x from low to high, above 0, with round ticks."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator(round_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def round_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times the powers of ten in a range; other round values where that gives fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 1:
        return inside
    return [float(tick) for tick in MaxNLocator(5, steps=STEPS).tick_values(low, high) if low <= tick <= high]
