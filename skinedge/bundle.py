"""The run directory: the only thing that training, exporting and running share.

A bundle only grows. A stage writes its files to `.part`, renames them, and then the manifest is
replaced atomically, under a lock, with one more entry in `stages`. What no entry lists is a leftover.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.errors import BundleError, DataError, SkinedgeError
from skinedge.preprocess import Preprocess
from skinedge.taxonomy import GROUPS

SCHEMA = "skinedge.manifest/1"
MANIFEST = "manifest.json"
MODEL = "model.safetensors"  # the merged network
SHIP = "ship"  # the stage of a model that was packed to travel, and of every copy of it


@dataclass(frozen=True)
class FileEntry:
    """One file of a run: where it is (relative to the run), what it holds, who made it from what.

    sha256: of the file's bytes; size: in bytes; made_by: tool and version;
    made_from: name -> sha256 of each input; info: what the stage says of the file (precision, ...).
    """

    path: str
    sha256: str
    size: int
    made_by: str
    made_from: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One finished stage: when it ended (UTC, ISO 8601) and the files it left."""

    finished_at: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """What a run is. `labels` is the only place where the order of the classes is kept.

    taxonomy: label -> 'benign' | 'premalignant' | 'malignant'; melanoma: the label that is melanoma, None without.
    class_prior: label -> probability that the model's outputs assume for the class (sums to 1).
    calibration: `skinedge.calibration.Calibration` as a dict, what merge folded into the classifier; empty before.
    thresholds: file name, or 'default' -> malignant score (0..1) at and above which a lesion is flagged.
    training: everything that decides what the weights are (config, base weights, data kind).
    data_root: the folder of its images, '' in a run that was packed to travel.
    license: SPDX expression of the weights, '' where nobody stated one; attribution: whom it asks to name.
    """

    id: str
    name: str
    created_at: str
    synthetic: bool
    domain: str
    labels: tuple[str, ...]
    taxonomy: Mapping[str, str]
    melanoma: str | None
    preprocess: Preprocess
    class_prior: Mapping[str, float]
    data_root: str
    thresholds: Mapping[str, float] = field(default_factory=lambda: {"default": 0.5})
    calibration: Mapping[str, Any] = field(default_factory=dict)
    default_file: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    license: str = ""
    attribution: str = ""
    schema: str = SCHEMA

    @property
    def malignant(self) -> tuple[int, ...]:
        """Indices of the labels that count towards the malignant score."""
        return tuple(i for i, label in enumerate(self.labels) if self.taxonomy[label] != "benign")

    def threshold(self, file: str) -> float | None:
        """The malignant score from which on `file` flags: its own, else the merged network's, None without either."""
        return self.thresholds.get(file, self.thresholds.get("default"))

    @property
    def melanoma_index(self) -> int | None:
        """Index of the label that is melanoma."""
        return None if self.melanoma is None else self.labels.index(self.melanoma)

    @property
    def shipped(self) -> bool:
        """Whether it was packed to travel, or is a copy of a run that was."""
        return SHIP in self.stages

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str) -> Manifest:
        """Read the JSON form; raises BundleError on another schema, a missing or unknown key, or a wrong value."""
        if raw.get("schema") != SCHEMA:
            raise BundleError(
                f"manifest schema is {raw.get('schema')!r}, this version reads '{SCHEMA}'",
                where=where,
                todo="Use the skinedge version that made the run, or train again.",
            )
        try:
            stages = {
                name: Stage(stage["finished_at"], tuple(FileEntry(**f) for f in stage["files"]))
                for name, stage in raw["stages"].items()
            }
            fields = {
                **raw,
                "labels": tuple(raw["labels"]),
                "preprocess": Preprocess.from_dict(raw["preprocess"]),
                "stages": stages,
            }
            found = cls(**fields)
            _check_classes(found)
            return found
        except (KeyError, TypeError, AttributeError, ValueError, DataError) as error:
            raise BundleError(f"damaged manifest ({error})", where=where) from None


