"""Accuracy beside latency: every file of the run, and of other runs where they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from skinedge_bench.evaluate.tables import Table
from skinedge_bench.report import svg
from skinedge_bench.report.charts import WIDTH, spread
from skinedge_bench.report.content import Chart
from skinedge_bench.report.svg import Frame, LogScale, Scale

SHAPES = {"onnxruntime": svg.dot, "litert": svg.square}  # any other runtime is a diamond


@dataclass(frozen=True)
class Candidate:
    """One file in one runtime. run: '' for the report's own; ms: p50; accuracy: balanced; apart: why it cannot be
    compared with the report's own run, '' where it can; best: nothing is both faster and at least as accurate.
    """

    run: str
    file: str
    runtime: str
    precision: str
    ms: float
    accuracy: float
    size_bytes: int
    apart: str = ""
    best: bool = False

    @property
    def name(self) -> str:
        return f"{self.run}: {self.file}" if self.run else self.file


def judged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The same with `best` set, the fastest first; who stands apart comes last and is none of the best."""
    together = sorted((c for c in candidates if not c.apart), key=lambda c: (c.ms, -c.accuracy))
    found, reached = [], float("-inf")
    for candidate in together:
        found.append(replace(candidate, best=candidate.accuracy > reached))
        reached = max(reached, candidate.accuracy)
    return [*found, *(c for c in candidates if c.apart)]


def table(candidates: Sequence[Candidate]) -> Table:
    """candidates: as `judged` gives them; their numbers are those in the chart."""
    rows = [
        [
            str(number),
            c.name,
            c.runtime,
            f"{c.ms:.2f}",
            f"{c.accuracy:.4f}",
            f"{c.size_bytes / 1e6:.2f}",
            c.apart or ("best" if c.best else "beaten"),
        ]
        for number, c in enumerate(candidates, 1)
    ]
    columns = ("no.", "file", "runtime", "p50 ms", "balanced accuracy", "MB", "accuracy against latency")
    return Table("Every file: accuracy against latency", columns, rows)


def chart(candidates: Sequence[Candidate]) -> Chart:
    """Left and up is better; a line joins the best. Those that stand apart are not drawn."""
    drawn = [(number, c) for number, c in enumerate(candidates, 1) if not c.apart]
    times, shares = [c.ms for _, c in drawn], [c.accuracy for _, c in drawn]
    x = LogScale(min(times) / 1.25, max(times) * 1.25, 52, WIDTH - 12)
    low, high = spread(shares, 0.2)
    if high - low < 0.01:  # thousandths look like thousandths
        low, high = (low + high) / 2 - 0.005, (low + high) / 2 + 0.005
    frame = Frame(WIDTH, 350, x, Scale(low, high, 284, 28))
    parts = [svg.axes(frame, "p50 in milliseconds, logarithmic", "balanced accuracy")]
    best = [frame.point(c.ms, c.accuracy) for _, c in drawn if c.best]
    parts.append(svg.line(_steps(best, x.end), "frontier"))
    taken: list[tuple[float, float]] = []
    for number, c in drawn:
        at = frame.point(c.ms, c.accuracy)
        shape = SHAPES.get(c.runtime, svg.diamond)
        parts.append(shape(at, f"first {'hollow' if c.precision == 'fp32' else ''}", 5.5))
        beside = _free(at, taken)
        parts.append(svg.text(beside[0], beside[1] + 4, str(number), "strong middle" if c.best else "tick middle"))
    key = "circle: ONNX Runtime, square: LiteRT, diamond: PyTorch; hollow: fp32"
    parts.append(svg.text(WIDTH / 2, 343, key, "tick middle"))
    said = "; ".join(f"{c.name} ({c.runtime}) {c.ms:.2f} ms, {c.accuracy:.3f}" for _, c in drawn if c.best)
    says = f"Accuracy against latency of {len(drawn)} files. Nothing is both faster and as accurate as: {said}."
    return Chart("Accuracy against latency", svg.drawing(frame.width, frame.height, says, *parts), says)


def _steps(points: Sequence[svg.Point], end: float) -> list[svg.Point]:
    """The frontier: level until the next better one."""
    steps = [points[0]]
    for x, y in points[1:]:
        steps += [(x, steps[-1][1]), (x, y)]
    return [*steps, (end, steps[-1][1])]


def _free(at: svg.Point, taken: list[svg.Point]) -> svg.Point:
    """A place beside the mark that no other number has yet; it is taken then."""
    around = [(14, 0), (-14, 0), (0, -15), (0, 16), (14, -15), (-14, -15), (14, 16), (-14, 16), (28, 0), (-28, 0)]
    places = [(at[0] + dx, at[1] + dy) for dx, dy in around]
    free = [p for p in places if all(abs(p[0] - q[0]) > 13 or abs(p[1] - q[1]) > 12 for q in taken)]
    taken.append((free or places)[0])
    return taken[-1]
