"""Escape CSV cells that a spreadsheet would evaluate as a formula."""

from __future__ import annotations

import re

# Starts of formulas (OWASP, CSV injection), after any apostrophes, which mark text in a spreadsheet.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_TEXT_PREFIX = "'"


def to_cell(text: str) -> str:
    """Prefix text with an apostrophe if a spreadsheet would evaluate it; `from_cell` reverses this."""
    return _TEXT_PREFIX + text if _FORMULA.match(text) else text


def from_cell(cell: str) -> str:
    """Return the original text of a cell from `to_cell`."""
    return cell[1:] if cell.startswith(_TEXT_PREFIX) and _FORMULA.match(cell) else cell
