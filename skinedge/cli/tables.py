"""Tables on standard output that fit the terminal and never break a number."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skinedge.core.terminal import Colour, has_colours, visible

if TYPE_CHECKING:
    from rich.table import Table

PIPED_WIDTH = 120  # columns where standard output is no terminal
BORDER, LEAST = 3, 8  # characters around a cell; of a column of words that does not fit
GOOD, BAD = ("pass", "passed", "ok"), ("fail", "failed", "problem")
JUDGED = ("verdict", "state", "without images", "on test images")  # columns of verdicts


@dataclass(frozen=True)
class Column:
    """A column. cells: as printed; least: width of its longest word, which is what a number needs."""

    title: str
    cells: tuple[str, ...]
    numeric: bool

    @property
    def full(self) -> int:
        """Width that breaks no line."""
        return max(map(_width, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        """Width that breaks lines at spaces only."""
        return max((_width(word) for text in (self.title, *self.cells) for word in text.split()), default=1)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numeric columns are right-aligned, verdicts coloured on a terminal.

    Where the columns do not fit beside each other, several tables follow, each with the first column.
    """
    from rich.console import Console

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPED_WIDTH
    console = Console(width=width, soft_wrap=False, no_color=not has_colours(sys.stdout))
    contents = [_column(name, [row[index] for row in rows], index > 0) for index, name in enumerate(columns)]
    for number, part in enumerate(parts(contents, width)):
        console.print(_grid(visible(title) if number == 0 else "", part, width))


def parts(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Divide the columns into tables that fit; each begins with the first column."""
    divided: list[list[Column]] = [[columns[0]]]
    for column in columns[1:]:
        if len(divided[-1]) > 1 and sum(one.least + BORDER for one in (*divided[-1], column)) + 1 > width:
            divided.append([columns[0]])
        divided[-1].append(column)
    return divided


def widths(columns: Sequence[Column], width: int) -> list[int]:
    """Return the width of each column: as wide as its text, then narrowed at spaces, last at words without a number."""
    sizes, room = [column.full for column in columns], width - 1 - BORDER * len(columns)
    for limits in ([column.least for column in columns], [_floor(column) for column in columns]):
        while sum(sizes) > room:
            slack = [size - limit for size, limit in zip(sizes, limits, strict=True)]
            widest = max((index for index, left in enumerate(slack) if left > 0), key=lambda i: sizes[i], default=None)
            if widest is None:
                break
            sizes[widest] -= 1
    return sizes


def judged(title: str, cell: str) -> Colour | None:
    """Return the colour of a verdict, None for other cells."""
    if title not in JUDGED or cell == "-":
        return None
    first = cell.partition(",")[0]
    return "green" if first in GOOD else "red" if first in BAD else "yellow"


def _column(title: str, cells: Sequence[object], may_be_numeric: bool) -> Column:
    texts = ["-" if cell is None else visible(cell) for cell in cells]
    given = [text for text, cell in zip(texts, cells, strict=True) if cell is not None]
    return Column(visible(title), tuple(texts), may_be_numeric and all(map(_is_number, given)))


def _is_number(text: str) -> bool:
    return text[:1] in "+-" or text[:1].isdigit()


def _floor(column: Column) -> int:
    words = (word for text in column.cells for word in text.split() if _is_number(word))
    return max(LEAST, *map(_width, words), 0) if not column.numeric else column.least


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _grid(title: str, columns: Sequence[Column], width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=Text(title) if title else None, title_justify="left")
    for column, size in zip(columns, widths(columns, width), strict=True):
        justify = "right" if column.numeric else "left"
        grid.add_column(Text(column.title), justify=justify, overflow="fold", width=size)  # type: ignore[arg-type]
    for index in range(len(columns[0].cells)):
        cells = [(column.cells[index], judged(column.title, column.cells[index])) for column in columns]
        grid.add_row(*(Text(text, style=colour or "") for text, colour in cells))
    return grid
