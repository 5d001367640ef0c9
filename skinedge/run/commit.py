"""Commit a stage into a run directory so that an interruption at any instruction loses nothing.

A stage writes into a private folder of the run, `.stage-TOKEN`:

    files/NAME      the stage's files, under their final names
    manifest.json   the run's next manifest
    commit.json     the journal: names to move out of files/, and names to remove from the run
    .lock           file lock of the process that writes the stage

The commit is a single rename of that manifest.json over the run's. Before it, the run is unchanged and the folder is a
leftover. After it, this process moves the files into the run; if it ends early, the next process that opens the run
does. So a stage is committed exactly when its folder has a commit.json and no manifest.json.
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
LEFTOVER_AGE = 24 * 3600  # seconds until a file of an earlier version counts as abandoned
_PART_FILE = re.compile(r"(.+?)(?:\.[0-9a-f]{8})?\.part(?:\.old)?")
DAMAGED = "Remove its folder, then rerun the commands whose files are missing or have another hash."
LOCK_TIMEOUT = 60  # seconds; a commit takes milliseconds


@dataclass(frozen=True)
class Journal:
    """Contents of commit.json: names to move out of files/, and names to remove from the run.

    Raises: BundleError when it names the manifest, which only the commit itself may replace.
    """

    moved: tuple[str, ...]
    removed: tuple[str, ...]

    def __post_init__(self) -> None:
        if MANIFEST in (*self.moved, *self.removed):
            raise BundleError(f"the journal names {MANIFEST}")


@contextlib.contextmanager
def manifest_lock(root: Path) -> Iterator[None]:
    """Hold the lock of the run's manifest. Raises: BundleError when another process holds it for LOCK_TIMEOUT."""
    from filelock import FileLock, Timeout

    lock = FileLock(root / LOCK, timeout=LOCK_TIMEOUT)
    try:
        lock.acquire()
    except IsADirectoryError:
        raise BundleError("is a folder, but must be the run's lock file", where=str(root / LOCK)) from None
    except Timeout:
        what = f"another process has been writing to this run for {LOCK_TIMEOUT} s"
        raise BundleError(what, where=str(root), todo="End it, or wait.") from None
    try:
        yield
    finally:
        lock.release()


def commit(folder: Path, root: Path, manifest: str, journal: Journal) -> None:
    """Make the files of a stage folder part of the run. The caller holds the manifest lock.

    Raises: OSError before the commit: nothing has changed. BundleError after it: the next command finishes the move.
    """
    for name in journal.moved:
        _check_free(root, name)
    for name in journal.removed:
        if path_inside(root, name).is_dir():
            raise BundleError("is a folder, but was a file of the run", where=str(root / name), todo="Remove it.")
    write_synced(folder / MANIFEST, manifest)  # before the journal: a journal without a manifest means committed
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
                todo="Fix the cause; the next command that opens the run moves the remaining files.",
            ) from None


def committed(folder: Path) -> bool:
    """Return True if the run's manifest already lists the files of this stage folder."""
    return (folder / JOURNAL).is_file() and not (folder / MANIFEST).exists()


def roll_forward(folder: Path, root: Path) -> None:
    """Move a committed stage's files into the run; skip those that an earlier attempt has moved.

    Raises: OSError when a file cannot be moved; BundleError when the journal is damaged.
    """
    journal = read_json(folder / JOURNAL, Journal, error=refusal("damaged journal", todo=DAMAGED))
    for name in journal.moved:
        source, target = path_inside(folder, f"{FILES}/{name}"), path_inside(root, name)
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    for name in journal.removed:
        target = path_inside(root, name)
        if not target.is_dir():  # a folder is not ours
            target.unlink(missing_ok=True)
    sync(root)
    drop_journal(folder)


def drop_journal(folder: Path) -> None:
    """Remove the journal before the rest of a stage folder, so that a half-removed folder never looks committed."""
    (folder / JOURNAL).unlink(missing_ok=True)


def recover(root: Path) -> None:
    """Finish the committed stages of ended processes, and remove their uncommitted ones.

    Raises: BundleError when a committed stage cannot be finished, for example without write permission.
    """
    folders = _stage_folders(root)
    if not folders:
        return
    try:
        with manifest_lock(root):
            recover_locked(root)
    except OSError as error:
        if any(map(committed, folders)):
            raise BundleError(
                f"an interrupted command has not moved all its files into this run, and they cannot be moved now "
                f"({error.strerror}{_path_text(error)})",
                where=str(root),
                todo="Open the run once with write permission and free disk space, for example with `skinedge report`.",
            ) from None


def _path_text(error: OSError) -> str:
    """': PATH' of the file that an operation failed on, '' if unknown."""
    name = error.filename2 or error.filename
    return f": {os.fsdecode(name)}" if isinstance(name, str | bytes) else ""


def prepare(root: Path) -> None:
    """Recover a run before a new stage, and clear leftovers of earlier versions. Raises: OSError, BundleError."""
    with manifest_lock(root):
        recover_locked(root)
        for folder, folders, names in os.walk(root):  # unlike a glob, it tolerates folders that vanish meanwhile
            folders[:] = [name for name in folders if not name.startswith(PREFIX)]
            for path in (Path(folder, name) for name in names if name.endswith((".part", ".part.old"))):
                match = _PART_FILE.fullmatch(path.name)
                if match and path.is_file() and time.time() - path.stat().st_mtime > LEFTOVER_AGE:
                    _restore_or_remove(path, (path.parent.relative_to(root) / match[1]).as_posix(), root)


def _restore_or_remove(leftover: Path, name: str, root: Path) -> None:
    """Rename a leftover with the hash of the listed file `name` to that name; remove other leftovers of listed files.

    Files that the manifest does not list belong to the user and stay.
    """
    entries = {file.path: file for stage in Manifest.read(root / MANIFEST).stages.values() for file in stage.files}
    if name in entries and sha256(leftover) == entries[name].sha256:
        leftover.replace(path_inside(root, name))
    elif name in (*entries, MANIFEST):
        leftover.unlink()


def recover_locked(root: Path) -> None:
    """Recover a run whose manifest lock the caller holds; see `recover`.

    A committed folder always belongs to an ended process, because its owner moves the files under this lock.
    """
    for folder in _stage_folders(root):
        if committed(folder):
            roll_forward(folder, root)
        lock = owned_folder.adopt(folder)
        if lock is not None:
            try:
                drop_journal(folder)
                owned_folder.remove(folder, lock)
            finally:
                lock.release()


def _stage_folders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if owned_folder.has_token(entry.name, PREFIX) and entry.is_dir(follow_symlinks=False)
        )


def _check_free(root: Path, name: str) -> None:
    """Check that `name` can be written. Raises: BundleError when it is a folder, or its folder is a file."""
    target = path_inside(root, name)
    if target.is_dir():
        raise BundleError("is a folder, but the run needs a file of this name", where=str(target))
    for parent in target.relative_to(root).parents:
        if (root / parent).exists() and not (root / parent).is_dir():
            raise BundleError("is a file, but the run needs a folder of this name", where=str(root / parent))
