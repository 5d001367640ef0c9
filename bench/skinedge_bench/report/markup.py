"""Render the model card's Markdown as HTML: no raw HTML, links or images, whatever the text holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

RULES = ("heading", "list", "table", "fence", "emphasis", "backticks", "escape", "newline")
# A number with its exponent, range, fraction or per cent sign, in escaped text.
NUMBER = re.compile(r"(?<![\w.#])[-+]?\d[\d.,]*(?:(?:e[-+]|[-/])\d[\d.,]*| %)+")
SCROLL = '<div class="scroll" role="region" aria-label="Table" tabindex="0">'


def html(markdown: str) -> str:
    """Render headings, paragraphs, lists, tables, code and emphasis; escape all else."""
    return str(_parser().render(markdown))


def unbroken(text: str) -> str:
    """Escape a text, and keep each number of several parts on one line."""
    return NUMBER.sub(r'<span class="number">\g<0></span>', escape(text))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("zero", {"breaks": True, "html": False}).enable(list(RULES))
    parser.add_render_rule("table_open", _open_table)
    parser.add_render_rule("table_close", _close_table)
    parser.add_render_rule("th_open", _open_heading)
    parser.add_render_rule("fence", _code)
    parser.add_render_rule("text", _text)
    return parser


def _open_table(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return f"{SCROLL}<table>\n"


def _close_table(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return "</table></div>\n"


def _open_heading(_renderer: RendererHTML, _tokens: Sequence[Token], _index: int, _options: Any, _env: Any) -> str:
    return '<th scope="col">'


def _text(_renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return unbroken(tokens[index].content)


def _code(_renderer: RendererHTML, tokens: Sequence[Token], index: int, _options: Any, _env: Any) -> str:
    return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'
