"""Generated parts of Markdown pages: the text between two markers."""

from __future__ import annotations

from skinedge.core.errors import SkinedgeError


def replaced(text: str, start: str, end: str, content: str) -> str:
    """Replace the text between the lines `start` and `end`. Raises: SkinedgeError unless each occurs exactly once."""
    before, found_start, rest = text.partition(start)
    _, found_end, after = rest.partition(end)
    if not found_start or not found_end or start in after or end in after:
        raise SkinedgeError("the markers of the generated part are missing", todo=f"Add them: {start} and {end}")
    return f"{before}{start}\n{content}\n{end}{after}"
