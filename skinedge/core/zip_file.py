"""Open zip archives of any origin: the directory is checked before anything is unpacked."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from skinedge.core.errors import SkinedgeError

MAX_DIRECTORY = 1 << 20  # bytes of the list of members; zipfile reads all of it
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def open_zip(path: Path, kind: type[SkinedgeError], what: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose directory is sound: no member twice, overlapping, encrypted, or larger than the file.

    what: the file should be, for the error, e.g. 'a MedMNIST archive'.
    Raises: `kind`, whatever goes wrong here or while members are read in the body of the `with` statement.
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
    except Exception as error:  # zipfile and numpy raise whatever the bytes make them raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise kind(f"not {what}, or a damaged one ({reason})", where=str(path)) from None


def read_member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Unpack one member; raises ValueError, before that, when it is larger than `limit` bytes, KeyError without it."""
    info = archive.getinfo(name)
    if info.file_size > limit:
        raise ValueError(f"'{name}' is larger than the limit of {limit} bytes")
    return archive.read(info)


def _check_directory_size(stream: BinaryIO) -> None:
    """Read the record at the archive's end as zipfile will: another reading than its own could be led elsewhere."""
    record = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if record is not None and record[zipfile._ECD_SIZE] > MAX_DIRECTORY:  # type: ignore[attr-defined]
        raise ValueError("the archive's directory is too large")
    stream.seek(0)


def _check_members(members: list[zipfile.ZipInfo], file_size: int) -> None:
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        raise ValueError("a member comes twice")
    if sum(info.compress_size for info in members) > file_size:
        raise ValueError("the members are larger than the file")
    for info in members:
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise ValueError(f"'{info.filename}' is encrypted, or packed in another way than zip's usual one")
