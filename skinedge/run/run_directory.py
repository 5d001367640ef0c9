"""The run directory: the only thing that training, exporting and running share.

A stage writes its files into a private folder; then the manifest is replaced atomically, under a lock, with one more
entry in `stages`, and the files move to their places (`skinedge.run.commit`). A file that no entry lists is a leftover.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.files import disk_error, is_disk_error, path_inside, sha256, write_atomic
from skinedge.run import commit, crash_report
from skinedge.run.manifest import MANIFEST, MODEL, FileEntry, Manifest, manifest_text
from skinedge.run.stage import StageWriter


@dataclass(frozen=True)
class Bundle:
    """An open run directory; read_only: no stage may be written into it."""

    root: Path
    manifest: Manifest
    read_only: bool = False

    @classmethod
    def open(cls, root: Path) -> Bundle:
        """Open a complete run, after finishing or removing the stages of processes that were killed.

        Raises: BundleError when there is no run there, it is unfinished, or its manifest is damaged.
        """
        path = root / MANIFEST
        if not root.is_dir():
            raise BundleError("no such run directory", where=str(root))
        if not path.is_file():
            raise BundleError(
                "not a complete run: it has no manifest.json",
                where=str(root),
                todo="Finish it with: skinedge train --resume --out RUN --data DIR",
            )
        commit.recover(root)
        return cls(root, Manifest.read(path))

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> Bundle:
        """Write the first manifest into an existing folder (which must not hold one)."""
        if (root / MANIFEST).exists():
            raise BundleError("there is a run here already", where=str(root))
        write_atomic(root / MANIFEST, manifest_text(manifest))
        return cls(root, manifest)

    def entries(self) -> dict[str, FileEntry]:
        """path -> entry of every file that a finished stage lists."""
        return {f.path: f for stage in self.manifest.stages.values() for f in stage.files}

    def model_files(self) -> list[FileEntry]:
        """The exported model files, in the order of their names: those of which export said the format."""
        found = [entry for entry in self.entries().values() if "format" in entry.info]
        return sorted(found, key=lambda entry: entry.path)

    @property
    def model_sha256(self) -> str | None:
        """Hash of the merged network, also where the run was packed without it; None before merge."""
        entries = self.entries()
        if MODEL in entries:
            return entries[MODEL].sha256
        return entries["golden.npz"].made_from.get("model") if "golden.npz" in entries else None

    def fits_model(self, entry: FileEntry) -> bool:
        """Whether a model file was made from the merged network that the run has now, or from its like elsewhere."""
        merged, made_from = self.entries().get(MODEL), entry.made_from.get("model")
        same = {self.model_sha256, merged.info.get("same_as") if merged else None} - {None}
        return made_from in same

    def has(self, name: str) -> bool:
        return name in self.entries()

    def file(self, name: str) -> Path:
        """Path of a listed file, after its hash was checked.

        Raises: BundleError when no stage lists it, it is gone, or its content differs.
        """
        crash_report.working_on(self.root)
        entry = self.entries().get(name)
        if entry is None:
            listed = ", ".join(sorted(self.entries())) or "none"
            raise BundleError(f"this run has no file '{name}'", where=str(self.root), todo=f"It has: {listed}.")
        path = path_inside(self.root, name)
        if not path.is_file():
            raise BundleError("file is listed in the manifest but missing", where=str(path))
        if sha256(path) != entry.sha256:
            raise BundleError(
                "file does not match the hash in the manifest: it was changed after it was made",
                where=str(path),
                todo="Make it again (merge or export with --force), or restore it.",
            )
        return path

    def is_current(self, stage: str, made_from: Mapping[str, str]) -> bool:
        """True when `stage` is finished, from these very inputs, and its files are intact."""
        done = self.manifest.stages.get(stage)
        if done is None or any(dict(f.made_from) != dict(made_from) for f in done.files):
            return False
        paths = [(path_inside(self.root, file.path), file) for file in done.files]
        return all(path.is_file() and sha256(path) == file.sha256 for path, file in paths)

    @contextlib.contextmanager
    def stage(self, name: str, made_by: str, made_from: Mapping[str, str]) -> Iterator[StageWriter]:
        """Write a stage's files: all of them and the manifest entry, or, on an error, none.

        Raises: BundleError when the disk is full or may not be written, or the run is read-only.
        """
        if self.read_only:
            raise BundleError("nothing is written into the model that ships with skinedge", where=str(self.root))
        crash_report.working_on(self.root)
        try:
            commit.prepare(self.root)
            writer = StageWriter(self.root, made_by, dict(made_from))
            try:
                yield writer
                writer.commit(name)
            finally:
                writer.discard()
        except Exception as error:
            if is_disk_error(error):
                raise disk_error(error, self.root) from None
            raise

    def reload(self) -> Bundle:
        """The same run with its manifest read again (after a stage was written)."""
        return replace(Bundle.open(self.root), read_only=self.read_only)


def newest(runs: Path = Path("runs"), *, allow_synthetic: bool = True) -> Bundle:
    """The newest complete run under `runs`, by its manifest's time; a copy of a shipped model is none.

    Raises: BundleError when there is none.
    """
    found = []
    for path in sorted(runs.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(SkinedgeError):
            found.append(Bundle.open(path.parent))
    found = [bundle for bundle in found if not bundle.manifest.shipped]
    usable = [b for b in found if allow_synthetic or not b.manifest.synthetic]
    if usable:
        return max(usable, key=lambda b: (b.manifest.created_at, b.manifest.id))
    if found:
        raise BundleError(
            f"every run under {runs}/ was trained on synthetic images; none is taken for real ones unasked",
            todo=f"Train on real images, or name the run: {found[-1].root}",
        )
    raise BundleError(
        f"no complete run under {runs}/",
        todo="Make one with: skinedge run --data DIR   (sample data: skinedge data synth OUT)",
    )
