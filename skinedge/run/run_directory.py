"""The run directory: the only interface between training, exporting and running.

A stage writes its files into a private folder. Then the manifest is replaced atomically, under a lock, with one more
entry in `stages`, and the files are moved into the run (`skinedge.run.commit`). Files not listed in the manifest are
not part of the run.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.files import disk_error, is_disk_error, path_inside, sha256, write_atomic
from skinedge.data.dataset import Sample, data_root, file_of, read_split
from skinedge.data.plan import PLAN
from skinedge.data.read_options import ReadOptions, SourceFolder, recorded_options
from skinedge.run import commit, crash_report
from skinedge.run.manifest import MANIFEST, MODEL, FileEntry, Manifest, manifest_text
from skinedge.run.stage import StageWriter
from skinedge.system.progress import note


@dataclass(frozen=True)
class Bundle:
    """An open run directory. read_only: refuse to write stages."""

    root: Path
    manifest: Manifest
    read_only: bool = False

    @classmethod
    def open(cls, root: Path) -> Bundle:
        """Open a complete run; finish or remove the stages of killed processes first.

        Raises: BundleError when there is no run, it is unfinished, or its manifest is damaged.
        """
        path = root / MANIFEST
        if not root.is_dir():
            raise BundleError("no such run directory", where=str(root), todo="List those there are: skinedge runs")
        if not path.is_file():
            raise _no_manifest(root)
        commit.recover(root)
        return cls(root, Manifest.read(path))

    @classmethod
    def create(cls, root: Path, manifest: Manifest) -> Bundle:
        """Write the first manifest into an existing folder. Raises: BundleError when it has one."""
        if (root / MANIFEST).exists():
            raise BundleError("a run exists here already", where=str(root))
        write_atomic(root / MANIFEST, manifest_text(manifest))
        return cls(root, manifest)

    def entries(self) -> dict[str, FileEntry]:
        """Return path -> entry for every file of the finished stages."""
        return {f.path: f for stage in self.manifest.stages.values() for f in stage.files}

    def model_files(self) -> list[FileEntry]:
        """Return the exported model files, sorted by name; `info` of these has a format."""
        exported = [entry for entry in self.entries().values() if "format" in entry.info]
        return sorted(exported, key=lambda entry: entry.path)

    @property
    def model_sha256(self) -> str | None:
        """Hash of the merged network, also if the run was packed without it; None before merge."""
        entries = self.entries()
        if MODEL in entries:
            return entries[MODEL].sha256
        return entries["golden.npz"].made_from.get("model") if "golden.npz" in entries else None

    def fits_model(self, entry: FileEntry) -> bool:
        """Return True if a model file was made from the run's present merged network or a recorded equivalent."""
        merged, made_from = self.entries().get(MODEL), entry.made_from.get("model")
        equivalent = {self.model_sha256, merged.info.get("same_as") if merged else None} - {None}
        return made_from in equivalent

    def reading(self, options: ReadOptions, data: Path) -> ReadOptions:
        """Return how to read the folder `data`: the given options, else those of the run if it is the run's folder.

        The run's folder is the recorded one, or one that has an image of split.csv at its path; so is the folder of one
        of its sources. Raises: BundleError.
        """
        recorded = self.manifest.training.get("data", {}).get("reading", {})
        if options.given or not recorded:
            return options
        root, own = data_root(data), Path(self.manifest.data_root)
        plan = self.file(PLAN) if self.has(PLAN) else None
        own_options, samples = recorded_options(recorded, plan), read_split(self.file("split.csv"))
        if root.resolve() != own and not _holds(root, "", samples):
            source = self._source_at(root, own_options, samples)
            if source is None:
                return options
            note(f"this folder is the run's source {source.name}")
            own_options = source.reading
        options = own_options
        shown = options.document() | ({"map": "of the training"} if options.label_map else {})
        shown |= {"sources": ", ".join(source.name for source in options.sources)} if options.sources else {}
        chosen = ", ".join(f"{key} {value}" for key, value in shown.items())
        note(f"read as recorded in the run: {', '.join(part for part in (chosen, 'plan' if plan else '') if part)}")
        return options

    def _source_at(self, root: Path, options: ReadOptions, samples: Sequence[Sample]) -> SourceFolder | None:
        """Return the source whose folder is `root`, or that has an image at its path below `root`; None for none."""
        for source in options.sources:
            if (Path(self.manifest.data_root) / source.path).resolve() == root.resolve():
                return source
        for source in options.sources:
            if _holds(root, f"{source.path}/", [sample for sample in samples if sample.source == source.name]):
                return source
        return None

    def has(self, name: str) -> bool:
        """Return True if a finished stage lists the file `name`."""
        return name in self.entries()

    def file(self, name: str) -> Path:
        """Check the hash of a listed file and return its path.

        Raises: BundleError when no stage lists the file, it is missing, or its content differs.
        """
        crash_report.working_on(self.root)
        entry = self.entries().get(name)
        if entry is None:
            names = ", ".join(sorted(self.entries())) or "none"
            raise BundleError(f"this run has no file '{name}'", where=str(self.root), todo=f"It has: {names}.")
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
        """Return True if `stage` is finished, was made from exactly these inputs, and its files are intact."""
        finished = self.manifest.stages.get(stage)
        if finished is None or any(dict(f.made_from) != dict(made_from) for f in finished.files):
            return False
        paths = [(path_inside(self.root, file.path), file) for file in finished.files]
        return all(path.is_file() and sha256(path) == file.sha256 for path, file in paths)

    @contextlib.contextmanager
    def stage(self, name: str, made_by: str, made_from: Mapping[str, str]) -> Iterator[StageWriter]:
        """Write all files of a stage and its manifest entry, or, on an error, nothing.

        Raises: BundleError when the disk is full or not writable, or the run is read-only.
        """
        if self.read_only:
            raise BundleError("the model that ships with skinedge is read-only", where=str(self.root))
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
        """Return the run with its manifest read again, after a stage was written."""
        return replace(Bundle.open(self.root), read_only=self.read_only)


