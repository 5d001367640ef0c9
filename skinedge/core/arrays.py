"""Read untrusted .npz archives: check sizes, dtypes and shapes before allocating an array."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from skinedge.core.errors import SkinedgeError
from skinedge.core.zip_file import open_zip

# Limit of the unpacked size: the larger of FREE_BYTES and MAX_RATIO times the compressed size. Photos compress to 1/2,
# our golden images to 1/30; zeros, the content of a zip bomb, to 1/1000.
FREE_BYTES = 256 << 20
MAX_RATIO = 100
_KINDS = "biufU"  # numbers and text; no records, and no objects, which would be unpickled
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Arrays:
    """An open archive. names: array names."""

    names: tuple[str, ...]
    _archive: zipfile.ZipFile

    def read(self, name: str, kinds: str, *dims: int) -> NDArray[Any]:
        """Read the array `name`.

        Args:
            kinds: allowed dtype kinds ('f', 'iu', 'U', ...); dims: allowed numbers of dimensions.
        Raises: ValueError, before allocating, for another kind or shape, or a size that differs from the member's.
        """
        member = self._archive.getinfo(f"{name}.npy")
        with self._archive.open(member) as stream:
            version = npy.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"'{name}' has an unsupported .npy version")
            shape, _, dtype = _HEADERS[version](stream)
            if dtype.kind not in kinds or dtype.kind not in _KINDS or len(shape) not in dims:
                raise ValueError(f"'{name}' is {dtype} {shape}")
            if dtype.itemsize == 0:  # zero-width text: zero bytes would hold any number of elements
                raise ValueError(f"'{name}' is {dtype} {shape}")
            if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                raise ValueError(f"'{name}' has {member.file_size} bytes, but its header states {dtype} {shape}")
        with self._archive.open(member) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))


@contextmanager
def open_arrays(path: Path, kind: type[SkinedgeError], what: str) -> Iterator[Arrays]:
    """Open an .npz file; raises `kind` as `zip_file.open_zip` does, and for arrays too large for the file's size."""
    with open_zip(path, kind, what) as archive:
        members = archive.infolist()
        compressed_bytes = sum(member.compress_size for member in members)
        if sum(member.file_size for member in members) > max(FREE_BYTES, MAX_RATIO * compressed_bytes):
            raise ValueError("its arrays are too large for a file of this size")
        other_files = [member.filename for member in members if not member.filename.endswith(".npy")]
        if other_files:
            raise ValueError(f"'{other_files[0]}' is not an array")
        yield Arrays(tuple(member.filename.removesuffix(".npy") for member in members), archive)
