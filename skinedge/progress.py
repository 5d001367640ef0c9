"""What a person sees while work goes on; always on standard error, so that results can be piped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator


def launched() -> tuple[int, int]:
    """(this process's number, how many there are), as torchrun and its like tell them; (0, 1) without a launcher."""
    count = int(os.environ.get("WORLD_SIZE") or 1)
    return (int(os.environ.get("RANK") or 0), count) if count > 1 else (0, 1)


def note(text: str) -> None:
    """Print one line; of several processes, the first one speaks."""
    if launched()[0] == 0:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bar(title: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """A progress bar with rate and time left; yields a function that advances it by so many units.

    Shown only on a terminal: a log file is better served by the lines that `note` prints.
    """
    if launched()[0] or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:.1f} {unit}/s")

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(*columns, Rate(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount: progress.advance(task, amount)
