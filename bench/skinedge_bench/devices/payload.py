"""What travels to a host for a benchmark there: our own code, the files of a run that it takes, images if asked."""

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
from skinedge.data.dataset import archive_member
from skinedge.run.file_card import card_name
from skinedge.run.manifest import FileEntry, Manifest, Stage, manifest_text
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import exported
from skinedge_bench.split_images import locate, place_of, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY

CODE, RUN, DATA = "code", "run", "data"  # the folders in the parcel
LEFT_OUT = {"__pycache__", "flagship", "page"}  # folders of our packages that a benchmark does not take
KEPT = ("golden.npz", "reference.npz", "split.csv", PARITY)


@dataclass(frozen=True)
class Payload:
    """What is sent. files: path in the parcel, with '/' -> a file here, or bytes."""

    files: dict[str, Path | bytes]

    @property
    def last(self) -> str:
        """Path of the file that is sent last."""
        return list(self.files)[-1]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(len(f) if isinstance(f, bytes) else f.stat().st_size for f in self.files.values())

    def write(self, stream: IO[bytes]) -> None:
        """As a tar archive, with no owner and no times."""
        with tarfile.open(fileobj=stream, mode="w|") as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.mode = 0o600
                with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source:
                    entry.size = source.seek(0, io.SEEK_END)
                    source.seek(0)
                    archive.addfile(entry, source)


def build_payload(bundle: Bundle, images: dict[str, Path | bytes]) -> Payload:
    """Code, the run, and images (`split_images`, or none). The merged network stays: PyTorch is not expected there.

    Raises: BundleError when nothing was exported, or a file is missing or was changed.
    """
    names = [name for entry in exported(bundle) for name in (entry.path, card_name(entry.path))]
    names = [name for name in (*names, *KEPT) if bundle.has(name)]
    run: dict[str, Path | bytes] = {f"{RUN}/{name}": bundle.file(name) for name in names}
    run[f"{RUN}/manifest.json"] = manifest_text(without(bundle, set(names))).encode()
    return Payload({**code(), **images, **run})  # the manifest last


def without(bundle: Bundle, kept: set[str]) -> Manifest:
    """The run's manifest with the kept files alone, and without the place of its images."""

    def of(entry: FileEntry) -> FileEntry:
        known = {"model": str(bundle.model_sha256)} if entry.path == "golden.npz" else {}  # as in a packed run
        return replace(entry, made_from={**entry.made_from, **known})

    stages = {
        name: Stage(stage.finished_at, tuple(of(entry) for entry in stage.files if entry.path in kept))
        for name, stage in bundle.manifest.stages.items()
    }
    return replace(bundle.manifest, data_root="", stages={name: s for name, s in stages.items() if s.files})


def split_images(bundle: Bundle, data: Path | None) -> dict[str, Path | bytes]:
    """The files with the images of the run's test split. data: where they are, if not where the run was trained.

    Raises: DataError when they are not there.
    """
    samples = test_split(bundle)
    root = locate(bundle, samples, data)
    if root is None:
        raise DataError(f"the test images are not {place_of(bundle.manifest)}", todo="Name their folder with --data.")
    names = dict.fromkeys(archive_member(sample.path)[0] for sample in samples)
    return {f"{DATA}/{name}": root / name for name in names}


def code() -> dict[str, Path | bytes]:
    """Our packages as they are here, with what makes Python know their plug-ins."""
    found: dict[str, Path | bytes] = {}
    for package in (skinedge, skinedge_bench):
        root = Path(str(package.__file__)).parent
        for path in _files(root):
            found[f"{CODE}/{package.__name__}/{path.relative_to(root).as_posix()}"] = path
    for name in ("METADATA", "entry_points.txt"):
        text = distribution("skinedge").read_text(name) or ""
        found[f"{CODE}/skinedge-{skinedge.__version__}.dist-info/{name}"] = text.encode()
    return found


def requirements() -> list[str]:
    """The base install, one package a line: pinned, with the sha256 of each of its files, from `make hashes`."""
    text = files("skinedge_bench").joinpath("devices", "on_host", "requirements.txt").read_text(encoding="utf-8")
    return text.replace("\\\n", "").splitlines()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in LEFT_OUT:
            yield from _files(path)
        elif path.is_file():
            yield path
