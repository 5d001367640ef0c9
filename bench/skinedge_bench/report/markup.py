"""HTML of the Markdown that the model card is written in: headings of the third
level, paragraphs, lists, tables, code, bold, slanted; nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import groupby


def html(markdown: str) -> str:
    """Everything in it is escaped first, so that no tag comes from the text."""
    parts = []
    for index, piece in enumerate(re.split(r"^```\w*\n(.*?)\n```$", markdown, flags=re.DOTALL | re.MULTILINE)):
        if index % 2:
            parts.append(f'<pre tabindex="0"><code>{escape(piece)}</code></pre>')
        else:
            parts += [_paragraph(text.strip().splitlines()) for text in re.split(r"\n\s*\n", piece) if text.strip()]
    return "".join(parts)


def inline(text: str) -> str:
    """Code, bold, slanted and escaped characters of one line."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"<code>{escape(p[1:-1])}</code>" if p[:1] == p[-1:] == "`" and len(p) > 2 else _bold(p) for p in pieces
    )


def _bold(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    slanted = re.sub(r"(?<![\\*\w])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", bold)
    return re.sub(r"\\([\\`*\[\]|]|&lt;)", r"\1", slanted)


def _paragraph(lines: Sequence[str]) -> str:
    parts = []
    for kind, group in groupby(
        lines, key=lambda line: next((k for k in ("- ", "| ", "### ") if line.startswith(k)), "")
    ):
        found = list(group)
        if kind == "### ":
            parts += [f"<h3>{inline(line[4:])}</h3>" for line in found]
        elif kind == "- ":
            parts.append("<ul>" + "".join(f"<li>{inline(line[2:])}</li>" for line in found) + "</ul>")
        elif kind == "| ":
            parts.append(_table(found))
        else:
            parts.append(f"<p>{'<br>'.join(map(inline, found))}</p>")
    return "".join(parts)


def _table(lines: Sequence[str]) -> str:
    head, _, *body = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
    columns = "".join(f'<th scope="col">{inline(cell.strip())}</th>' for cell in head)
    rows = ("".join(f"<td>{inline(cell.strip())}</td>" for cell in row) for row in body)
    lines_html = "".join(f"<tr>{row}</tr>" for row in rows)
    inside = f"<table><thead><tr>{columns}</tr></thead><tbody>{lines_html}</tbody></table>"
    return f'<div class="scroll" role="region" aria-label="Table" tabindex="0">{inside}</div>'
