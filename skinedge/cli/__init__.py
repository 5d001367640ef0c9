"""The command line: a thin Typer shell; each command parses, calls one function and prints one result."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from skinedge.cli.app import Unexpected, app
from skinedge.core import remarks
from skinedge.core.errors import SkinedgeError
from skinedge.core.terminal import coloured, escape_unprintable, visible
from skinedge.run import crash_report
from skinedge.system import signals
from skinedge.system.cpu import limit_threads
from skinedge.system.progress import note, set_level
from skinedge.training.distributed import Dismissed

__all__ = ["app", "main", "process"]


def process() -> NoReturn:
    """Run the command as its own process, and skip interpreter teardown (saves about 2 s after importing torch)."""
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
        except OSError as error:  # closed pipe, or full disk
            if not code:  # else its error is printed already
                os.write(2, f"error: output was truncated ({error.strerror})\n".encode())
            code = code or 1
    os._exit(code if isinstance(code, int) else 1)


def main() -> None:
    """Run the command. Failures print readable lines on standard error and exit with 1; Ctrl-C exits with 130."""
    try:
        escape_unprintable()
        set_level("normal")
        limit_threads()
        try:
            app()
        finally:
            for line in remarks.lines(remarks.take()):
                note(line)
    except KeyboardInterrupt:  # while Typer reads the command line; later it handles Ctrl-C itself
        sys.exit(130)
    except Dismissed as dismissed:
        sys.exit(dismissed.code)
    except SkinedgeError as error:
        fail("\n".join([str(error), *crash_report.notes(error)]))
    except OSError as error:
        fail(visible(error))
    except ImportError as error:
        fail(describe_import_error(error))
    except Unexpected as unexpected:
        fail(crash_report.report(unexpected.error))
    except Exception as error:
        fail(crash_report.report(error))


def describe_import_error(error: ImportError) -> str:
    """Name the package that is missing or incompatible; write a crash report if the module is one of ours."""
    from skinedge.system.requirements import import_failure

    try:
        return str(import_failure(error))
    except ImportError:
        return crash_report.report(error)


def fail(text: str) -> NoReturn:
    """Print an error and exit with 1."""
    print(f"{coloured('error:', 'red', sys.stderr)} {text}", file=sys.stderr)
    sys.exit(1)