def _check_classes(manifest: Manifest) -> None:
    """Raises: ValueError when what is said of the classes does not fit the labels."""
    labels = manifest.labels
    if len(set(labels)) < len(labels) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"labels {list(labels)} are not different names")
    if set(manifest.taxonomy) != set(labels) or not set(manifest.taxonomy.values()) <= set(GROUPS):
        raise ValueError(f"taxonomy {dict(manifest.taxonomy)} does not fit the labels {list(labels)}")
    if manifest.melanoma is not None and manifest.melanoma not in labels:
        raise ValueError(f"melanoma is '{manifest.melanoma}', which is no label")
    if set(manifest.class_prior) != set(labels):
        raise ValueError(f"class_prior does not fit the labels {list(labels)}")
    if not all(0 <= share <= 1 for share in manifest.class_prior.values()):
        raise ValueError(f"class_prior {dict(manifest.class_prior)} has values that are not between 0 and 1")
    if not all(threshold >= 0 for threshold in manifest.thresholds.values()):  # above 1: nothing is flagged
        raise ValueError(f"thresholds {dict(manifest.thresholds)} are not all 0 or more")


@dataclass(frozen=True)
class Bundle:
    """An open run directory; read_only: no stage may be written into it."""

    root: Path
    manifest: Manifest
    read_only: bool = False

    @classmethod
    def open(cls, root: Path) -> Bundle:
        """Open a complete run.

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
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"damaged manifest ({error})", where=str(path)) from None
        if not isinstance(raw, dict):
            raise BundleError("damaged manifest (not a JSON object)", where=str(path))
        return cls(root, Manifest.from_dict(raw, str(path)))

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
        entry = self.entries().get(name)
        if entry is None:
            listed = ", ".join(sorted(self.entries())) or "none"
            raise BundleError(f"this run has no file '{name}'", where=str(self.root), todo=f"It has: {listed}.")
        path = self.root / name
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
        return all((self.root / f.path).is_file() and sha256(self.root / f.path) == f.sha256 for f in done.files)

    @contextlib.contextmanager
    def stage(self, name: str, made_by: str, made_from: Mapping[str, str]) -> Iterator[StageWriter]:
        """Write a stage's files: all of them and the manifest entry, or, on an error, none.

        Raises: BundleError when the disk is full or may not be written, or the run is read-only.
        """
        from filelock import FileLock

        if self.read_only:
            raise BundleError("nothing is written into the model that ships with skinedge", where=str(self.root))
        writer = StageWriter(self.root, made_by, dict(made_from))
        try:
            yield writer
            with FileLock(self.root / ".manifest.lock"):
                writer.commit(name)
        except Exception as error:
            if is_disk_error(error):
                raise disk_error(error, self.root) from None
            raise
        finally:
            writer.discard()

    def reload(self) -> Bundle:
        """The same run with its manifest read again (after a stage was written)."""
        return replace(Bundle.open(self.root), read_only=self.read_only)


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
        current = Bundle.open(self._root).manifest
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


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def new_id() -> str:
    """An id for a run: sortable by time, unique."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file in one step; a full disk or a crash leaves the old one."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, path) from None


def is_disk_error(error: Exception) -> bool:
    """Whether a write failed for the disk's sake: full, over quota, read-only or not permitted.

    safetensors has an exception of its own that only tells by its text.
    """
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return (isinstance(error, OSError) and error.errno in codes) or "No space left on device" in str(error)


def disk_error(error: Exception, path: Path) -> BundleError:
    """What to tell a user whose write failed."""
    full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full; nothing was changed" if full else f"cannot write ({getattr(error, 'strerror', error)})"
    return BundleError(what, where=str(path), todo="Free some space and run the command again." if full else None)


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


def manifest_text(manifest: Manifest) -> str:
    return json.dumps(asdict(manifest), indent=2) + "\n"


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
