"""Try a model file of unknown origin in a child process first: it may crash its runtime, fill the memory or never end.

The child opens the file and runs one grey image; this process opens it afterwards, knowing what that takes. This guards
against damage, not against a model that was made to compute for ever on certain images. Files that passed are
remembered in the user's cache folder, by their bytes and the runtime's version, and so are those that
`skinedge export` made on this machine. A listed file is tried too: whoever damages it can write its hash as well.
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

# Address space: Python with LiteRT or ONNX Runtime and the shipped model peaks at 230 MiB, of which 80 are in memory. A
# model holds its weights up to five times while it is loaded.
MEMORY_MIB, PER_MODEL_MIB = 1280, 5
SECONDS, MIB_PER_SECOND = 10, 4  # of CPU time: the shipped model takes 2
LOOP, LOOP_SECONDS = 1_000_000, 0.04  # a sum of so many numbers takes so long where SECONDS was set; a Pi gets more
FREE_SIDE = 224  # pixels, where the file takes any size
PACKAGE = Path(__file__).resolve().parents[1]


def open_tried(path: Path, runtime: Runtime, threads: int = 1) -> Session:
    """Open a model file after a trial. Raises: as `try_file`, and as the runtime's `open`."""
    try_file(path, runtime)
    return runtime.open(path, threads)


def try_file(path: Path, runtime: Runtime) -> None:
    """Open the file and run one image in a child process, once for the same bytes; not what is installed with skinedge.

    Raises: BundleError when the child crashes or passes a limit; whatever error the runtime gives to the file.
    """
    if not path.is_file() or getattr(runtime, "safe_format", False) or PACKAGE in path.resolve().parents:
        return
    mark = _mark(path, runtime)
    if mark is None or not mark.is_file():
        _try(path, runtime.name)
        _keep(mark)


def remember(path: Path, runtime: Runtime) -> None:
    """Say of a file that this process made and ran that it needs no trial on this machine."""
    _keep(_mark(path, runtime))


def _mark(path: Path, runtime: Runtime) -> Path | None:
    """The empty file in the cache folder that says: these bytes were run by this version of the runtime.

    None for a user without such a folder.
    """
    with contextlib.suppress(SkinedgeError):
        return cache_folder() / "tried" / f"{runtime.name}-{runtime.version()}" / sha256(path)
    return None


def _keep(mark: Path | None) -> None:
    """A cache folder that cannot be written costs another trial the next time."""
    if mark is None:
        return
    with contextlib.suppress(OSError, SkinedgeError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, "")


def _seconds(size_mib: int) -> int:
    """Limit of CPU time: SECONDS and more for a large file, as many times longer as this machine computes slower."""
    start = time.process_time()
    sum(range(LOOP))
    slower = max(1.0, (time.process_time() - start) / LOOP_SECONDS)
    return round(slower * (SECONDS + size_mib // MIB_PER_SECOND))


def _try(path: Path, runtime: str) -> None:
    from skinedge.system.child_process import run_python

    size_mib = path.stat().st_size >> 20
    memory_mib, seconds = MEMORY_MIB + PER_MODEL_MIB * size_mib, _seconds(size_mib)
    limits = f"limits: {memory_mib} MiB of memory, {seconds} s"
    try:
        done = run_python("skinedge.run.file_trial", runtime, str(path), memory_mib=memory_mib, seconds=seconds)
    except SkinedgeError as error:
        raise BundleError(f"{runtime} does not come to an end with this file ({error.what})", where=str(path)) from None
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise BundleError(f"{runtime} crashes on this file, or it takes too much ({name}; {limits})", where=str(path))
    answer = done.stdout.strip().rpartition("\n")[2]
    if not answer:
        raise BundleError(f"{runtime} gives no answer for this file ({limits})", where=str(path))
    refused = _restored(parse_json(answer, dict[str, str], "the answer of a child process"))
    if refused is not None:
        raise refused


def _restored(answer: dict[str, str]) -> SkinedgeError | None:
    """The error that the child met, if it met one; what is not installed, this process finds out itself."""
    kinds = {kind.__name__: kind for kind in (BundleError, ConfigError, DataError, UnavailableError)}
    if answer.get("kind") not in kinds:
        return None
    return kinds[answer["kind"]](answer["what"], where=answer["where"] or None, todo=answer["todo"] or None)


def _answer(runtime: str, path: Path) -> dict[str, str]:
    """What the child says: nothing when all is well."""
    try:
        session = load(RUNTIMES, runtime).open(path, 1)
        side = max(session.inputs[0].shape[1:3])  # NHWC: S, S; NCHW: 3, S
        side = side if side > 3 else FREE_SIDE
        session.run(np.full((1, side, side, 3), 128, np.uint8))
    except SkinedgeError as error:
        return {"kind": type(error).__name__, "what": error.what, "where": error.where or "", "todo": error.todo or ""}
    except Exception as error:  # MemoryError, and what a third-party runtime may raise
        what = f"{runtime} cannot run this file ({type(error).__name__})"
        return {"kind": "BundleError", "what": what, "where": str(path), "todo": ""}
    return {}


if __name__ == "__main__":
    print("\n" + json.dumps(_answer(sys.argv[1], Path(sys.argv[2]))))
