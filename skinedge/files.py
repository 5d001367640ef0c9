"""Files as every command writes them: replaced in one step, with one error for a disk that refuses."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from pathlib import Path

from skinedge.errors import BundleError


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file in one step; a full disk or a crash leaves the old one."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(error, path) from None


def is_disk_error(error: Exception) -> bool:
    """Whether a write failed for the disk's sake: full, over quota, read-only or not permitted.

    safetensors has an exception of its own that only tells by its text.
    """
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return (isinstance(error, OSError) and error.errno in codes) or "No space left on device" in str(error)


def disk_error(error: Exception, path: Path) -> BundleError:
    """What to tell a user whose write failed."""
    full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full; nothing was changed" if full else f"cannot write ({getattr(error, 'strerror', error)})"
    return BundleError(what, where=str(path), todo="Free some space and run the command again." if full else None)
