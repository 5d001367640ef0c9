"""Folders owned by a running process, which holds the lock file inside. Unlocked folders are leftovers.

The operating system releases the lock when the process ends for any reason.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
TOKEN = re.compile(r"[0-9a-f]{8}")
_TRIES = 100


class OwnedFolder:
    """A new folder `parent/PREFIXtoken`, owned by this process until it is removed or released."""

    def __init__(self, parent: Path, prefix: str, mode: int = 0o777) -> None:
        for _ in range(_TRIES):
            path = parent / f"{prefix}{os.urandom(4).hex()}"
            try:
                path.mkdir(mode=mode)
            except FileExistsError:
                continue
            lock = adopt(path)
            if lock is not None:
                self.path, self._lock = path, lock
                return
        raise FileExistsError(f"other processes took all {_TRIES} new folders in {parent}")

    def release(self) -> None:
        """Give up ownership and keep the folder, which is then a leftover."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder and its content, as far as possible; ignores disk errors."""
        remove(self.path, self._lock)


def adopt(folder: Path) -> BaseFileLock | None:
    """Lock a folder without an owner; None if it has one, or no longer exists."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError, FileExistsError, IsADirectoryError):
        # FileLock recreates a folder that another process removed; a `.lock` that is a folder is not from this module
        return None
    return lock


def remove(folder: Path, lock: BaseFileLock) -> None:
    """Remove an owned folder, its lock file last, so that no other process treats it as a leftover.

    Windows cannot remove an open file, so there the lock is released first.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != LOCK:
                Path(entry.path).unlink(missing_ok=True)
    if os.name == "nt":
        lock.release()
    with contextlib.suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()
    lock.release()


def has_token(name: str, prefix: str) -> bool:
    """Return True for a folder name created by this module; other `PREFIX*` folders may be the user's."""
    return name.startswith(prefix) and TOKEN.fullmatch(name.removeprefix(prefix)) is not None


def sweep(parent: Path, prefix: str) -> None:
    """Remove this user's folders `parent/PREFIXtoken` that have no owner."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(parent)):
            if has_token(entry.name, prefix) and _is_own_folder(entry):
                with contextlib.suppress(OSError):
                    lock = adopt(Path(entry.path))
                    if lock is not None:
                        remove(Path(entry.path), lock)


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    if not entry.is_dir(follow_symlinks=False):
        return False
    return os.name == "nt" or entry.stat(follow_symlinks=False).st_uid == os.getuid()
