"""Write the files of one stage into a run directory: all of them and the manifest entry, or none."""

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
    """Collects a stage's files; handed out by `Bundle.stage`."""

    def __init__(self, root: Path, made_by: str, made_from: dict[str, str]) -> None:
        self._root = root
        self._made_by = made_by
        self._made_from = made_from
        self._folder = OwnedFolder(root, commit.PREFIX)
        self._info: dict[str, dict[str, Any]] = {}
        self._changes: dict[str, Any] = {}
        self._removed: set[str] = set()

    def path(self, name: str, **info: Any) -> Path:
        """Where to write the file `name`: in the stage's private folder, until the stage is committed."""
        path_inside(self._root, name)
        self._info[name] = info
        pending = self._pending(name)
        pending.parent.mkdir(parents=True, exist_ok=True)
        return pending

    def describe(self, name: str, **info: Any) -> None:
        """Add to the manifest entry of a pending file."""
        self._info[name].update(info)

    def set(self, **changes: Any) -> None:
        """Change fields of the manifest (default_file, thresholds, ...) together with the stage."""
        self._changes.update(changes)

    def remove(self, *names: str) -> None:
        """Take files of any stage out of the run. A file that this stage writes itself stays."""
        self._removed.update(names)

    def commit(self, stage: str) -> None:
        """Add the stage to the manifest and move its files to their places; see `skinedge.run.commit`.

        Raises: BundleError when the stage did not write a file that it announced; OSError when the disk refuses.
            Nothing in the run has changed then.
        """
        entries = tuple(self._entry(name, info) for name, info in self._info.items())
        journal = commit.Journal(tuple(self._info), tuple(sorted(self._removed - set(self._info))))
        with commit.manifest_lock(self._root):
            commit.settle(self._root)
            manifest = self._next_manifest(stage, entries)
            commit.commit(self._folder.path, self._root, manifest_text(manifest), journal)

    def _next_manifest(self, stage: str, entries: tuple[FileEntry, ...]) -> Manifest:
        """The run's manifest with this stage, without the removed files and the stages that are left empty."""
        current = Manifest.read(self._root / MANIFEST)
        kept = {
            name: replace(done, files=tuple(file for file in done.files if file.path not in self._removed))
            for name, done in current.stages.items()
        }
        kept = {name: done for name, done in kept.items() if done.files or not current.stages[name].files}
        return replace(current, stages={**kept, stage: Stage(now(), entries)}, **self._changes)

    def _pending(self, name: str) -> Path:
        return self._folder.path / commit.FILES / name

    def _entry(self, name: str, info: dict[str, Any]) -> FileEntry:
        pending = self._pending(name)
        if not pending.is_file():
            raise BundleError(f"the stage did not write '{name}'", where=str(self._root))
        sync(pending)
        return FileEntry(name, sha256(pending), pending.stat().st_size, self._made_by, self._made_from, info)

    def discard(self) -> None:
        """Remove the private folder, unless it is committed and holds files that are still to be moved."""
        try:
            if not commit.committed(self._folder.path):
                commit.forget(self._folder.path)
                self._folder.remove()
        finally:
            self._folder.release()
