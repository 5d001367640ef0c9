"""Render the model card's Markdown as HTML: no raw HTML, links or images, whatever the text holds."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

RULES = ("heading", "list", "table", "fence", "emphasis", "backticks", "escape", "newline")
SCROLL = '<div class="scroll" role="region" aria-label="Table" tabindex="0">'


def html(markdown: str) -> str:
    """Render headings, paragraphs, lists, tables, code and emphasis; escape all else."""
    return str(_parser().render(markdown))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("zero", {"breaks": True, "html": False}).enable(list(RULES))
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)
    parser.add_render_rule("th_open", _open_heading)
    parser.add_render_rule("fence", _code)
    return parser


def _open_table(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return f"{SCROLL}<table>\n"


def _close_table(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return "</table></div>\n"


def _open_heading(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return '<th scope="col">'


def _code(_renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'
