"""The model bundled with the package: the default of commands when no run is named and none is found.

It is in the folder `skinedge/flagship`, written by `skinedge ship`; a package built without the model has no such
folder. The variable SKINEDGE_SHIPPED names another packed model; empty, it disables the bundled one.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import BundleError
from skinedge.core.files import check_writable, disk_error, path_inside, sha256
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle, newest
from skinedge.system.folder_swap import new_folder
from skinedge.system.progress import note

FOLDER = Path(__file__).parents[1] / "flagship"
VARIABLE = "SKINEDGE_SHIPPED"
RUNS = Path("runs")


def folder() -> Path | None:
    """Return the folder of the bundled model, None without one."""
    override = os.environ.get(VARIABLE)
    if override is not None:
        return Path(override) if override else None
    return FOLDER if (FOLDER / MANIFEST).is_file() else None


def find() -> Bundle | None:
    """Open the bundled model read-only; None without one. Raises: BundleError when it is damaged or not packed."""
    root = folder()
    if root is None:
        return None
    bundle = Bundle.open(root)
    if not bundle.manifest.shipped:
        raise BundleError("not a packed model", where=str(root), todo="Pack it: skinedge ship RUN --to DIR")
    return replace(bundle, read_only=True)


def require() -> Bundle:
    """Open the bundled model read-only. Raises: BundleError without one, or when it is damaged or not packed."""
    shipped = find()
    if shipped is None:
        todo = f"Name a run or a model file, or a packed model's folder in {VARIABLE}."
        raise BundleError("no model ships with this package", todo=todo)
    return shipped


def is_shipped(run: Path) -> bool:
    """Return True if `run` is the folder of the bundled model, or the package's own if SKINEDGE_SHIPPED is set."""
    return run.resolve() in {path.resolve() for path in (folder(), FOLDER) if path is not None}


def open_run(run: Path | None, *, allow_synthetic: bool = True, writes: bool = False) -> Bundle:
    """Open the named run, else the newest complete one, else the bundled model; print which of these is used.

    Args:
        allow_synthetic: whether the newest run may have been trained on synthetic images.
        writes: the caller adds files to the run; those of the bundled model go to a copy under runs/.
    Raises: BundleError.
    """
    if run is None:
        bundle = default_run(allow_synthetic=allow_synthetic, writes=writes)
    else:
        bundle = Bundle.open(run)
        if writes and is_shipped(run):
            bundle = open_bundled(bundle, writes=writes)
    if writes:
        check_writable(bundle.root)
    return bundle


def default_run(runs: Path = RUNS, *, allow_synthetic: bool = True, writes: bool = False) -> Bundle:
    """Open the newest complete run under `runs`, else the bundled model; print which.

    Args:
        allow_synthetic: False skips runs and models trained on synthetic images.
        writes: the command adds files to the run; the bundled model is then copied to `runs` first.
    Raises: BundleError when there is neither.
    """
    try:
        bundle = newest(runs, allow_synthetic=allow_synthetic)
    except BundleError as error:
        shipped = find()
        if shipped is None:
            raise BundleError(f"{error.what}, and no model ships with this package", todo=error.todo) from None
        if shipped.manifest.synthetic and not allow_synthetic:
            raise
        return open_bundled(shipped, runs, writes=writes)
    note(f"run: {bundle.root} (the newest)")
    return bundle


def open_bundled(shipped: Bundle, runs: Path = RUNS, *, writes: bool) -> Bundle:
    """Return the bundled model, or its copy under `runs` if there is one or `writes` is set; print which."""
    manifest = shipped.manifest
    licence = f"licence {manifest.license}" if manifest.license else "no licence stated"
    note(f"run: the model that ships with skinedge ({manifest.name}, {licence}); research tool, not a medical device")
    copy = runs / copy_name(shipped)
    if not (copy / MANIFEST).is_file():
        if not writes:
            return shipped
        copy_to(shipped, copy)
    note(f"run: {copy} (a copy of that model)")
    return Bundle.open(copy)


def copy_name(shipped: Bundle) -> str:
    """Return the folder name of a copy; it includes the manifest's hash, because a run may be packed again."""
    return f"shipped-{shipped.manifest.id}-{sha256(shipped.root / MANIFEST)[:8]}"


def copy_to(shipped: Bundle, to: Path) -> None:
    """Copy the manifest and the listed files and check their hashes; the copy appears complete or not at all.

    Raises: BundleError when a file was changed, or the copy cannot be written.
    """
    try:
        with new_folder(to) as folder:
            for name in (*shipped.entries(), MANIFEST):
                target = path_inside(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(shipped.root / name if name == MANIFEST else shipped.file(name), target)
    except OSError as error:
        if not (to / MANIFEST).is_file():  # else another process has made the copy
            raise disk_error(error, to) from None
