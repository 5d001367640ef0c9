"""Open untrusted zip archives: check the directory before unpacking a member."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from skinedge.core.errors import SkinedgeError

MAX_DIRECTORY = 1 << 20  # bytes of the member list, which zipfile reads completely
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def open_zip(path: Path, kind: type[SkinedgeError], what: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive with a valid directory: no duplicate, overlapping, encrypted or oversized members.

    what: the expected kind of file, for the error, e.g. 'a MedMNIST archive'.
    Raises: `kind` for any error, here or while members are read in the body of the `with` statement.
    """
    try:
        with path.open("rb") as stream:
            _check_directory_size(stream)
            with zipfile.ZipFile(stream) as archive:
                _check_members(archive.infolist(), path.stat().st_size)
                yield archive
    except SkinedgeError:
        raise
    except MemoryError:
        raise kind(f"not enough memory to read {what}", where=str(path)) from None
    except Exception as error:  # zipfile and numpy raise anything on damaged bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"not {what}, or a damaged one ({reason})", where=str(path)) from None


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Unpack one member; raises KeyError if it is missing, ValueError before unpacking more than `limit` bytes."""
    info = archive.getinfo(name)
    if info.file_size > limit:
        raise ValueError(f"'{name}' is larger than the limit of {limit} bytes")
    return archive.read(info)


def _check_directory_size(stream: BinaryIO) -> None:
    """Check the directory's size with zipfile's own parser: another parser might locate a different directory."""
    record = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if record is not None and record[zipfile._ECD_SIZE] > MAX_DIRECTORY:  # type: ignore[attr-defined]
        raise ValueError("the archive's directory is too large")
    stream.seek(0)


def _check_members(members: list[zipfile.ZipInfo], file_size: int) -> None:
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        raise ValueError("duplicate member")
    if sum(info.compress_size for info in members) > file_size:
        raise ValueError("the members are larger than the file")
    for info in members:
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise ValueError(f"'{info.filename}' is encrypted, or compressed with an unsupported method")
