"""The command line: a thin Typer shell; each command parses, calls one function and prints one result."""

from __future__ import annotations

import sys

from skinedge.cli import bench, data, doctor, evaluate, export, predict, train, verify  # noqa: F401  registers commands
from skinedge.cli.app import app
from skinedge.errors import SkinedgeError

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: turns a SkinedgeError into two readable lines and exit code 1, Ctrl-C into 130."""
    try:
        app()
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
