"""Location of a run's images: at the paths of its split, or by their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.files import sha256
from skinedge.data.dataset import Sample, file_of, images_of, read_split
from skinedge.data.folder import list_folder
from skinedge.run.manifest import Manifest
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note


@dataclass(frozen=True)
class Located:
    """Images of a run. root: their folder; samples: in the order asked for, with their paths in this folder."""

    root: Path
    samples: tuple[Sample, ...]


def test_split(bundle: Bundle) -> tuple[Sample, ...]:
    """List the run's test images, in the order of reference.npz."""
    return tuple(sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test")


def locate(bundle: Bundle, samples: Sequence[Sample], data: Path | None) -> Located | None:
    """Find the samples in `data`, or in the run's training folder if `data` is None.

    In a named folder, images that are not at their paths are found by their sha256. Returns None without `data` if the
    run has no recorded folder, or that folder has none of the samples.
    Raises: DataError when `data` or the run's folder has only some of the samples, or `data` has none.
    """
    root = images_of(data, bundle.manifest.data_root)
    if root is None:
        return None
    missing = _missing(root, samples)
    if missing and data is not None and root.is_dir():
        samples = _by_content(root, samples, missing)
        missing = _missing(root, samples)
    if samples and not missing:
        return Located(root, tuple(samples))
    if data is None and len(missing) == len(samples):
        return None
    if not root.is_dir():
        raise DataError("no such folder", where=str(root))
    raise DataError(
        f"{len(missing)} of the {len(samples)} images of the run's {samples[0].split} split are missing, "
        f"the first: {[sample.path for sample in missing[:1]]}",
        where=str(root),
        todo="Restore them, or name the complete folder of the training images with --data DIR.",
    )


def _missing(root: Path, samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if not (root / file_of(sample.path)).is_file()]


def _by_content(root: Path, samples: Sequence[Sample], missing: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return the samples, with the paths of those missing ones whose bytes are elsewhere in the folder."""
    wanted = {sample.sha256: sample for sample in missing if sample.sha256}
    images = list_folder(root).images if wanted else ()
    paths = {digest: path for path in images if (digest := sha256(root / path)) in wanted}
    if paths:
        note(f"{len(paths)} images were found by their sha256, not at their paths in the run, in {root}")
    moved = {sample.path for sample in missing}
    return tuple(replace(s, path=paths.get(s.sha256, s.path)) if s.path in moved else s for s in samples)


def place_of(manifest: Manifest) -> str:
    """Describe the location of a run's images in messages: 'under FOLDER', or 'here (--data DIR)' without a folder."""
    return f"under {manifest.data_root}" if manifest.data_root else "here (--data DIR)"
