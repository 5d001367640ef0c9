"""Read .npz archives of any origin: sizes, types and shapes are checked before an array is allocated."""

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

# What the arrays may take: this much in any case, and what a file of this size may pack. Photos shrink to a half, our
# golden images to a thirtieth; zeros shrink to a thousandth, which is what a bomb is made of.
FREE_BYTES = 256 << 20
MAX_RATIO = 100
_KINDS = "biufU"  # numbers and text; no objects, which would be unpickled, and no records
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class Arrays:
    """An open archive. names: of its arrays."""

    names: tuple[str, ...]
    _archive: zipfile.ZipFile

    def read(self, name: str, kinds: str, *dims: int) -> NDArray[Any]:
        """Read the array `name`, of one of the dtype kinds ('f', 'iu', 'U', ...) and numbers of dimensions.

        Raises: ValueError, before it is allocated, for another kind or shape, or a size that its member has not.
        """
        member = self._archive.getinfo(f"{name}.npy")
        with self._archive.open(member) as stream:
            version = npy.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"'{name}' is of an unknown version")
            shape, _, dtype = _HEADERS[version](stream)
            if dtype.kind not in kinds or dtype.kind not in _KINDS or len(shape) not in dims:
                raise ValueError(f"'{name}' is {dtype} {shape}")
            if dtype.itemsize == 0:  # text of no characters: any number of them fits into no byte
                raise ValueError(f"'{name}' is {dtype} {shape}")
            if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                raise ValueError(f"'{name}' has {member.file_size} bytes, its header says {dtype} {shape}")
        with self._archive.open(member) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))


@contextmanager
def open_arrays(path: Path, kind: type[SkinedgeError], what: str) -> Iterator[Arrays]:
    """Open an .npz file; raises `kind` as `zip_file.open_zip` does, and for arrays too large for the file."""
    with open_zip(path, kind, what) as archive:
        members = archive.infolist()
        packed = sum(member.compress_size for member in members)
        if sum(member.file_size for member in members) > max(FREE_BYTES, MAX_RATIO * packed):
            raise ValueError("its arrays are too large for a file of this size")
        wrong = [member.filename for member in members if not member.filename.endswith(".npy")]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is no array")
        yield Arrays(tuple(member.filename.removesuffix(".npy") for member in members), archive)
