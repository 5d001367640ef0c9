"""Print text safely: control characters in file names and contents cannot affect the terminal or fake lines."""

from __future__ import annotations

import re
import sys

# Control characters (C0, DEL, C1), line and paragraph separators, bidirectional overrides, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Return the text as one line, with control characters written as escapes such as \\x1b or \\n."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def visible_lines(text: str) -> str:
    """Escape control characters as `visible` does, but keep line breaks."""
    return "\n".join(visible(line) for line in text.split("\n"))


def say(line: object = "") -> None:
    """Print one line of results on standard output."""
    print(visible(line), flush=True)


def escape_unprintable() -> None:
    """Print characters that the terminal's encoding lacks as escapes, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
