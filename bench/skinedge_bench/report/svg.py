"""Pieces of inline SVG: scales, axes, lines, marks. Colours come from the page's style sheet, by class.

Lengths are units of the view box, which are about pixels. Text from outside goes through `text`, which escapes it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
TICK = 45  # units that a tick needs


@dataclass(frozen=True)
class Scale:
    """Values from low to high on a line from start to end."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, multiples of 1, 2 or 5 times a power of ten: no more than there is room for."""
        most = min(6, max(2, abs(self.end - self.start) / TICK))
        power = 10 ** math.floor(math.log10((self.high - self.low) / most))
        step = next(s * power for s in (1, 2, 5, 10, 20) if (self.high - self.low) / (s * power) <= most)
        first = math.ceil(round(self.low / step, 6))
        return [step * k for k in range(first, math.floor(round(self.high / step, 6)) + 1)]


@dataclass(frozen=True)
class LogScale(Scale):
    """The same for logarithms; low is above 0."""

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """1, 2 and 5 times the powers of ten; of a range without two of them, round values."""
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
        inside = [tick for tick in found if self.low <= tick <= self.high]
        return inside if len(inside) > 1 else super().ticks()


@dataclass(frozen=True)
class Frame:
    """Two scales; y rises upwards."""

    width: float
    height: float
    x: Scale
    y: Scale

    def point(self, x: float, y: float) -> Point:
        return self.x.at(x), self.y.at(y)


def drawing(width: float, height: float, says: str, *parts: str) -> str:
    """The <svg>; says: its text for who does not see it."""
    box = f"0 0 {number(width)} {number(height)}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(says)}">{"".join(parts)}</svg>'


def axes(frame: Frame, x_title: str, y_title: str) -> str:
    """Grid lines, numbers beside them, and what they are."""
    x, y = frame.x, frame.y
    parts = [line([(x.start, y.at(tick)), (x.end, y.at(tick))], "grid") for tick in y.ticks()]
    parts += [text(x.start - 6, y.at(tick) + 4, label, "tick end") for tick, label in labelled(y)]
    parts += [text(x.at(tick), y.start + 17, label, "tick middle") for tick, label in labelled(x)]
    parts += [line([(x.start, y.start), (x.end, y.start)], "axis")]
    parts += [text((x.start + x.end) / 2, y.start + 35, x_title, "title middle")]
    parts += [text(x.start, y.end - 10, y_title, "title")]
    return "".join(parts)


def line(points: Sequence[Point], kind: str) -> str:
    """A line through the points. kind: its classes."""
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return f'<path class="line {kind}" d="{path}"/>'


def area(points: Sequence[Point], kind: str) -> str:
    """A filled outline."""
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return f'<path class="area {kind}" d="{path}Z"/>'


def bar(x: float, y: float, width: float, height: float, kind: str) -> str:
    size = f'width="{number(max(width, 0))}" height="{number(max(height, 0))}"'
    return f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" {size}/>'


def text(x: float, y: float, label: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{number(x)}" y="{number(y)}">{escape(label)}</text>'


def dot(at: Point, kind: str, radius: float = 4) -> str:
    return f'<circle class="point {kind}" cx="{number(at[0])}" cy="{number(at[1])}" r="{number(radius)}"/>'


def square(at: Point, kind: str, radius: float = 4) -> str:
    return bar(at[0] - radius, at[1] - radius, 2 * radius, 2 * radius, f"point {kind}")


def diamond(at: Point, kind: str, radius: float = 4) -> str:
    (x, y), r = at, radius * 1.35
    path = "".join(
        f"{way}{number(a)} {number(b)}"
        for way, a, b in (("M", x, y - r), ("L", x + r, y), ("L", x, y + r), ("L", x - r, y))
    )
    return f'<path class="point {kind}" d="{path}Z"/>'


def number(value: float) -> str:
    """A length with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def labelled(scale: Scale) -> list[tuple[float, str]]:
    """The ticks with their numbers, all with as many decimals as one of them needs."""
    ticks = [round(tick, 9) for tick in scale.ticks()]
    decimals = max((len(f"{tick:g}".partition(".")[2]) for tick in ticks), default=0)
    return [(tick, f"{tick:.{0 if tick == 0 else decimals}f}") for tick in ticks]
