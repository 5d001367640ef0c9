"""The model that ships with the package: what a command uses when no run is named and none is there.

It lies in `flagship/` beside this file, written by `skinedge ship`. A package built without it has no such folder.
SKINEDGE_SHIPPED names another folder with a packed model; empty, it says that there is none.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import BundleError
from skinedge.core.files import disk_error, path_inside, sha256
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle, newest
from skinedge.system.folder_swap import new_folder
from skinedge.system.progress import note

FOLDER = Path(__file__).parents[1] / "flagship"
VARIABLE = "SKINEDGE_SHIPPED"
RUNS = Path("runs")


def folder() -> Path | None:
    """Where the shipped model is, None without one."""
    named = os.environ.get(VARIABLE)
    place = FOLDER if named is None else Path(named) if named else None
    return place if place is not None and (named or (place / MANIFEST).is_file()) else None


def find() -> Bundle | None:
    """The shipped model, read-only; None without one. Raises: BundleError when it is damaged or was not packed."""
    place = folder()
    if place is None:
        return None
    bundle = Bundle.open(place)
    if not bundle.manifest.shipped:
        raise BundleError("this is no packed model", where=str(place), todo="Pack it: skinedge ship RUN --to DIR")
    return replace(bundle, read_only=True)


def is_shipped(run: Path) -> bool:
    """Whether `run` is the very folder of the shipped model, or of the package's own where another was named."""
    return run.resolve() in {place.resolve() for place in (folder(), FOLDER) if place is not None}


def default_run(runs: Path = RUNS, *, allow_synthetic: bool = True, writes: bool = False) -> Bundle:
    """The newest complete run under `runs`, else the shipped model; says on screen which.

    writes: the command adds files to the run: of the shipped model, it gets a copy under `runs`.
    Raises: BundleError when there is neither.
    """
    try:
        bundle = newest(runs, allow_synthetic=allow_synthetic)
    except BundleError as none:
        shipped = find()
        if shipped is None:
            raise BundleError(f"{none.what}, and no model ships with this package", todo=none.todo) from None
        if shipped.manifest.synthetic and not allow_synthetic:
            raise
        return opened(shipped, runs, writes=writes)
    note(f"run: {bundle.root} (the newest)")
    return bundle


def opened(shipped: Bundle, runs: Path = RUNS, *, writes: bool) -> Bundle:
    """The shipped model, or its copy under `runs` where there is one or files are to be added; said on screen."""
    manifest = shipped.manifest
    terms = f"licence {manifest.license}" if manifest.license else "no licence stated"
    note(f"run: the model that ships with skinedge ({manifest.name}, {terms}); research tool, not a medical device")
    copy = runs / copy_name(shipped)
    if not (copy / MANIFEST).is_file():
        if not writes:
            return shipped
        copy_to(shipped, copy)
    note(f"run: {copy}, a copy of it")
    return Bundle.open(copy)


def copy_name(shipped: Bundle) -> str:
    """A run may be packed again, with other files under the same id: then its old copy is not the new one's."""
    return f"shipped-{shipped.manifest.id}-{sha256(shipped.root / MANIFEST)[:8]}"


def copy_to(shipped: Bundle, to: Path) -> None:
    """Copy the listed files, hashes checked; the copy appears complete or not at all.

    Raises: BundleError when a file was changed, or the copy cannot be written.
    """
    try:
        with new_folder(to) as folder:
            for name in (*shipped.entries(), MANIFEST):
                target = path_inside(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(shipped.root / name if name == MANIFEST else shipped.file(name), target)
    except OSError as error:
        if not (to / MANIFEST).is_file():  # else another process was faster
            raise disk_error(error, to) from None
