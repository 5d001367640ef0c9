"""Encoded images inside HDF5 files (ISIC 2024's train-image.hdf5): one dataset for each, named by the image's id."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from typing import Any

from skinedge.core.errors import DataError, MissingDependencyError
from skinedge.core.image_file import MAX_BYTES, read_bytes

HDF5_SUFFIXES = frozenset({".hdf5", ".h5"})
_MEMBER = re.compile(r"(.*\.(?:hdf5|h5))#([^/.]+)", re.IGNORECASE | re.DOTALL)  # image files have a suffix


def hdf5_member(path: str) -> tuple[str, str]:
    """Split a sample's path 'FILE.hdf5#ID' into its file and the image's id, '' for another kind of path."""
    match = _MEMBER.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def list_hdf5(root: Path, name: str) -> tuple[str, ...]:
    """Return the paths of the images in the file root/name, sorted: 'NAME#ID'.

    Raises: MissingDependencyError without h5py; DataError for a damaged file, or one without encoded images.
    """
    where = str(root / name)
    file = _open(root / name)
    names = sorted(file)
    if not names or not _is_encoded(file.get(names[0])):
        raise DataError("the HDF5 file holds no encoded images, one in each dataset", where=where)
    odd = next((member for member in names if not hdf5_member(f"{name}#{member}")[1]), None)
    if odd is not None:
        raise DataError(f"'{odd}' is no image id: it has a dot", where=where)
    return tuple(f"{name}#{member}" for member in names)


def image_bytes(path: Path) -> bytes:
    """Return the bytes of an image file, or of an image in an HDF5 file: '.../FILE.hdf5#ID'.

    Raises: DataError when it is missing, unreadable or larger than MAX_BYTES; MissingDependencyError without h5py.
    """
    name, member = hdf5_member(str(path))
    if not member:
        return read_bytes(path)
    dataset = _open(Path(name)).get(member)
    if dataset is None or not _is_encoded(dataset):
        raise DataError(f"no encoded image '{member}' in the HDF5 file", where=name)
    if dataset.nbytes > MAX_BYTES:
        raise DataError(f"image is larger than the limit of {MAX_BYTES >> 20} MiB", where=str(path))
    try:
        value = dataset[()]
    except Exception as error:  # h5py raises OSError, ValueError, RuntimeError, ... on damaged bytes
        raise DataError(f"unreadable image ({' '.join(str(error).split())[:200]})", where=str(path)) from None
    return bytes(value) if isinstance(value, bytes) else bytes(value.tobytes())


def _is_encoded(dataset: Any) -> bool:
    """Return True for bytes that lie in the file itself: an opaque or text scalar, or a list of uint8."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        return False
    scalar = dataset.shape == () and dataset.dtype.kind in "VS"
    return scalar or (dataset.ndim == 1 and dataset.dtype == "u1")


def _open(path: Path) -> Any:
    """Return the open HDF5 file; each process has its own, since HDF5 shares nothing across a fork."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read the HDF5 file ({error.strerror})", where=str(path)) from None
    return _opened(str(path), os.getpid(), status.st_ino, status.st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _opened(path: str, process: int, inode: int, changed: int) -> Any:
    try:
        import h5py
    except ImportError:
        raise MissingDependencyError("h5py", "hdf5") from None
    try:
        return h5py.File(path, "r")
    except OSError:
        raise DataError("not an HDF5 file, or a damaged one", where=path) from None
