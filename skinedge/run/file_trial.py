"""Try a model file of unknown origin in a child process: it may crash its runtime, exhaust memory or never finish.

The child opens the file and runs one grey image; only then does this process open it. This guards against damaged
files, not against a model built to compute for ever on certain images. Files that passed are recorded in the user's
cache folder, by their checksum and the runtime's version, and so are those that `skinedge export` made on this machine.
Files listed in a manifest are tried too, because a person who damages a file can also update its hash.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from pathlib import Path

import numpy as np

from skinedge.core.errors import BundleError, ConfigError, DataError, SkinedgeError, UnavailableError
from skinedge.core.files import cache_folder, sha256, write_atomic
from skinedge.core.json_io import parse_json
from skinedge.run.plugins import RUNTIMES, Runtime, Session, load

# Address space: Python with LiteRT or ONNX Runtime and the bundled model peaks at 230 MiB, 80 of them resident. Loading
# a model takes up to five times the size of its weights.
MEMORY_MIB, PER_MODEL_MIB = 1280, 5
SECONDS, MIB_PER_SECOND = 10, 4  # of CPU time: the bundled model takes 2
LOOP, LOOP_SECONDS = 1_000_000, 0.04  # reference: time to sum LOOP numbers where SECONDS was chosen; a Pi gets more
FREE_SIDE = 224  # pixels, for files that take any size
PACKAGE = Path(__file__).resolve().parents[1]


def open_tried(path: Path, runtime: Runtime, threads: int = 1, *, checksum: str | None = None) -> Session:
    """Open a model file after a trial; arguments and errors are those of `try_file` and the runtime's `open`."""
    try_file(path, runtime, checksum)
    return runtime.open(path, threads)


def try_file(path: Path, runtime: Runtime, checksum: str | None = None) -> None:
    """Open a model file and run one image in a child process, unless the same bytes passed before.

    Files that are installed with skinedge are trusted.

    Args:
        checksum: SHA-256 of the file, if the caller has verified it; None computes it.
    Raises: BundleError when the child crashes or exceeds a limit; the runtime's own errors for the file.
    """
    if not path.is_file() or getattr(runtime, "safe_format", False) or PACKAGE in path.resolve().parents:
        return
    mark = _mark(path, runtime, checksum)
    if mark is None or not mark.is_file():
        _try(path, runtime.name)
        _write_mark(mark)


def remember(path: Path, runtime: Runtime, checksum: str | None = None) -> None:
    """Record that a file needs no trial on this machine, because this process made and ran it."""
    _write_mark(_mark(path, runtime, checksum))


def _mark(path: Path, runtime: Runtime, checksum: str | None) -> Path | None:
    """Return the path of the empty cache file that marks these bytes as run by this version of the runtime.

    None without a cache folder.
    """
    with contextlib.suppress(SkinedgeError):
        return cache_folder() / "tried" / f"{runtime.name}-{runtime.version()}" / (checksum or sha256(path))
    return None


def _write_mark(mark: Path | None) -> None:
    """Create the mark; without a writable cache folder the next opening costs another trial."""
    if mark is None:
        return
    with contextlib.suppress(OSError, SkinedgeError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, "")


def _seconds(size_mib: int) -> int:
    """Return the CPU time limit: SECONDS plus a share for the file's size, scaled up on slower machines."""
    start = time.process_time()
    sum(range(LOOP))
    slowdown = max(1.0, (time.process_time() - start) / LOOP_SECONDS)
    return round(slowdown * (SECONDS + size_mib // MIB_PER_SECOND))


def _try(path: Path, runtime: str) -> None:
    from skinedge.system.child_process import run_python

    size_mib = path.stat().st_size >> 20
    memory_mib, seconds = MEMORY_MIB + PER_MODEL_MIB * size_mib, _seconds(size_mib)
    limits = f"limits: {memory_mib} MiB of memory, {seconds} s"
    try:
        done = run_python("skinedge.run.file_trial", runtime, str(path), memory_mib=memory_mib, seconds=seconds)
    except SkinedgeError as error:
        raise BundleError(f"{runtime} does not finish with this file ({error.what})", where=str(path)) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"{runtime} crashes on this file or exceeds a limit ({name}; {limits})", where=str(path))
    answer = done.stdout.strip().rpartition("\n")[2]
    if not answer:
        raise BundleError(f"{runtime} gives no result for this file ({limits})", where=str(path))
    child_error = _child_error(parse_json(answer, dict[str, str], "the answer of a child process"))
    if child_error is not None:
        raise child_error


def _child_error(answer: dict[str, str]) -> SkinedgeError | None:
    """Rebuild the child's error, None if it succeeded; this process finds missing packages itself."""
    kinds = {kind.__name__: kind for kind in (BundleError, ConfigError, DataError, UnavailableError)}
    if answer.get("kind") not in kinds:
        return None
    return kinds[answer["kind"]](answer["what"], where=answer["where"] or None, todo=answer["todo"] or None)


def _answer(runtime: str, path: Path) -> dict[str, str]:
    """Open and run the file, in the child. Returns: the fields of the error, {} on success."""
    try:
        session = load(RUNTIMES, runtime).open(path, 1)
        side = max(session.inputs[0].shape[1:3])  # NHWC: S, S; NCHW: 3, S
        side = side if side > 3 else FREE_SIDE
        run = getattr(session, "try_out", session.run)  # our own: whatever the outputs are
        run(np.full((1, side, side, 3), 128, np.uint8))
    except SkinedgeError as error:
        return {"kind": type(error).__name__, "what": error.what, "where": error.where or "", "todo": error.todo or ""}
    except Exception as error:  # MemoryError, and any error of a third-party runtime
        what = f"{runtime} cannot run this file ({type(error).__name__})"
        return {"kind": "BundleError", "what": what, "where": str(path), "todo": ""}
    return {}


if __name__ == "__main__":
    print("\n" + json.dumps(_answer(sys.argv[1], Path(sys.argv[2]))))
