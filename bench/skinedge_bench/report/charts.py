"""Charts of a report as data, each with a text alternative that holds its numbers; `plots` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skinedge.run.report_schemas import Corner, ReliabilityBin
from skinedge.stats.verdicts import Verdict, word

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line: its name and its (x, y) points, undefined ones left out."""

    name: str
    points: tuple[Point, ...]

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        (first, start), (last, end) = self.points[0], self.points[-1]
        return f"{self.name}: {start:.3f} in epoch {first:g}, {end:.3f} in epoch {last:g}"


@dataclass(frozen=True)
class LearningCurves:
    """Lines over the epochs. best: the epoch whose weights the run keeps, None where unknown."""

    title: str
    series: tuple[Series, ...]
    best: float | None

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        best = "" if self.best is None else f" Kept: epoch {self.best:g}."
        return f"{'; '.join(series.description for series in self.series)}.{best}"


@dataclass(frozen=True)
class RocCurve:
    """Sensitivity over false positive rate.

    corners: images flagged, the last holds all; area: the AUC in words; operating_point: (false positive rate,
    sensitivity) at the decision threshold; small: one of many that stand side by side.
    """

    title: str
    corners: Sequence[Corner]
    area: str
    operating_point: Point | None = None
    small: bool = False

    @property
    def points(self) -> list[Point]:
        """(false positive rate, sensitivity) of each corner."""
        negatives, positives = self.corners[-1]
        return [(corner.negatives / negatives, corner.positives / positives) for corner in self.corners]

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        negatives, positives = self.corners[-1]
        text = f"ROC curve, {self.title}: {self.area}; {positives} positive images, {negatives} negative."
        if self.operating_point is None:
            return text
        rate, sensitivity = self.operating_point
        return f"{text} At the threshold: sensitivity {sensitivity:.3f}, false positive rate {rate:.3f}."


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Accuracy over confidence, and the share of images in each bin. ece: expected calibration error."""

    bins: Sequence[ReliabilityBin]
    ece: float | None
    title: str = "Reliability"

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        error = "" if self.ece is None else f" Expected calibration error {self.ece:.3f}."
        bins = [
            f"confidence {bin_.confidence:.2f}, accuracy {bin_.accuracy:.2f}"
            for bin_ in self.bins
            if bin_.confidence is not None and bin_.accuracy is not None
        ]
        return f"Bars on the diagonal would be perfect.{error} {'; '.join(bins)}."


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, and the verdict of its gate, None without one."""

    name: str
    value: float
    low: float
    high: float
    verdict: Verdict | None = None

    @property
    def word(self) -> str:
        """The verdict as shown, '' without one."""
        return "" if self.verdict is None else word(self.verdict)

    @property
    def description(self) -> str:
        """Return the estimate in words, with its interval."""
        return f"{self.name} {self.value:.4g} ({self.low:.4g} to {self.high:.4g}) {self.word}".strip()


@dataclass(frozen=True)
class Estimates:
    """Values with their 95 % intervals, a row each, beside the limit of their gate."""

    title: str
    rows: tuple[Estimate, ...]
    limit: float
    unit: str

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        rows = "; ".join(row.description for row in self.rows)
        return f"{self.title}, {self.unit}, limit {self.limit:g}: {rows}."


@dataclass(frozen=True)
class Timings:
    """Latency samples of one file in milliseconds, at least one."""

    name: str
    samples: Sequence[float]

    @cached_property
    def inner(self) -> NDArray[np.float64]:
        """The samples without the fastest and the slowest half per cent."""
        samples: NDArray[np.float64] = np.asarray(self.samples, dtype=np.float64)
        low, high = np.quantile(samples, (0.005, 0.995))
        return np.asarray(samples[(samples >= low) & (samples <= high)])

    @cached_property
    def p50_p90(self) -> Point:
        """Median and 90th percentile of all samples."""
        p50, p90 = np.quantile(np.asarray(self.samples, dtype=np.float64), (0.5, 0.9))
        return float(p50), float(p90)

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        p50, p90 = self.p50_p90
        return f"{self.name}: p50 {p50:.2f} ms, p90 {p90:.2f} ms, {len(self.samples)} samples"


@dataclass(frozen=True)
class Distributions:
    """Histograms of latency samples, a row each, on one logarithmic scale; each shows `Timings.inner`."""

    title: str
    rows: tuple[Timings, ...]

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        return f"{self.title}. {'; '.join(row.description for row in self.rows)}."
