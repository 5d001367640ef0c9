"""Text for people: names and texts of files are shown so that they cannot steer a terminal or pretend to be a line."""

from __future__ import annotations

import re
import sys

# Control characters (C0, DEL, C1), line and paragraph separators, bidirectional overrides, lone surrogates.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """The text on one line, every character that steers a terminal written as an escape such as \\x1b or \\n."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def visible_lines(text: str) -> str:
    """Text of several lines of ours, all else in it visible."""
    return "\n".join(visible(line) for line in text.split("\n"))


def say(line: object = "") -> None:
    """Print one line of results on standard output."""
    print(visible(line), flush=True)


def escape_unprintable() -> None:
    """Characters that the terminal's encoding lacks are printed as escapes from now on, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
