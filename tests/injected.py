"""Run a function in a forked process and inject a signal or an error at its n-th file system call.

Calls are Python's audit events for paths below a folder, and every fsync.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinedge.core.errors import SkinedgeError
from skinedge.system import signals

EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "os.listdir", "os.truncate")
TRACEBACK = 99  # exit status of a child that ended with an unexpected exception


@dataclass(frozen=True)
class Fault:
    """A signal, or an OSError with `errno`, at call number `at`; lasting: at every later call too."""

    at: int
    signal: int = 0
    errno: int = 0
    lasting: bool = False


def strike(fault: Fault, path: str) -> None:
    if fault.signal:
        os.kill(os.getpid(), fault.signal)
    else:
        raise OSError(fault.errno, os.strerror(fault.errno), path)


def arm(folder: Path, fault: Fault | None, calls: list[str]) -> None:
    """Record this process's file system calls in `calls`, and inject the fault."""
    root, original_fsync = str(folder), os.fsync

    def called(name: str, path: str) -> None:
        calls.append(f"{name} {path.removeprefix(root)}")
        if fault is not None and (len(calls) == fault.at or (fault.lasting and len(calls) > fault.at)):
            strike(fault, path)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and isinstance(arguments[0], str | os.PathLike):
            path = os.fspath(arguments[0])
            if isinstance(path, str) and path.startswith(root):
                called(event, path)

    def fsync(descriptor: int) -> None:
        called("fsync", root)
        original_fsync(descriptor)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(hook)


def status_of(action: Callable[[], object]) -> int:
    """Run the action; return its exit status, with the rules of the command line."""
    try:
        action()
    except (SkinedgeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return TRACEBACK
    return 0


def run(action: Callable[[], object], folder: Path, fault: Fault | None = None, log: Path | None = None) -> int:
    """Run the action in a forked process; return its exit status, or minus the number of the signal that ended it.

    log: file for the list of calls.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = TRACEBACK
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals.end_with_cleanup()
        calls: list[str] = []
        arm(folder, fault, calls)
        code = status_of(action)
        if log is not None:
            log.write_text("\n".join(calls))
    os._exit(code)


def calls_of(action: Callable[[], object], folder: Path) -> list[str]:
    """Return the file system calls of an action without a fault."""
    log = folder.with_name(f"{folder.name}.calls")
    assert run(action, folder, log=log) == 0
    return log.read_text().splitlines()
