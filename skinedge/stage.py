"""Write the files of one stage into a run directory: all of them and the manifest entry, or none."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from skinedge.errors import BundleError
from skinedge.files import sha256, write_atomic
from skinedge.manifest import MANIFEST, FileEntry, Manifest, Stage, manifest_text, now


class StageWriter:
    """Collects a stage's files; handed out by `Bundle.stage`."""

    def __init__(self, root: Path, made_by: str, made_from: dict[str, str]) -> None:
        self._root = root
        self._made_by = made_by
        self._made_from = made_from
        self._pending: list[tuple[Path, str, dict[str, Any]]] = []
        self._changes: dict[str, Any] = {}
        self._removed: set[str] = set()

    def path(self, name: str, **info: Any) -> Path:
        """Where to write the file `name` (a `.part` path beside its final place)."""
        final = self._root / name
        final.parent.mkdir(parents=True, exist_ok=True)
        part = final.with_name(f"{final.name}.{secrets.token_hex(4)}.part")
        self._pending.append((part, name, info))
        return part

    def describe(self, name: str, **info: Any) -> None:
        """Add to what the manifest will say of a pending file."""
        for _, pending, known in self._pending:
            if pending == name:
                known.update(info)

    def set(self, **changes: Any) -> None:
        """Change fields of the manifest (default_file, thresholds, ...) together with the stage."""
        self._changes.update(changes)

    def remove(self, *names: str) -> None:
        """Take files, of whatever stage, out of the run: what this stage leaves stands in their place."""
        self._removed.update(names)

    def commit(self, stage: str) -> None:
        """Rename the parts and replace the manifest; on an error in between, all is put back.

        The manifest is on the disk before the first rename, so a full disk strikes before anything moved.
        """
        entries = tuple(self._entry(part, name, info) for part, name, info in self._pending)
        current = Manifest.read(self._root / MANIFEST)
        kept = {
            name: replace(done, files=tuple(file for file in done.files if file.path not in self._removed))
            for name, done in current.stages.items()
        }
        kept = {name: done for name, done in kept.items() if done.files or not current.stages[name].files}
        stages = {**kept, stage: Stage(now(), entries)}
        manifest = self._root / f"{MANIFEST}.part"
        write_atomic(manifest, manifest_text(replace(current, stages=stages, **self._changes)))
        moved: list[tuple[Path, Path]] = []
        try:
            for part, name, _ in self._pending:
                final = self._root / name
                moved.append((final, part.with_name(f"{part.name}.old")))
                if final.exists():
                    final.replace(moved[-1][1])
                part.replace(final)
            manifest.replace(self._root / MANIFEST)
        except BaseException:
            manifest.unlink(missing_ok=True)
            for final, old in moved:
                if old.exists():
                    old.replace(final)
                else:
                    final.unlink(missing_ok=True)
            raise
        for gone in (*(old for _, old in moved), *(self._root / name for name in self._removed)):
            gone.unlink(missing_ok=True)

    def _entry(self, part: Path, name: str, info: dict[str, Any]) -> FileEntry:
        if not part.is_file():
            raise BundleError(f"the stage did not write '{name}'", where=str(self._root))
        return FileEntry(name, sha256(part), part.stat().st_size, self._made_by, self._made_from, info)

    def discard(self) -> None:
        """Remove the parts that were not renamed."""
        for part, _, _ in self._pending:
            part.unlink(missing_ok=True)
