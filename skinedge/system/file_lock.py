"""One writer at a time for a file or folder, also where several processes are told to write the same."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from skinedge.core.errors import BundleError
from skinedge.core.files import disk_error


@contextlib.contextmanager
def locked(path: Path, taken: str) -> Iterator[None]:
    """Hold the name `path`. The folder that it lies in is made, and removed again if it was and nothing came into it.

    Raises: BundleError that says `taken` when another process holds it, or when the folder cannot be made.
    """
    folder = path.parent
    fresh = not folder.exists()
    lock = FileLock(lock_file(path), timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BundleError(taken, where=str(path)) from None
    except OSError as error:
        raise disk_error(error, path) from None
    try:
        yield
    finally:
        _release(lock)
        if fresh:
            with contextlib.suppress(OSError):  # it stays where something was made in it
                folder.rmdir()


def lock_file(path: Path) -> Path:
    """Where the lock of the name `path` lies while a process holds it, or since one that did was killed."""
    return path.with_name(f".{path.name}.lock")


def _release(lock: BaseFileLock) -> None:
    """Release a lock and remove its file: before the release, so that nobody comes to hold a removed file.

    Windows removes no open file. There it is released first, and stays where another process holds it already.
    """
    if os.name == "nt":
        lock.release()
        with contextlib.suppress(PermissionError):
            Path(lock.lock_file).unlink(missing_ok=True)
    else:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
