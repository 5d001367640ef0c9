"""Write one stage into a run directory: all its files and the manifest entry, or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import BundleError
from skinedge.core.files import path_inside, sha256, sync
from skinedge.run import commit
from skinedge.run.manifest import MANIFEST, FileEntry, Manifest, Stage, manifest_text, now
from skinedge.system.owned_folder import OwnedFolder


class StageWriter:
    """Collects the files of a stage; yielded by `Bundle.stage`."""

    def __init__(self, root: Path, made_by: str, made_from: dict[str, str]) -> None:
        self._root = root
        self._made_by = made_by
        self._made_from = made_from
        self._folder = OwnedFolder(root, commit.PREFIX)
        self._info: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, Any] = {}
        self._removed: set[str] = set()

    def path(self, name: str, **info: Any) -> Path:
        """Return where to write the file `name`, in the stage's private folder. info: facts for its manifest entry."""
        path_inside(self._root, name)
        self._info[name] = info
        pending = self._pending(name)
        pending.parent.mkdir(parents=True, exist_ok=True)
        return pending

    def describe(self, name: str, **info: Any) -> None:
        """Add facts to the manifest entry of a pending file."""
        self._info[name].update(info)

    def set(self, **changes: Any) -> None:
        """Change manifest fields (default_file, thresholds, ...) when the stage is committed."""
        self._changes.update(changes)

    def remove(self, *names: str) -> None:
        """Remove files of any stage from the run when this stage is committed, except those that it writes."""
        self._removed.update(names)

    def commit(self, stage: str) -> None:
        """Add the stage to the manifest and move its files into the run; see `skinedge.run.commit`.

        Raises: BundleError when an announced file was not written; OSError on a disk error. The run is unchanged then.
        """
        entries = tuple(self._entry(name, info) for name, info in self._info.items())
        journal = commit.Journal(tuple(self._info), tuple(sorted(self._removed - set(self._info))))
        with commit.manifest_lock(self._root):
            commit.recover_locked(self._root)
            manifest = self._next_manifest(stage, entries)
            commit.commit(self._folder.path, self._root, manifest_text(manifest), journal)

    def _next_manifest(self, stage: str, entries: tuple[FileEntry, ...]) -> Manifest:
        """Return the run's manifest with this stage, without removed files and emptied stages."""
        current = Manifest.read(self._root / MANIFEST)
        stages = {
            name: replace(other, files=tuple(file for file in other.files if file.path not in self._removed))
            for name, other in current.stages.items()
        }
        stages = {name: other for name, other in stages.items() if other.files or not current.stages[name].files}
        return replace(current, stages={**stages, stage: Stage(now(), entries)}, **self._changes)

    def _pending(self, name: str) -> Path:
        return self._folder.path / commit.FILES / name

    def _entry(self, name: str, info: dict[str, Any]) -> FileEntry:
        pending = self._pending(name)
        if not pending.is_file():
            raise BundleError(f"the stage did not write '{name}'", where=str(self._root))
        sync(pending)
        return FileEntry(name, sha256(pending), pending.stat().st_size, self._made_by, self._made_from, info)

    def discard(self) -> None:
        """Remove the private folder, unless it is committed and still holds files to move."""
        try:
            if not commit.committed(self._folder.path):
                commit.drop_journal(self._folder.path)
                self._folder.remove()
        finally:
            self._folder.release()
