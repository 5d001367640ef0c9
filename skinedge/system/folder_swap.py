"""Replace a folder atomically, and recover from a replacement that was killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from skinedge.core.files import sync
from skinedge.system import owned_folder, signals
from skinedge.system.progress import note

_EXCHANGE = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}  # C function, AT_FDCWD
_SWAP = 2  # RENAME_EXCHANGE, RENAME_SWAP
_RETIRED = re.compile(r"\.replaced-(\d{8}T\d{6}-)?[0-9a-f]{8}")


@contextlib.contextmanager
def new_folder(to: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to `to` on success, remove it on an error.

    replace: replace an existing folder; if False, that must be empty.
    Raises: OSError for a disk error, or when `to` exists and is not empty.
    """
    to = to.resolve()  # '.' has no name, which the temporary folder's name needs
    to.parent.mkdir(parents=True, exist_ok=True)
    recover(to)
    temporary = owned_folder.OwnedFolder(to.parent, _prefix(to))
    try:
        content = temporary.path / to.name
        content.mkdir()
        yield content
        put_in_place(content, to, replace=replace)
    finally:
        temporary.remove()


def put_in_place(content: Path, to: Path, *, replace: bool) -> None:
    """Rename a folder to `to`. With `replace`, the previous folder is moved to `content` or removed."""
    if to.is_dir() and not any(to.iterdir()):
        if os.name == "nt":
            to.rmdir()
        content.rename(to)
    elif not (replace and to.exists()):
        if to.exists():
            raise FileExistsError(f"{to} was created in the meantime")
        content.rename(to)
    elif not _exchange(content, to):
        retired = to.with_name(f"{to.name}.replaced-{os.urandom(4).hex()}")
        with signals.held():
            to.rename(retired)
            try:
                content.rename(to)
            except OSError:
                retired.rename(to)
                raise
        shutil.rmtree(retired, ignore_errors=True)
    try:
        sync(to.parent)
    except OSError as error:  # only a warning: the folder is already replaced
        note(f"warning: {to} is written, but a power failure now may undo that ({error.strerror})")


def recover(to: Path) -> None:
    """Clean up after a killed replacement: restore the previous folder if `to` is missing, and remove leftovers.

    Call it before checking whether `to` exists.
    """
    to = to.resolve()
    if not to.parent.is_dir():
        return
    for path in sorted(to.parent.glob(f"{_quoted(to.name)}.replaced-*")):
        if not _RETIRED.fullmatch(path.name.removeprefix(to.name)) or path.is_symlink():
            continue
        if to.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.rename(to)
            note(f"{to}: restored, because the command that was replacing it was killed")
    owned_folder.sweep(to.parent, _prefix(to))


def _prefix(to: Path) -> str:
    return f".{to.name}.new-"


def _quoted(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders atomically; False if the system or the file system does not support it."""
    name, current_folder = _EXCHANGE.get(sys.platform, ("", 0))
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if name else None
    if function is None:
        return False
    sys.audit("os.rename", str(first), str(second), -1, -1)
    paths = [ctypes.c_char_p(os.fsencode(path)) for path in (first, second)]
    return bool(function(current_folder, paths[0], current_folder, paths[1], ctypes.c_uint(_SWAP)) == 0)
