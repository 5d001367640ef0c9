"""The bench lock: detects concurrent benchmarks of the same user on this machine.

Its folder is writable by this user only: in a shared folder, a symbolic link could redirect writes to the user's files.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skinedge.system.progress import note

LOCK, HOLDER, MET = "bench.lock", "bench.holder", "bench.met"
MOST = 10_000  # characters read from a file of process names


class OtherBenchmarks:
    """The concurrent benchmarks; read `met` after the timings."""

    def __init__(self, folder: Path, holder: str | None) -> None:
        self._folder = folder
        self._holder = holder  # None: the lock is ours

    def met(self) -> tuple[str, ...]:
        """Return a description of each concurrent benchmark."""
        if self._holder is not None:
            return (self._holder,)
        return tuple(dict.fromkeys(_read(self._folder / MET).splitlines()))


@contextlib.contextmanager
def bench_lock(folder: Path | None = None) -> Iterator[OtherBenchmarks]:
    """Hold this user's lock during the block; if another process holds it, print a note and continue.

    The second process appends its name to a file, which the first one reads.
    folder: of the lock; default: `private_folder()`.
    """
    from filelock import FileLock, Timeout

    folder = folder or private_folder()
    lock, me = FileLock(folder / LOCK), f"process {os.getpid()} ({Path(sys.argv[0]).name})"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _require_private(folder)
        lock.acquire(timeout=0)
    except Timeout:
        holder = _read(folder / HOLDER) or "an unnamed process"
        _write(folder / MET, f"{me}\n", os.O_APPEND)
        note(f"another benchmark is running, {holder}: neither result is trustworthy")
        yield OtherBenchmarks(folder, holder)
        return
    except OSError as error:
        note(f"cannot check for concurrent benchmarks: {error}")
        yield OtherBenchmarks(folder, None)
        return
    try:
        (folder / MET).unlink(missing_ok=True)
        _write(folder / HOLDER, me, os.O_TRUNC)
        yield OtherBenchmarks(folder, None)
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def private_folder() -> Path:
    """Return the folder of this user's lock: in XDG_RUNTIME_DIR if private, else in the temporary folder."""
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR")
    with contextlib.suppress(OSError):
        if runtime_folder:
            _require_private(Path(runtime_folder))
            return Path(runtime_folder) / "skinedge"
    return Path(tempfile.gettempdir()) / f"skinedge-{_user()}"


def _require_private(folder: Path) -> None:
    """Raises: OSError unless `folder` is a real folder (no link) with this user as owner and mode 0700.

    On Windows, which has no such modes, each user's temporary folder is private already.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is not a folder")
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise PermissionError(f"{folder} is not private: its owner must be this user, its mode 0700")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _write(path: Path, text: str, flag: int) -> None:
    """Write a small file, never through a symbolic link; ignore failures, such as a full disk."""
    flags = os.O_WRONLY | os.O_CREAT | flag | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError), os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def _read(path: Path) -> str:
    """Return a file's text, never through a symbolic link; '' if it cannot be read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), encoding="utf-8") as stream:
            return stream.read(MOST).strip()
    except (OSError, ValueError):
        return ""
