"""skinedge init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import say
from skinedge.core.errors import ConfigError


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file to write.")] = Path("skinedge.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> None:
    """Write a settings file with every setting, its default and a comment."""
    from skinedge.core.files import write_atomic
    from skinedge.training.config_file import default_config

    if file.exists() and not force:
        raise ConfigError("exists, and may hold your changes", where=str(file), todo="Name another file, or --force.")
    write_atomic(file, default_config())
    say(f"{file}: edit it, then: skinedge run --data DIR --config {file}")
