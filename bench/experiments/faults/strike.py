"""Log the filesystem calls of a command, or inject a fault at one of them. Runs inside the forked command."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGES = tuple(str(REPOSITORY / name) + os.sep for name in ("skinedge", "export", "bench"))
FRAMES = 3  # innermost frames of our packages that identify a call site
# audit event -> (index of a path, index of the descriptor of the folder that it may be relative to)
EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.rename": ((1, 3), (0, 2)),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.utime": ((0, 3),),
    "shutil.copyfile": ((1, None),),
    "shutil.move": ((1, None),),
    "shutil.rmtree": ((0, None),),
    "shutil.copytree": ((1, None),),
    "tempfile.mkdtemp": ((0, None),),
    "tempfile.mkstemp": ((0, None),),
}
# Functions of os without an audit event; their first argument is a descriptor.
WRAPPED = ("fsync", "write", "posix_fallocate", "fdatasync")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ERRORS = ("ENOSPC", "EACCES", "EIO")
SIGNALS = ("KILL", "TERM", "INT", "HUP")


@dataclass(frozen=True)
class Call:
    """One filesystem call: its event, the path that it changes (relative to the sandbox), and its call site."""

    event: str
    path: str
    site: str


@dataclass(frozen=True)
class Strike:
    """A fault at the `occurrence`-th call from `site`: an error in place of the call, or a signal before it.

    action: a name in ERRORS or SIGNALS; delay: seconds until the signal.
    """

    site: str
    occurrence: int
    action: str
    delay: float = 0.0


class Watcher:
    """Sees each filesystem call below `root`; writes it to `log`, or injects the fault."""

    def __init__(self, root: Path, log: Path, strike: Strike | None) -> None:
        self._root = str(root) + os.sep
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._strike = strike
        self._counts: Counter[str] = Counter()
        self._inside = threading.local()
        self._write = os.write

    def install(self) -> None:
        """Start watching; cannot be undone in this process."""
        for name in WRAPPED:
            setattr(os, name, self._wrapped(getattr(os, name), f"os.{name}"))
        sys.addaudithook(self._hook)

    def _wrapped(self, original: Callable[..., Any], event: str) -> Callable[..., Any]:
        def call(descriptor: int, *arguments: Any) -> Any:
            self._record(event, _path_of(descriptor))
            return original(descriptor, *arguments)

        return call

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in EVENTS or (event == "open" and not arguments[2] & WRITING):
            return
        if getattr(self._inside, "hook", False):
            return
        self._inside.hook = True
        try:
            path = _changed_path(event, arguments, self._root)
        finally:
            self._inside.hook = False
        self._record(event, path)

    def _record(self, event: str, path: str | None) -> None:
        if path is None or not path.startswith(self._root):
            return
        site = f"{event} {_site(sys._getframe(2))}"
        self._counts[site] += 1
        call = Call(event, path.removeprefix(self._root), site)
        if self._strike is None:
            self._write(self._log, json.dumps(asdict(call)).encode() + b"\n")
        elif site == self._strike.site and self._counts[site] == self._strike.occurrence:
            self._write(self._log, json.dumps(asdict(call)).encode() + b"\n")  # proves that the fault was injected
            _act(self._strike, path)


def _act(strike: Strike, path: str) -> None:
    if strike.action in ERRORS:
        code = getattr(errno, strike.action)
        raise OSError(code, os.strerror(code), path)
    number = getattr(signal, f"SIG{strike.action}")
    if strike.delay == 0:
        os.kill(os.getpid(), number)
    else:
        threading.Thread(target=_kill_later, args=[number, strike.delay], daemon=True).start()


def _kill_later(number: int, delay: float) -> None:
    time.sleep(delay)
    os.kill(os.getpid(), number)


def _changed_path(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """Return the absolute path that a call changes: the first one below `root`, else None."""
    for index, folder in EVENTS[event]:
        path = arguments[index]
        if isinstance(path, int):
            path = _path_of(path)
        if not isinstance(path, str | bytes | os.PathLike):
            continue
        name = os.fsdecode(path)
        descriptor = -1 if folder is None or folder >= len(arguments) else arguments[folder]
        if isinstance(descriptor, int) and descriptor >= 0 and not name.startswith(os.sep):
            name = os.path.join(_path_of(descriptor) or "", name)  # noqa: PTH118
        name = os.path.abspath(name)  # noqa: PTH100  resolve() would be a filesystem call too
        if name.startswith(root):
            return name
    return None


def _path_of(descriptor: int) -> str | None:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
    except OSError:
        return None


def _site(frame: FrameType | None) -> str:
    """Return the innermost frames of our packages, as 'skinedge/run/stage.py:71 < export/...'; 'elsewhere' if none."""
    lines: list[str] = []
    while frame is not None and len(lines) < FRAMES:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGES):
            lines.append(f"{os.path.relpath(name, REPOSITORY)}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines) or "elsewhere"
