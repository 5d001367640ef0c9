"""Where a run's test images are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.dataset import Sample, archive_member, images_of, read_split
from skinedge.run.manifest import Manifest
from skinedge.run.run_directory import Bundle


def test_split(bundle: Bundle) -> tuple[Sample, ...]:
    """The run's test images, in the order of reference.npz."""
    return tuple(sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test")


def locate(bundle: Bundle, samples: Sequence[Sample], data: Path | None) -> Path | None:
    """The folder that holds the samples: `data`, or, if that is None, where the run was trained.

    None where no folder was named and none of them is in the run's, or the run knows no folder.
    Raises: DataError when only some are there, or none in a folder that was named.
    """
    root = images_of(data, bundle.manifest.data_root)
    if root is None:
        return None
    missing = [sample.path for sample in samples if not (root / archive_member(sample.path)[0]).is_file()]
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
        todo="Restore them, or give the complete folder that the run was trained from with --data.",
    )


def place_of(manifest: Manifest) -> str:
    """Where a run's images should be, for a sentence: 'under FOLDER', or 'here (--data DIR)' if it knows no folder."""
    return f"under {manifest.data_root}" if manifest.data_root else "here (--data DIR)"
