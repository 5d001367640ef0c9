"""Print text safely: control characters in file names and contents cannot affect the terminal or fake lines."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any, Literal

Colour = Literal["red", "green", "yellow"]
_CODES: dict[Colour, int] = {"red": 31, "green": 32, "yellow": 33}

NOTICE = "Research tool, not a medical device: no output of it is a diagnosis."  # beside every output about an image

# Control characters (C0, DEL, C1), line and paragraph separators, bidirectional overrides, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: object) -> str:
    """Return the text as one line, with control characters written as escapes such as \\x1b or \\n."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def visible_lines(text: str) -> str:
    """Escape control characters as `visible` does, but keep line breaks."""
    return "\n".join(visible(line) for line in text.split("\n"))


def has_colours(stream: Any) -> bool:
    """Return True for a terminal that shows colours; NO_COLOR (https://no-color.org) and TERM=dumb turn them off."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and os.name != "nt" and stream is not None and bool(stream.isatty())


def coloured(text: str, colour: Colour | None, stream: Any) -> str:
    """Return the text in a colour, unchanged where the stream has none. The text must be printable."""
    if colour is None or not has_colours(stream):
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def say(line: object = "", colour: Colour | None = None) -> None:
    """Print one line of results on standard output, on a terminal in `colour`."""
    print(coloured(visible(line), colour, sys.stdout), flush=True)


class _Output(io.FileIO):
    """Standard output whose errors name it: 'No space left on device' does not say where."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def prepare_streams() -> None:
    """Name standard output in errors, and open the null device for every standard stream that the caller has closed.

    Call it before opening any file: the next file would take the closed stream's descriptor, and receive what libraries
    print. A closed standard output stays unwritable, so that a command that cannot print its result fails.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            os.set_inheritable(os.open(os.devnull, flags), True)  # the lowest free descriptor: this one
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    stdout = sys.stdout
    raw = io.BufferedWriter(_Output(1, "w", closefd=False))
    sys.stdout = io.TextIOWrapper(raw, stdout.encoding, stdout.errors, line_buffering=bool(stdout.line_buffering))


def escape_unprintable() -> None:
    """Print characters that the terminal's encoding lacks as escapes, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
