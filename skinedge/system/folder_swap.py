"""Put a finished folder in its place in one step, over the older one if need be, and find what a kill left of that."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from skinedge.core.files import sync
from skinedge.system import owned_folder, signals
from skinedge.system.progress import note

_EXCHANGE = {"linux": ("renameat2", -100), "darwin": ("renameatx_np", -2)}  # the C function, and its AT_FDCWD
_SWAP = 2  # RENAME_EXCHANGE, RENAME_SWAP
_RETIRED = re.compile(r"\.replaced-(\d{8}T\d{6}-)?[0-9a-f]{8}")


@contextlib.contextmanager
def new_folder(to: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill; at the end it becomes `to`, or on an error leaves nothing.

    replace: take the place of a folder that is there; else that must be empty.
    Raises: OSError when the disk refuses, or there is something at `to`.
    """
    to = to.resolve()  # '.' has no name that another could stand beside
    to.parent.mkdir(parents=True, exist_ok=True)
    recover(to)
    building = owned_folder.OwnedFolder(to.parent, _prefix(to))
    try:
        content = building.path / to.name
        content.mkdir()
        yield content
        put_in_place(content, to, replace=replace)
    finally:
        building.remove()


def put_in_place(content: Path, to: Path, *, replace: bool) -> None:
    """Rename a folder to `to`. What was there before, with `replace`, is then at `content`, or removed."""
    if to.is_dir() and not any(to.iterdir()):
        if os.name == "nt":
            to.rmdir()
        content.rename(to)
    elif not (replace and to.exists()):
        if to.exists():
            raise FileExistsError(f"{to} has come into being meanwhile")
        content.rename(to)
    elif not _exchange(content, to):
        retired = to.with_name(f"{to.name}.replaced-{secrets.token_hex(4)}")
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
    except OSError as error:  # too late to be a failure: what was there before is gone
        note(f"warning: {to} is in its place, but a power failure now may undo that ({error.strerror})")


def recover(to: Path) -> None:
    """After a kill: give `to` its older folder back where the new one did not arrive, and remove leftovers.

    A command calls this before it looks whether `to` exists.
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
            note(f"{to}: put back, after a command that was to replace it had been killed")
    owned_folder.sweep(to.parent, _prefix(to))


def _prefix(to: Path) -> str:
    return f".{to.name}.new-"


def _quoted(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the system or the file system cannot."""
    name, here = _EXCHANGE.get(sys.platform, ("", 0))
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None) if name else None
    if function is None:
        return False
    sys.audit("os.rename", str(first), str(second), -1, -1)
    paths = [ctypes.c_char_p(os.fsencode(path)) for path in (first, second)]
    return bool(function(here, paths[0], here, paths[1], ctypes.c_uint(_SWAP)) == 0)
