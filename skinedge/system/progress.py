"""Progress bars and notes on standard error, so that results on standard output can be piped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from skinedge.core.terminal import coloured, visible

Level = Literal["quiet", "normal", "verbose"]

_silent = False
_level: Level = "normal"
_began = time.monotonic()


def set_level(level: Level) -> None:
    """Set how much this process prints: 'quiet' errors and results only, 'verbose' details and elapsed times too."""
    global _level
    _level = level


def is_verbose() -> bool:
    """Return True if the command prints details."""
    return _level == "verbose"


@contextlib.contextmanager
def silenced(silent: bool) -> Iterator[None]:
    """Suppress notes if `silent`: in distributed training, only the main process prints them."""
    global _silent
    previous, _silent = _silent, silent
    try:
        yield
    finally:
        _silent = previous


def note(text: str) -> None:
    """Print one line, unless the command is quiet; a verbose command puts the seconds since its start before it."""
    if _silent or _level == "quiet":
        return
    elapsed = f"[{time.monotonic() - _began:7.2f} s] " if is_verbose() else ""
    print(f"{elapsed}{visible(text)}", file=sys.stderr, flush=True)


def note_error(text: str) -> None:
    """Print an error that does not end the command, quiet or not."""
    print(f"{coloured('error:', 'red', sys.stderr)} {visible(text)}", file=sys.stderr, flush=True)


def rate(completed: float, seconds: float | None) -> float:
    """Return the average rate per second since the start; 0 before anything is done."""
    return completed / seconds if seconds else 0.0


@contextlib.contextmanager
def bar(title: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and time left; yields a function that advances it by a number of units.

    Shown only on a terminal: in a log file, the lines of `note` are more useful.
    """
    if _silent or _level == "quiet" or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{rate(task.completed, task.elapsed):.1f} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(*columns, Rate(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(visible(title)), total=total)
        yield lambda amount: progress.advance(task, amount)
