"""Folders with an owner: the living process that holds the lock inside. A folder that nobody holds is a leftover.

The lock is the operating system's, so it ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
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
            path = parent / f"{prefix}{secrets.token_hex(4)}"
            try:
                path.mkdir(mode=mode)
            except FileExistsError:
                continue
            lock = adopt(path)
            if lock is not None:
                self.path, self._lock = path, lock
                return
        raise FileExistsError(f"every new folder in {parent} was taken by another process")

    def release(self) -> None:
        """Leave the folder as it is, to whoever removes leftovers."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder and its content, as far as the disk lets us."""
        remove(self.path, self._lock)


def adopt(folder: Path) -> BaseFileLock | None:
    """Take a folder that has no living owner; None when it has one, or is gone."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except (Timeout, FileNotFoundError, FileExistsError, IsADirectoryError):
        # FileLock makes the folder again, if another removed it; what has a folder for its lock is none of ours
        return None
    return lock


def remove(folder: Path, lock: BaseFileLock) -> None:
    """Remove an owned folder, its lock last: until then nobody else takes it for a leftover.

    Windows removes no file that is open, so there the lock is released first.
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
    """Whether a folder has a name as this module gives them: another `PREFIX*` may be the user's."""
    return name.startswith(prefix) and TOKEN.fullmatch(name.removeprefix(prefix)) is not None


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders `parent/PREFIXtoken` that have no owner. Those of other users are left alone."""
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
