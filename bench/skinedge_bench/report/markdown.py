"""Write a report as Markdown, for example for a pull request: its text and tables, without charts and images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from skinedge_bench.evaluate.tables import Table, escaped
from skinedge_bench.evaluate.tables import sections as table_sections
from skinedge_bench.report.content import PARTS, Block, Card, Charts, Heatmap, Missing, Pictures, Report, Text, Tiles


def markdown(report: Report) -> str:
    """Write the whole report."""
    parts = [f"# {escaped(report.title)}", f"**{report.notice}**"]
    parts += [f"**{escaped(warning)}**" for warning in report.warnings]
    for title, sections in zip(PARTS, (report.clinical, report.technical), strict=True):
        parts.append(f"# {title}")
        for section in sections:
            parts.append(f"## {escaped(section.title)}")
            parts += [part for block in section.blocks for part in written(block)]
    return "\n\n".join(parts) + "\n"


def summary(report: Report) -> list[str]:
    """Return the lines for a terminal: notice, warnings, and the sentences and figures at the head of each part."""
    lines = [report.notice, *report.warnings]
    for sections in (report.clinical, report.technical):
        for block in sections[0].blocks:
            if isinstance(block, Text):
                lines.append(block.text)
            elif isinstance(block, Tiles):
                lines += [f"{tile.name}: {tile.value or '-'} ({tile.detail})" for tile in block.tiles]
    return lines


@singledispatch
def written(block: Block) -> Iterator[str]:
    """Yield the paragraphs of one block."""
    raise TypeError(f"no Markdown for {type(block).__name__}")


@written.register
def _(block: Text) -> Iterator[str]:
    yield escaped(block.text)


@written.register
def _(block: Missing) -> Iterator[str]:
    yield f"{escaped(block.what)}: `{block.command}`"


@written.register
def _(block: Tiles) -> Iterator[str]:
    yield from written(
        Table("At a glance", ("figure", "value", ""), [[t.name, t.value, t.detail] for t in block.tiles])
    )


@written.register
def _(block: Table) -> Iterator[str]:
    yield from table_sections([block], 3)


@written.register
def _(block: Heatmap) -> Iterator[str]:
    yield from written(block.table)


@written.register
def _(block: Card) -> Iterator[str]:
    yield block.markdown


@written.register(Charts)
@written.register(Pictures)
def _(block: Charts | Pictures) -> Iterator[str]:
    yield from ()
