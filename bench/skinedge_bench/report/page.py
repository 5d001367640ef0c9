"""Write a report as one self-contained HTML page: no network, no script, no font.

Every string that comes from a file is escaped where it is put into the page.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from pathlib import Path
from string import Template

from skinedge import __version__
from skinedge.stats.verdicts import word
from skinedge_bench.evaluate.tables import Cell, Table
from skinedge_bench.report import markup
from skinedge_bench.report.content import (
    PARTS,
    Block,
    Card,
    Chart,
    Charts,
    Heatmap,
    Missing,
    Picture,
    Pictures,
    Report,
    Section,
    Text,
    Tiles,
)
from skinedge_bench.report.svg import svg

HERE = Path(__file__).parent
SIGNS = {"good": "✓", "bad": "✗", "doubt": "?"}  # beside the word: no information is in colour alone
KINDS = {
    **dict.fromkeys((word("pass"), "chosen", "best"), "good"),
    word("fail"): "bad",
    **dict.fromkeys((word("inconclusive"), word("not measured")), "doubt"),
}
VERDICT = re.compile(rf"({'|'.join(sorted(KINDS, key=len, reverse=True))})\b(?! \()(.*)")


def page(report: Report, run: str) -> str:
    """Write the page. run: the run's id."""
    placed = [(f"s{i}", section) for i, section in enumerate((*report.clinical, *report.technical), 1)]
    parts = (placed[: len(report.clinical)], placed[len(report.clinical) :])
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(report.title),
        style=(HERE / "page.css").read_text(encoding="utf-8").strip(),
        notice=escape(report.notice),
        warnings="".join(f'<p class="warning" role="note">{escape(warning)}</p>' for warning in report.warnings),
        contents="".join(map(_contents, PARTS, parts)),
        clinical_title=PARTS[0],
        clinical="\n".join(_section(place, each) for place, each in parts[0]),
        technical_title=escape(f"{PARTS[1]} ({', '.join(section.title for section in report.technical)})"),
        technical="\n".join(_section(place, each) for place, each in parts[1]),
        run=escape(run),
        version=__version__,
    )


def _contents(title: str, sections: Sequence[tuple[str, Section]]) -> str:
    links = "".join(f'<li><a href="#{place}">{escape(each.title)}</a></li>' for place, each in sections)
    return f"<p>{title}</p><ul>{links}</ul>"


def _section(place: str, section: Section) -> str:
    inside = "\n".join(html(block) for block in section.blocks)
    return f'<section id="{place}">\n<h2>{escape(section.title)}</h2>\n{inside}\n</section>'


@singledispatch
def html(block: Block) -> str:
    """Write one block."""
    raise TypeError(f"no HTML for {type(block).__name__}")


@html.register
def _(block: Text) -> str:
    return f"<p>{markup.unbroken(block.text)}</p>"


@html.register
def _(block: Missing) -> str:
    return f'<p class="missing">{escape(block.what)}: <code>{escape(block.command)}</code></p>'


@html.register
def _(block: Tiles) -> str:
    tiles = (
        f"<div><dt>{escape(tile.name)}</dt><dd>{_cell(tile.value)}</dd><dd>{markup.unbroken(tile.detail)}</dd></div>"
        for tile in block.tiles
    )
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


@html.register
def _(block: Table) -> str:
    right = [_numeric([row[i] for row in block.rows]) for i in range(len(block.columns))]
    classes = [' class="n"' if i and numeric else "" for i, numeric in enumerate(right)]
    rows = [
        "".join(f"<td{kind}>{_cell(cell)}</td>" for kind, cell in zip(classes[1:], row[1:], strict=True))
        for row in block.rows
    ]
    return _table(block, classes, rows, "")


@html.register
def _(block: Heatmap) -> str:
    """Frame the diagonal, where prediction and truth agree: no information is in the shade alone."""
    rows = [
        "".join(
            _shaded(cell, share, own=i == index) for i, (cell, share) in enumerate(zip(row[1:], shares, strict=True))
        )
        for index, (row, shares) in enumerate(zip(block.table.rows, block.shares, strict=True))
    ]
    return _table(block.table, [""] * len(block.table.columns), rows, ' class="heat"')


@html.register
def _(block: Charts) -> str:
    return f'<div class="charts" style="--least:{block.min_width}rem">{"".join(map(_chart, block.charts))}</div>'


@html.register
def _(block: Card) -> str:
    return f"<div>{markup.html(block.markdown)}</div>"


@html.register
def _(block: Pictures) -> str:
    return f'<div class="pictures">{"".join(map(_picture, block.pictures))}</div>'


def _chart(chart: Chart) -> str:
    return f"<figure><figcaption>{escape(chart.title)}</figcaption>{svg(chart)}</figure>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.jpeg).decode()
    caption = "<br>".join(map(markup.unbroken, picture.caption))
    image = f'<img alt="{escape(picture.alt)}" src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(table: Table, classes: Sequence[str], rows: Sequence[str], kind: str) -> str:
    """Write a table. rows: the cells of each row except the first, as HTML; kind: the table's attributes."""
    title, heads = escape(table.title), zip(classes, table.columns, strict=True)
    head = "".join(f'<th scope="col"{style}>{_head(column)}</th>' if column else "<td></td>" for style, column in heads)
    body = "".join(
        f'<tr><th scope="row">{_head(row[0])}</th>{cells}</tr>' for row, cells in zip(table.rows, rows, strict=True)
    )
    inside = f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return (
        f'<div><h3>{title}</h3><div class="scroll" role="region" aria-label="{title}" tabindex="0">{inside}</div></div>'
    )


def _shaded(cell: Cell, share: float, *, own: bool) -> str:
    kind = ' class="own"' if own else ""
    return f'<td{kind} style="--share:{share:.3f}">{_plain(cell)}<small>{share:.0%}</small></td>'


def _cell(cell: Cell) -> str:
    """Write a cell; a verdict gets its sign and its colour."""
    match = VERDICT.fullmatch(str(cell))
    if match is None:
        return _plain(cell)
    shown, rest = match.groups()
    kind = KINDS[shown]
    sign = f'<span aria-hidden="true">{SIGNS[kind]}</span>'
    return f'<span class="verdict {kind}">{sign} {shown}</span>{markup.unbroken(rest)}'


def _head(cell: Cell) -> str:
    """Write the name of a row or column; a file's name may break at its dots and underscores."""
    return re.sub(r"(?<=\w)([._])(?=[A-Za-z])", r"\1<wbr>", _plain(cell))


def _plain(cell: Cell) -> str:
    return "&ndash;" if cell is None else markup.unbroken(str(cell))


def _numeric(cells: Sequence[Cell]) -> bool:
    return all(str(cell)[:1] in "+-" or str(cell)[:1].isdigit() for cell in cells if cell is not None)
