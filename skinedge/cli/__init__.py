"""The command line: a thin Typer shell; each command parses, calls one function and prints one result."""

from __future__ import annotations

import sys

from skinedge.cli import (  # noqa: F401  registers commands
    android,
    bench,
    data,
    doctor,
    evaluate,
    explain,
    export,
    predict,
    report,
    ship,
    train,
    verify,
    web,
)
from skinedge.cli.app import app
from skinedge.errors import SkinedgeError
from skinedge.processes import Dismissed

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: turns what a user can mend into two readable lines and exit code 1 (Ctrl-C is 130)."""
    try:
        app()
    except Dismissed as dismissed:
        sys.exit(dismissed.code)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
