"""The payload for a benchmark on a host: our code, the run's files for it, and optionally images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from typing import IO

import skinedge
import skinedge_bench
from skinedge.core.errors import DataError
from skinedge.data.dataset import file_of
from skinedge.run.file_card import card_name
from skinedge.run.golden import outputs_name
from skinedge.run.manifest import FileEntry, Manifest, Stage, manifest_text
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import exported
from skinedge_bench.split_images import locate, place_of, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY

CODE, RUN, DATA = "code", "run", "data"  # folders in the payload
EXCLUDED = {"__pycache__", "flagship", "page"}  # folders of our packages that a benchmark does not need
RUN_FILES = ("golden.npz", "reference.npz", "split.csv", PARITY)


@dataclass(frozen=True)
class Payload:
    """The files to send. files: path in the payload, with '/' -> local file, or contents."""

    files: dict[str, Path | bytes]

    @property
    def last(self) -> str:
        """Return the path of the last file in the payload."""
        return list(self.files)[-1]

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return sum(len(f) if isinstance(f, bytes) else f.stat().st_size for f in self.files.values())

    def write(self, stream: IO[bytes]) -> None:
        """Write a tar archive without owners and times."""
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.mode = 0o600
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                    entry.size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    archive.addfile(entry, source)


def build_payload(bundle: Bundle, images: dict[str, Path | bytes]) -> Payload:
    """Collect code, the run and images (from `split_images`, or none).

    Excludes the merged network, since hosts need not have PyTorch.
    Raises: BundleError if nothing was exported, or a file is missing or changed.
    """
    entries = exported(bundle)
    names = [name for entry in entries for name in (entry.path, card_name(entry.path), outputs_name(entry.path))]
    names = [name for name in (*names, *RUN_FILES) if bundle.has(name)]
    run: dict[str, Path | bytes] = {f"{RUN}/{name}": bundle.file(name) for name in names}
    run[f"{RUN}/manifest.json"] = manifest_text(restrict_manifest(bundle, set(names))).encode()
    return Payload({**code(), **images, **run})  # the manifest is last


def restrict_manifest(bundle: Bundle, names: set[str]) -> Manifest:
    """Return the run's manifest with these files only, and without the folder of its images."""

    def with_model(entry: FileEntry) -> FileEntry:
        model = {"model": str(bundle.model_sha256)} if entry.path == "golden.npz" else {}  # as in a package
        return replace(entry, made_from={**entry.made_from, **model})

    stages = {
        name: Stage(stage.finished_at, tuple(with_model(entry) for entry in stage.files if entry.path in names))
        for name, stage in bundle.manifest.stages.items()
    }
    return replace(bundle.manifest, data_root="", stages={name: s for name, s in stages.items() if s.files})


def split_images(bundle: Bundle, data: Path | None) -> dict[str, Path | bytes]:
    """Return the image files of the run's test split. data: their folder, if they have moved since training.

    Raises: DataError if they are not found.
    """
    samples = test_split(bundle)
    located = locate(bundle, samples, data)
    if located is None:
        raise DataError(f"the test images are not {place_of(bundle.manifest)}", todo="Name their folder with --data.")
    pairs = [(file_of(a.path), file_of(b.path)) for a, b in zip(samples, located.samples, strict=True)]
    return {f"{DATA}/{name}": located.root / path for name, path in pairs}


def code() -> dict[str, Path | bytes]:
    """Return our packages, with the metadata that lists their plug-ins."""
    code_files: dict[str, Path | bytes] = {}
    for package in (skinedge, skinedge_bench):
        root = Path(str(package.__file__)).parent
        for path in _files(root):
            code_files[f"{CODE}/{package.__name__}/{path.relative_to(root).as_posix()}"] = path
    for name in ("METADATA", "entry_points.txt"):
        text = distribution("skinedge").read_text(name) or ""
        code_files[f"{CODE}/skinedge-{skinedge.__version__}.dist-info/{name}"] = text.encode()
    return code_files


def requirements() -> list[str]:
    """Return the base install, one package per line: pinned, with the sha256 of each file, from `make hashes`."""
    text = files("skinedge_bench").joinpath("devices", "on_host", "requirements.txt").read_text(encoding="utf-8")
    return text.replace("\\\n", "").splitlines()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in EXCLUDED:
            yield from _files(path)
        elif path.is_file():
            yield path
