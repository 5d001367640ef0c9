"""The command line: a thin Typer shell; each command parses, calls one function and prints one result."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

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

__all__ = ["app", "main", "process"]


def process() -> NoReturn:
    """The command as a process of its own: when `main` is done nothing is left to do, so Python does not take apart
    every module that was imported, which takes two seconds after torch.
    """
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:  # nobody reads any more, or the disk is full
            code = code or 1
            os.write(2, f"error: what was printed is not whole ({error.strerror})\n".encode())
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """The command: turns what a user can mend into two readable lines and exit code 1 (Ctrl-C is 130)."""
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
    except ImportError as error:
        from skinedge.requirements import import_failure

        print(f"error: {import_failure(error)}", file=sys.stderr)
        sys.exit(1)
