"""Safe file access: portable names inside a folder, bounded reads, atomic writes, and one error for a failing disk."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from skinedge.core.errors import BundleError, SkinedgeError

_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\:\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SOME_ROOM = 16 << 20  # bytes: reports and pictures
_TOKEN = "[0-9a-f]" * 8


def sha256(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def name_problem(name: str) -> str | None:
    """Return why `name` is not a portable relative file path; None if it is one.

    Parts are separated by '/'. Refused are parts that are empty, '.', '..' or a Windows device, or that end in a dot or
    space; and backslashes, colons (drives, streams), control and bidirectional characters.
    """
    if _UNSAFE.search(name):
        return "contains a character that is not allowed in a run's file names"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return "is not a relative path inside the run"
        if part[-1] in ". " or _WINDOWS_DEVICE.fullmatch(part.partition(".")[0].rstrip()):
            return "is not a valid file name on Windows"
    return None


def path_inside(root: Path, name: str) -> Path:
    """Return the path of `name` in `root`; used for every file name read from a document.

    Raises: BundleError for a name that is not portable, or that leads outside `root` (also through a symbolic link).
    """
    problem = name_problem(name)
    if problem is None:
        try:
            if (root / name).resolve().is_relative_to(root.resolve()):
                return root / name
            problem = "leads outside the run through a symbolic link"
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
            problem = f"cannot be resolved ({error})"
    raise BundleError(
        f"the file name {name!r} {problem}", where=str(root), todo="A run refers only to files inside its own folder."
    )


def read_regular(path: Path, most: int, error: Callable[..., SkinedgeError] = BundleError) -> bytes:
    """Read a regular file without ever blocking on a pipe or device.

    Args:
        most: maximum size in bytes.
    Raises: `error` for a missing or larger file, a folder, a device, or no permission.
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
    """Return SKINEDGE_CACHE, else XDG_CACHE_HOME/skinedge, else ~/.cache/skinedge; the folder may not exist.

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


def encode(text: str) -> bytes:
    """Return the text in UTF-8, with the bytes of file names that are not UTF-8 as they are (PEP 383)."""
    return text.encode("utf-8", "surrogateescape")


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file atomically; a full disk or a crash leaves the previous file intact.

    Also removes temporary files that killed processes left beside it: those that no process has locked.
    """
    if path.is_dir():  # also '', the current folder
        raise BundleError("is a folder, not a file", where=str(path.absolute()), todo="Give the path of a file.")
    try:
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.{_TOKEN}.part"):
            _remove_unlocked(leftover)
        while not _replace(path, encode(data) if isinstance(data, str) else data):
            pass
    except OSError as error:
        raise disk_error(error, path) from None


def _replace(path: Path, data: bytes) -> bool:
    """Write a temporary file and rename it; False if another process removed it before it was locked."""
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")
    try:
        with temporary.open("xb") as stream:
            if not _lock(stream.fileno()):
                return False
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            if os.name != "nt":  # Windows cannot rename an open file
                temporary.replace(path)
                return True
        temporary.replace(path)
        return True
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process has locked or removed it."""
    if fcntl is None:  # Windows: an open file cannot be removed
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: no file counts as a leftover
        return True
    return os.fstat(descriptor).st_nlink > 0


def _remove_unlocked(path: Path) -> None:
    with contextlib.suppress(OSError):
        if fcntl is not None:
            with path.open("r+b") as stream:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        else:
            path.unlink()


def write_synced(path: Path, text: str) -> None:
    """Write a new file and flush it to disk."""
    path.write_text(text, encoding="utf-8")
    sync(path)


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to disk. Raises: OSError."""
    if os.name == "nt" and path.is_dir():  # Windows cannot flush a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # unsupported by the file system
            raise
    finally:
        os.close(descriptor)


def check_writable(folder: Path, need: int = SOME_ROOM) -> None:
    """Check that `folder`, which may not exist yet, can be written to; call before the work that fills it.

    Args:
        need: estimated bytes that the work will write.
    Raises: BundleError when no file can be created there, also below a file, or the disk has less free space.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise _file_in_the_way(existing, folder)
    try:
        import tempfile

        tempfile.TemporaryFile(dir=existing).close()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise disk_error(error, folder.absolute()) from None
    if free < need:
        raise BundleError(
            f"the disk has {free >> 20} MiB of free space, about {-(-need >> 20)} MiB are needed; nothing was changed",
            where=str(existing),
            todo="Free some space and run the command again.",
        )


def is_disk_error(error: Exception) -> bool:
    """Return True for a failed write whose cause is the disk: full, over quota, read-only or not permitted.

    safetensors raises its own exception, recognised by its message.
    """
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
    return (isinstance(error, OSError) and error.errno in codes) or "No space left on device" in str(error)


def _file_in_the_way(file: Path, path: Path) -> BundleError:
    what = f"cannot write: {file.name} is a file, not a folder"
    return BundleError(what, where=str(path), todo="Choose a place in a folder.")


def disk_error(error: Exception, path: Path) -> BundleError:
    """Return the error to show for a failed write to `path`."""
    existing = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not existing.is_dir():
        return _file_in_the_way(existing, path)
    full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    what = "the disk is full; nothing was changed" if full else f"cannot write ({getattr(error, 'strerror', error)})"
    return BundleError(what, where=str(path), todo="Free some space and run the command again." if full else None)
