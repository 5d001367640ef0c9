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
from skinedge.cli.app import Unexpected, app
from skinedge.core.errors import SkinedgeError
from skinedge.core.terminal import escape_unprintable, visible
from skinedge.run import crash_report
from skinedge.system import signals
from skinedge.training.distributed import Dismissed

__all__ = ["app", "main", "process"]


def process() -> NoReturn:
    """The command as a process of its own: when `main` is done nothing is left to do, so Python does not take apart
    every module that was imported, which takes two seconds after torch.
    """
    signals.end_with_cleanup()
    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    signals.end_at_once()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:  # nobody reads any more, or the disk is full
            code = code or 1
            os.write(2, f"error: what was printed is not whole ({error.strerror})\n".encode())
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Run the command. Every failure ends in readable lines on standard error and exit code 1 (Ctrl-C is 130)."""
    try:
        escape_unprintable()
        app()
    except KeyboardInterrupt:  # while Typer reads the command line; later it handles Ctrl-C itself
        sys.exit(130)
    except Dismissed as dismissed:
        sys.exit(dismissed.code)
    except SkinedgeError as error:
        fail("\n".join([str(error), *crash_report.notes(error)]))
    except OSError as error:
        fail(visible(error))
    except ImportError as error:
        fail(explained(error))
    except Unexpected as unexpected:
        fail(crash_report.report(unexpected.error))
    except Exception as error:
        fail(crash_report.report(error))


def explained(error: ImportError) -> str:
    """Which package is missing or does not fit; a crash where the module is one of ours."""
    from skinedge.system.requirements import import_failure

    try:
        return str(import_failure(error))
    except ImportError:
        return crash_report.report(error)


def fail(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr)
    sys.exit(1)
