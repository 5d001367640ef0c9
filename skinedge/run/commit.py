"""Commit a stage into a run directory so that an interruption at any instruction loses nothing.

A stage writes into a private folder of the run, `.stage-TOKEN`:

    files/NAME      its files, under their final names
    manifest.json   the run's next manifest
    commit.json     the names to move out of files/, and the names to remove from the run
    .lock           held by the process that writes the stage, while it lives

Renaming that manifest.json over the run's is the commit, the only one: before it the run is as it was and the folder
is a leftover; after it the files are moved to their places by this process or, if it ends, by the next one that opens
the run. So a stage is committed exactly when commit.json is there and the manifest beside it is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from skinedge.core.errors import BundleError
from skinedge.core.files import path_inside, sha256, sync, write_synced
from skinedge.core.json_io import read_json, refusal
from skinedge.run.manifest import MANIFEST, Manifest
from skinedge.system import owned_folder, signals

PREFIX = ".stage-"
JOURNAL = "commit.json"
FILES = "files"
LOCK = ".manifest.lock"
A_DAY = 24 * 3600  # seconds
_OF_EARLIER_VERSIONS = re.compile(r"(.+?)(?:\.[0-9a-f]{8})?\.part(?:\.old)?")
DAMAGED = "Remove its folder; what of the run then has another hash or is missing is made again by its command."
PATIENCE = 60  # seconds; a commit takes milliseconds


@dataclass(frozen=True)
class Journal:
    """commit.json: the names to move out of files/, and those to remove from the run.

    Raises: BundleError when it names the manifest, which only the commit itself replaces.
    """

    moved: tuple[str, ...]
    removed: tuple[str, ...]

    def __post_init__(self) -> None:
        if MANIFEST in (*self.moved, *self.removed):
            raise BundleError(f"a journal that names {MANIFEST}")


@contextlib.contextmanager
def manifest_lock(root: Path) -> Iterator[None]:
    """Hold the run's manifest. Raises: BundleError when another process holds it for a minute."""
    from filelock import FileLock, Timeout

    lock = FileLock(root / LOCK, timeout=PATIENCE)
    try:
        lock.acquire()
    except IsADirectoryError:
        raise BundleError("is a folder, and the run is locked by a file of this name", where=str(root / LOCK)) from None
    except Timeout:
        raise BundleError(
            f"another process has been writing to this run for {PATIENCE} s", where=str(root), todo="End it, or wait."
        ) from None
    try:
        yield
    finally:
        lock.release()


def commit(folder: Path, root: Path, manifest: str, journal: Journal) -> None:
    """Make the files of a stage folder part of the run; the manifest lock is held.

    Raises: OSError before the commit: nothing changed. BundleError after it: the next command finishes the move.
    """
    for name in journal.moved:
        _check_free(root, name)
    for name in journal.removed:
        if path_inside(root, name).is_dir():
            raise BundleError("is a folder, and was a file of the run", where=str(root / name), todo="Remove it.")
    write_synced(folder / MANIFEST, manifest)  # before the journal: a journal without it means committed
    write_synced(folder / JOURNAL, json.dumps(asdict(journal)))
    sync(folder)
    with signals.held():
        (folder / MANIFEST).replace(root / MANIFEST)
        try:
            sync(root)
            roll_forward(folder, root)
        except OSError as error:
            raise BundleError(
                f"the stage is complete, but its files could not all be moved into the run ({error.strerror})",
                where=str(root),
                todo="Mend that; the next command that opens the run moves the rest.",
            ) from None


def committed(folder: Path) -> bool:
    """Whether the run's manifest already lists what this stage folder holds."""
    return (folder / JOURNAL).is_file() and not (folder / MANIFEST).exists()


def roll_forward(folder: Path, root: Path) -> None:
    """Move a committed stage's files to their places. Whatever an earlier attempt did is skipped.

    Raises: OSError when the disk refuses; BundleError when the journal is damaged.
    """
    journal = read_json(folder / JOURNAL, Journal, error=refusal("damaged journal", todo=DAMAGED))
    for name in journal.moved:
        new, final = path_inside(folder, f"{FILES}/{name}"), path_inside(root, name)
        if new.exists():
            final.parent.mkdir(parents=True, exist_ok=True)
            new.replace(final)
    for name in journal.removed:
        final = path_inside(root, name)
        if not final.is_dir():  # which somebody else has put there
            final.unlink(missing_ok=True)
    sync(root)
    forget(folder)


def forget(folder: Path) -> None:
    """Make a stage folder a mere leftover. Without this first, removing it could for a moment look like a commit."""
    (folder / JOURNAL).unlink(missing_ok=True)


def recover(root: Path) -> None:
    """Finish the committed stages of processes that ended, and remove what the others left.

    Raises: BundleError when a committed stage cannot be finished, for want of permission for example.
    """
    folders = _folders(root)
    if not folders:
        return
    try:
        with manifest_lock(root):
            settle(root)
    except OSError as error:
        if any(map(committed, folders)):
            raise BundleError(
                f"a command ended before it had moved its files into this run, and they cannot be moved now "
                f"({error.strerror}{_place(error)})",
                where=str(root),
                todo="Open the run once, as with `skinedge report`, where it may be written and the disk has space.",
            ) from None


def _place(error: OSError) -> str:
    name = error.filename2 or error.filename
    return f": {os.fsdecode(name)}" if isinstance(name, str | bytes) else ""


def prepare(root: Path) -> None:
    """Before a stage: what `recover` does, and remove what earlier versions left. Raises: OSError, BundleError."""
    with manifest_lock(root):
        settle(root)
        for folder, folders, names in os.walk(root):  # unlike a glob, it passes over a folder that vanishes meanwhile
            folders[:] = [name for name in folders if not name.startswith(PREFIX)]
            for path in (Path(folder, name) for name in names if name.endswith((".part", ".part.old"))):
                name = _OF_EARLIER_VERSIONS.fullmatch(path.name)
                if name and path.is_file() and time.time() - path.stat().st_mtime > A_DAY:
                    _put_back(path, (path.parent.relative_to(root) / name[1]).as_posix(), root)


def _put_back(leftover: Path, name: str, root: Path) -> None:
    """Remove a leftover of a listed file, or give it its name back where it is that file and that is lost.

    Whatever else ends like this is the user's.
    """
    entries = {file.path: file for stage in Manifest.read(root / MANIFEST).stages.values() for file in stage.files}
    if name in entries and sha256(leftover) == entries[name].sha256:
        leftover.replace(path_inside(root, name))
    elif name in (*entries, MANIFEST):
        leftover.unlink()


def settle(root: Path) -> None:
    """What `recover` does, for who holds the manifest lock.

    A committed folder is finished whoever owns it: its owner moves files under this lock only, so it has ended.
    """
    for folder in _folders(root):
        if committed(folder):
            roll_forward(folder, root)
        lock = owned_folder.adopt(folder)
        if lock is not None:
            try:
                forget(folder)
                owned_folder.remove(folder, lock)
            finally:
                lock.release()


def _folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if owned_folder.has_token(entry.name, PREFIX) and entry.is_dir(follow_symlinks=False)
        )


def _check_free(root: Path, name: str) -> None:
    """Raises: BundleError when a folder has the name of a file to write, or a file that of its folder."""
    final = path_inside(root, name)
    if final.is_dir():
        raise BundleError("is a folder, and a file of this name is to be written", where=str(final))
    for parent in final.relative_to(root).parents:
        if (root / parent).exists() and not (root / parent).is_dir():
            raise BundleError("is a file, and a folder of this name is to be made", where=str(root / parent))
