"""Location of a run's test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.dataset import Sample, file_of, images_of, read_split
from skinedge.run.manifest import Manifest
from skinedge.run.run_directory import Bundle


def test_split(bundle: Bundle) -> tuple[Sample, ...]:
    """List the run's test images, in the order of reference.npz."""
    return tuple(sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test")


def locate(bundle: Bundle, samples: Sequence[Sample], data: Path | None) -> Path | None:
    """Return the folder with the samples: `data`, or the run's training folder if `data` is None.

    Returns None without `data` if the run has no recorded folder, or that folder has none of the samples.
    Raises: DataError when `data` or the run's folder has only some of the samples, or `data` has none.
    """
    root = images_of(data, bundle.manifest.data_root)
    if root is None:
        return None
    missing = [sample.path for sample in samples if not (root / file_of(sample.path)).is_file()]
    if samples and not missing:
        return root
    if data is None and len(missing) == len(samples):
        return None
    if not root.is_dir():
        raise DataError("no such folder", where=str(root))
    raise DataError(
        f"{len(missing)} of the {len(samples)} images of the run's {samples[0].split} split are missing, "
        f"the first: {missing[:1]}",
        where=str(root),
        todo="Restore them, or name the complete folder of the training images with --data.",
    )


def place_of(manifest: Manifest) -> str:
    """Describe the location of a run's images in messages: 'under FOLDER', or 'here (--data DIR)' without a folder."""
    return f"under {manifest.data_root}" if manifest.data_root else "here (--data DIR)"
