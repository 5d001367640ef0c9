"""Content of a report, independent of the format that it is written in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from skinedge_bench.evaluate.tables import Table
from skinedge_bench.report.charts import Distributions, Estimates, LearningCurves, ReliabilityDiagram, RocCurve
from skinedge_bench.report.pareto import Pareto

Chart: TypeAlias = LearningCurves | RocCurve | ReliabilityDiagram | Estimates | Distributions | Pareto


@dataclass(frozen=True)
class Text:
    """A plain paragraph."""

    text: str


@dataclass(frozen=True)
class Missing:
    """A result that the run does not have, and the command that makes it."""

    what: str
    command: str


@dataclass(frozen=True)
class Tile:
    """One headline figure: its name, its value as text (None: undefined), and a note on it."""

    name: str
    value: str | None
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    """A row of tiles."""

    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Heatmap:
    """A table whose cells, except the first of each row, are shaded. shares: (rows, columns - 1) in 0..1."""

    table: Table
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Charts:
    """Charts, side by side where the page has room. min_width: of each, in rem."""

    charts: tuple[Chart, ...]
    min_width: int = 22


@dataclass(frozen=True)
class Card:
    """A part of the model card, in the Markdown that `skinedge.run.model_card` writes."""

    markdown: str


@dataclass(frozen=True)
class Picture:
    """An image with its heatmap. jpeg: both, side by side; alt: text alternative; caption: lines below it."""

    jpeg: bytes
    alt: str
    caption: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    """A row of pictures."""

    pictures: tuple[Picture, ...]


Block: TypeAlias = Text | Missing | Tiles | Table | Heatmap | Charts | Card | Pictures


@dataclass(frozen=True)
class Section:
    """A section of the report: heading and blocks."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """notice: that it is no medical device; warnings: what to know before the figures.

    clinical: sections for who uses the predictions; technical: for who makes the files, folded on the page.
    """

    title: str
    notice: str
    warnings: tuple[str, ...]
    clinical: tuple[Section, ...]
    technical: tuple[Section, ...]


PARTS = ("Part 1: for clinicians", "Part 2: for engineers")
