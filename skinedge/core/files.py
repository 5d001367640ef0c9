"""Files as every command reads and writes them: regular files inside their folder, replaced in one step, with one
error for a disk that refuses.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from skinedge.core.errors import BundleError, SkinedgeError

_DEVICE = re.compile(
    r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE
)  # of Windows
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\:\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SOME_ROOM = 16 << 20  # bytes: reports and pictures
_TOKEN = "[0-9a-f]" * 8


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def name_problem(name: str) -> str | None:
    """Why `name` is not the relative path of a file on every system; None where it is one.

    Parts are separated by '/'; none is empty, '.' or '..', a Windows device or ends in a dot or space; backslashes,
    colons (drives, streams), control and bidirectional characters are refused.
    """
    if _UNSAFE.search(name):
        return "has a character that no file of a run has"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "is no path below the run"
        if part[-1] in ". " or _DEVICE.fullmatch(part.partition(".")[0].rstrip()):
            return "is no file name on Windows"
    return None


def path_inside(root: Path, name: str) -> Path:
    """The path of `name` in `root`: every path that is built from a document's name comes from here.

    Raises: BundleError for a name that is not portable, or that leads out of `root` (also through a symbolic link).
    """
    problem = name_problem(name)
    if problem is None:
        try:
            if (root / name).resolve().is_relative_to(root.resolve()):
                return root / name
            problem = "leads out of it through a symbolic link"
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            problem = f"cannot be followed ({error})"
    raise BundleError(f"the file name {name!r} {problem}", where=str(root), todo="Nothing outside a run is touched.")


def read_regular(path: Path, most: int, error: Callable[..., SkinedgeError] = BundleError) -> bytes:
    """The content of a regular file; a pipe or device is not waited for.

    Args:
        most: bytes at most.
    Raises: `error` for anything else: no such file, a folder, a device, a larger file, no permission.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise error("not a regular file", where=str(path))
            content = stream.read(most + 1)
    except FileNotFoundError:
        raise error("no such file", where=str(path)) from None
    except (OSError, ValueError) as problem:  # ValueError: NUL in the name
        raise error(f"cannot be read ({getattr(problem, 'strerror', None) or problem})", where=str(path)) from None
    if len(content) > most:
        raise error(f"larger than {most >> 10} KiB, the limit for this file", where=str(path))
    return content


def cache_folder() -> Path:
    """SKINEDGE_CACHE, else XDG_CACHE_HOME/skinedge, else ~/.cache/skinedge; it need not exist.

    Raises: SkinedgeError for a user without a home folder.
    """
    named = os.environ.get("SKINEDGE_CACHE")
    if named:
        return expand_home(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or expand_home("~/.cache")) / "skinedge"


def expand_home(path: str) -> Path:
    """Replace a leading `~` by the user's home folder. Raises: SkinedgeError for a user without one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SkinedgeError("this user has no home folder", todo="Set SKINEDGE_CACHE=DIR, or HOME.") from None


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file in one step; a full disk or a crash leaves the old one.

    What a killed process left beside it is removed: its temporary files are those that nobody holds a lock on.
    """
    if path.is_dir():  # also '', which is the current one
        raise BundleError("is a folder, and a file is to be written", where=str(path.absolute()), todo="Name a file.")
    try:
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.{_TOKEN}.part"):
            _remove_unheld(leftover)
        while not _replace(path, data.encode() if isinstance(data, str) else data):
            pass
    except OSError as error:
        raise disk_error(error, path) from None


def _replace(path: Path, data: bytes) -> bool:
    """Write a temporary file and rename it; False when another process took it for a leftover before it was held."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as stream:
            if not _hold(stream.fileno()):
                return False
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            if os.name != "nt":  # there, an open file cannot be renamed
                part.replace(path)
                return True
        part.replace(path)
        return True
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _hold(descriptor: int) -> bool:
    """Lock an open file until it is closed; False when another process holds it or has removed it."""
    if fcntl is None:  # Windows: nobody can remove an open file
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: then nothing is taken for a leftover
        return True
    return os.fstat(descriptor).st_nlink > 0


def _remove_unheld(path: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl is not None:
            with path.open("r+b") as stream:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        else:
            path.unlink()


def write_synced(path: Path, text: str) -> None:
    """Write a new file and have it on the disk when this returns."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk when this returns. Raises: OSError."""
    if os.name == "nt" and path.is_dir():  # Windows has nothing like it
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # a file system that cannot
            raise
    finally:
        os.close(descriptor)


def check_writable(folder: Path, need: int = SOME_ROOM) -> None:
    """Before work whose result is to be kept in `folder`, which need not exist yet: is there a place for it?

    Args:
        need: bytes that the work will write, estimated.
    Raises: BundleError when no file can be made there, or the disk has less room.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise disk_error(error, folder) from None
    if free < need:
        raise BundleError(
            f"the disk has {free >> 20} MiB of free space, about {-(-need >> 20)} MiB are needed; nothing was changed",
            where=str(existing),
            todo="Free some space and run the command again.",
        )


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
