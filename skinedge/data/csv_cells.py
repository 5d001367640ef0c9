"""Cells of a CSV file that a spreadsheet must not take for a formula."""

from __future__ import annotations

import re

# What spreadsheets evaluate (OWASP, CSV injection), after any apostrophes, which mark text for them.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_MARK = "'"


def to_cell(text: str) -> str:
    """Return `text` with an apostrophe before it where a spreadsheet would evaluate it; `from_cell` gives it back."""
    return _MARK + text if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """Return the text that `to_cell` made a cell of."""
    return cell[1:] if cell.startswith(_MARK) and _FORMULA.match(cell) else cell
