"""Temporary folders that a killed process does not leave for ever: the next one that makes one removes them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skinedge.system import owned_folder

PREFIX = "skinedge-tmp-"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A new private folder, removed at the end. parent: where to make it, by default among the temporary files."""
    place = Path(tempfile.gettempdir()) if parent is None else parent
    owned_folder.sweep(place, PREFIX)
    folder = owned_folder.OwnedFolder(place, PREFIX, mode=0o700)
    try:
        yield folder.path
    finally:
        folder.remove()


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries make their temporary files in `folder`, with which they go if this process is killed."""
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
