"""Whether another benchmark runs on this machine at the same time, by one lock for each user.

The lock lies in a folder that only this user can write: in a folder that others share, a symbolic link could lead
every write to one of the user's own files.
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
MOST = 10_000  # characters of a file that names processes


class OtherBenchmarks:
    """The benchmarks that this one met, in words; to be asked when the timings are over."""

    def __init__(self, folder: Path, holder: str | None) -> None:
        self._folder = folder
        self._holder = holder  # None: the lock is ours

    def met(self) -> tuple[str, ...]:
        if self._holder is not None:
            return (self._holder,)
        return tuple(dict.fromkeys(_read(self._folder / MET).splitlines()))


@contextlib.contextmanager
def bench_lock(folder: Path | None = None) -> Iterator[OtherBenchmarks]:
    """Hold this user's lock while the block runs; where another process holds it, say so on screen and go on.

    The one who comes second writes itself down, so that the first one knows as well.
    folder: of the lock; default: `private_folder()`.
    """
    from filelock import FileLock, Timeout

    place = folder or private_folder()
    lock, me = FileLock(place / LOCK), f"process {os.getpid()} ({Path(sys.argv[0]).name})"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        _require_private(place)
        lock.acquire(timeout=0)
    except Timeout:
        holder = _read(place / HOLDER) or "a process that does not say which"
        _write(place / MET, f"{me}\n", os.O_APPEND)
        note(f"another benchmark is running, {holder}: neither result is to be trusted")
        yield OtherBenchmarks(place, holder)
        return
    except OSError as error:
        note(f"whether another benchmark is running cannot be told: {error}")
        yield OtherBenchmarks(place, None)
        return
    try:
        (place / MET).unlink(missing_ok=True)
        _write(place / HOLDER, me, os.O_TRUNC)
        yield OtherBenchmarks(place, None)
    finally:
        (place / HOLDER).unlink(missing_ok=True)
        lock.release()


def private_folder() -> Path:
    """Return the folder of this user's lock: in XDG_RUNTIME_DIR where that is private, else in the temporary folder."""
    named = os.environ.get("XDG_RUNTIME_DIR")
    with contextlib.suppress(OSError):
        if named:
            _require_private(Path(named))
            return Path(named) / "skinedge"
    return Path(tempfile.gettempdir()) / f"skinedge-{_user()}"


def _require_private(folder: Path) -> None:
    """Raises: OSError unless `folder` is a real folder that belongs to this user, and nobody else may use.

    Windows keeps the temporary folder of each user private itself, and has no such modes.
    """
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{folder} is no folder of its own")
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise PermissionError(f"{folder} is not private: it should belong to this user alone, with mode 0700")


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _write(path: Path, text: str, flag: int) -> None:
    """Write a small file, never through a symbolic link.

    What cannot be written, on a full disk, costs the other benchmark a name, and nobody a benchmark.
    """
    flags = os.O_WRONLY | os.O_CREAT | flag | getattr(os, "O_NOFOLLOW", 0)
    with contextlib.suppress(OSError), os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)


def _read(path: Path) -> str:
    """The text of one of the two small files; '' where it cannot be read."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), encoding="utf-8") as stream:
            return stream.read(MOST).strip()
    except (OSError, ValueError):
        return ""
