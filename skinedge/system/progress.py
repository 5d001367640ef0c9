"""Progress bars and notes on standard error, so that results on standard output can be piped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from skinedge.core.terminal import visible

_silent = False


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
    """Print one line."""
    if not _silent:
        print(visible(text), file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(title: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a progress bar with rate and time left; yields a function that advances it by a number of units.

    Shown only on a terminal: in a log file, the lines of `note` are more useful.
    """
    if _silent or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(*columns, Rate(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(visible(title)), total=total)
        yield lambda amount: progress.advance(task, amount)
