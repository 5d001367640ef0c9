"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from skinedge_bench.evaluate.tables import Table


@dataclass(frozen=True)
class Text:
    """A plain paragraph."""

    text: str


@dataclass(frozen=True)
class Missing:
    """What nobody reported yet, and the command that does."""

    what: str
    command: str


@dataclass(frozen=True)
class Tile:
    """One figure that matters: its name, its value as text (None: undefined), and what to know about it."""

    name: str
    value: str | None
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Heatmap:
    """A table whose cells, but for the first of each row, are shaded. shares: (rows, columns - 1) in 0..1."""

    table: Table
    shares: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Chart:
    """A drawing. svg: an <svg> element; says: what it shows, with the numbers, for who does not see it."""

    title: str
    svg: str
    says: str


@dataclass(frozen=True)
class Charts:
    """Drawings that stand side by side where there is room; least: width of each, in rem."""

    charts: tuple[Chart, ...]
    least: int = 22


@dataclass(frozen=True)
class Card:
    """A piece of the model card, in the Markdown that `skinedge.run.model_card` writes."""

    markdown: str


@dataclass(frozen=True)
class Picture:
    """An image with its map. jpeg: the two side by side; says: what it shows; caption: the lines below."""

    jpeg: bytes
    says: str
    caption: tuple[str, ...]


@dataclass(frozen=True)
class Pictures:
    pictures: tuple[Picture, ...]


Block: TypeAlias = Text | Missing | Tiles | Table | Heatmap | Charts | Card | Pictures


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Report:
    """notice: that it is no medical device; warnings: what a reader must know before the figures."""

    title: str
    notice: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
