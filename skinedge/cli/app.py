"""The Typer app that the command modules register with."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="skinedge",
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