def newest(runs: Path = Path("runs"), *, allow_synthetic: bool = True) -> Bundle:
    """Open the newest complete run under `runs`, by creation time; copies of packed models do not count.

    Raises: BundleError when there is none.
    """
    bundles = []
    for path in sorted(runs.glob(f"*/{MANIFEST}")):
        with contextlib.suppress(SkinedgeError):
            bundles.append(Bundle.open(path.parent))
    bundles = [bundle for bundle in bundles if not bundle.manifest.shipped]
    usable = [b for b in bundles if allow_synthetic or not b.manifest.synthetic]
    if usable:
        return max(usable, key=lambda b: (b.manifest.created_at, b.manifest.id))
    if bundles:
        raise BundleError(
            f"all runs under {runs}/ were trained on synthetic images; such a run must be named explicitly",
            todo=f"Train on real images, or name the run: {bundles[-1].root}",
        )
    raise BundleError(
        f"no complete run under {runs}/",
        todo="Make one with: skinedge run --data DIR   (sample data: skinedge data synth OUT)",
    )


def _holds(root: Path, place: str, samples: Sequence[Sample]) -> bool:
    """Return True if an image of the samples is below `root` at its path without the folder `place`."""
    return any((root / file_of(sample.path).removeprefix(place)).is_file() for sample in samples)


def _no_manifest(root: Path) -> BundleError:
    """Return the error for a folder without a manifest: an interrupted training, or any other folder."""
    name = root.resolve().name
    work = root if name.endswith(".training") else root.with_name(f"{name}.training")
    if (work / "job.json").is_file():
        out = shlex.quote(str(root.with_name(name.removesuffix(".training"))))
        todo = f"Finish it with: skinedge train --resume --out {out} --data DIR"
        return BundleError("not a complete run: its training was interrupted", where=str(root), todo=todo)
    return BundleError(
        "not a run directory: it has no manifest.json",
        where=str(root),
        todo="Name a run directory; `skinedge run --data DIR --out RUN` makes one from a folder of labelled images.",
    )
