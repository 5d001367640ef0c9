"""Whether another benchmark runs on this machine at the same time, by one lock for each user."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skinedge.progress import note

LOCK, HOLDER, MET = "bench.lock", "bench.holder", "bench.met"


class Others:
    """The benchmarks that this one met, in words; to be asked when the timings are over."""

    def __init__(self, folder: Path, holder: str | None) -> None:
        self._folder = folder
        self._holder = holder  # None: the lock is ours

    def met(self) -> tuple[str, ...]:
        if self._holder is not None:
            return (self._holder,)
        return tuple(dict.fromkeys(_read(self._folder / MET).splitlines()))


@contextlib.contextmanager
def watched(folder: Path | None = None) -> Iterator[Others]:
    """Hold this user's lock while the block runs; where another process holds it, say so on screen and go on.

    The one who comes second writes itself down, so that the first one knows as well.
    folder: of the lock; default: one for this user in the temporary folder.
    """
    from filelock import FileLock, Timeout

    place = folder or Path(tempfile.gettempdir()) / f"skinedge-{_user()}"
    lock, me = FileLock(place / LOCK), f"process {os.getpid()} ({Path(sys.argv[0]).name})"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        holder = _read(place / HOLDER) or "a process that does not say which"
        _write(place / MET, f"{me}\n", "a")
        note(f"another benchmark is running, {holder}: neither result is to be trusted")
        yield Others(place, holder)
        return
    except OSError as error:
        note(f"whether another benchmark is running cannot be told: {error}")
        yield Others(place, None)
        return
    try:
        (place / MET).unlink(missing_ok=True)
        _write(place / HOLDER, me, "w")
        yield Others(place, None)
    finally:
        (place / HOLDER).unlink(missing_ok=True)
        lock.release()


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _write(path: Path, text: str, mode: str) -> None:
    """What cannot be written, on a full disk, costs the other one a name, and nobody a benchmark."""
    with contextlib.suppress(OSError), path.open(mode, encoding="utf-8") as stream:
        stream.write(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
