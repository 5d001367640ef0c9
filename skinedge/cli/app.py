"""The Typer app that the command modules register with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from skinedge.core.terminal import visible_lines
from skinedge.system.progress import note


class Unexpected(Exception):
    """Carries an error past Typer, which would take it for the user's wish to end."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Commands(TyperGroup):
    """The commands; what Typer would print raw or swallow is made visible."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _visible():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _visible():
            return super().invoke(ctx)


@contextlib.contextmanager
def _visible() -> Iterator[None]:
    """An EOFError of a reader is a fault; a usage error may quote a file's name."""
    try:
        yield
    except EOFError as error:
        raise Unexpected(error) from error
    except KeyboardInterrupt:
        note("interrupted; train, predict --out and evaluate --out go on where they stopped with --resume")
        raise
    except Exception as error:
        if hasattr(error, "format_message"):
            error.message = visible_lines(error.message)  # type: ignore[attr-defined]
        raise


app = typer.Typer(
    name="skinedge",
    cls=Commands,
    help="From labelled skin images to a verified int8 classifier on a phone or a Raspberry Pi. "
    "Research tool, not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes would double the time to the first line
)
data_app = typer.Typer(
    help="Sample data, checks and summaries of image folders.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")
