"""Lock a file or folder, so that only one process at a time writes it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.core.errors import BundleError
from skinedge.core.files import disk_error

if TYPE_CHECKING:
    from filelock import BaseFileLock


@contextlib.contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """Lock `path`; create its folder, and remove it if it is still empty.

    Raises: BundleError with `message` when another process holds the lock, or for a disk error.
    """
    from filelock import FileLock, Timeout

    folder = path.parent
    is_new = not folder.exists()
    lock = FileLock(lock_file(path), timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BundleError(message, where=str(path)) from None
    except OSError as error:
        raise disk_error(error, path) from None
    try:
        yield
    finally:
        _release(lock)
        if is_new:
            with contextlib.suppress(OSError):  # not empty: keep it
                folder.rmdir()


def lock_file(path: Path) -> Path:
    """Return the path of the lock file of `path`; it exists while locked, and after the owner was killed."""
    return path.with_name(f".{path.name}.lock")


def _release(lock: BaseFileLock) -> None:
    """Release a lock and remove its file: remove first, so that no other process can lock a removed file.

    Windows cannot remove an open file: release first there, and keep the file if another process has locked it.
    """
    if os.name == "nt":
        lock.release()
        with contextlib.suppress(PermissionError):
            Path(lock.lock_file).unlink(missing_ok=True)
    else:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
