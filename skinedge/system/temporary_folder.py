"""Temporary folders; creating one also removes those of killed processes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from skinedge.system import owned_folder

PREFIX = "skinedge-tmp-"


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new private folder and remove it on exit. parent: None for the system's temporary folder."""
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    owned_folder.sweep(parent, PREFIX)
    folder = owned_folder.OwnedFolder(parent, PREFIX, mode=0o700)
    try:
        yield folder.path
    finally:
        folder.remove()


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Let libraries create temporary files in `folder`, so that they are removed with it if this process is killed."""
    previous = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = previous
