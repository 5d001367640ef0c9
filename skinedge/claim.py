"""One writer at a time for a file or folder, also where several processes are told to write the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from skinedge.errors import BundleError
from skinedge.files import disk_error


@contextlib.contextmanager
def claimed(path: Path, taken: str) -> Iterator[None]:
    """Hold the name `path`. The folder that it lies in is made, and removed again if it was and nothing came into it.

    Raises: BundleError that says `taken` when another process holds it, or when the folder cannot be made.
    """
    folder = path.parent
    fresh = not folder.exists()
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
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
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        if fresh:
            with contextlib.suppress(OSError):  # it stays where something was made in it
                folder.rmdir()
