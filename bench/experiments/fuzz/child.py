"""A worker process that runs the commands sent by its parent through `skinedge.cli.main`.

Its standard output and error are files that the parent reads, so that messages of native code count too. A crash of
native code ends this process; the parent counts it and starts another one.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import os
import resource
import sys
import tempfile
import time
import traceback
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from experiments.fuzz.case import Outcome

MEMORY = 12 << 30  # bytes of address space, so that a decompression bomb fails in this process only
_opened: set[str] | None = None


def serve(connection: Connection, folder: Path, with_torch: bool) -> None:
    """Answer each job with its outcome until the connection closes. folder: of the two output files."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_note_open)
    _preload(with_torch)
    environ = dict(os.environ)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), number)
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(_run(job, environ))


def _preload(with_torch: bool) -> None:
    """Look up plug-ins, build the command tree and import torch once, since each is slow."""
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)
    import typer.main

    typer.main.get_command = cache(typer.main.get_command)
    import skinedge.cli  # noqa: F401  sets environment variables for all jobs

    if with_torch:
        import peft  # noqa: F401
        import timm  # noqa: F401


def _run(job: dict[str, Any], environ: dict[str, str]) -> Outcome:
    global _opened
    for number in (1, 2):
        os.ftruncate(number, 0)
    os.environ.clear()
    os.environ.update(environ)
    for name, value in job["env"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    os.chdir(job["cwd"])
    tempfile.tempdir = None
    sys.argv = ["skinedge", *job["argv"]]
    streams = [_stream(number, job["encoding"]) for number in (1, 2)]
    sys.stdout, sys.stderr = streams
    _reset_peak()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    _opened = set() if job["watch"] else None
    started = time.process_time()
    code, failure = _main()
    opened, _opened = frozenset(_opened or ()), None
    seconds = time.process_time() - started
    peak = _peak_mib()
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = max(peak, children / 1024) if children > before else peak
    output = [_content(number) for number in (1, 2)]
    return Outcome(code, *output, failure, peak, "torch" in sys.modules, seconds, opened)


def _main() -> tuple[int | None, str]:
    """Run the command; return (exit code, '') or (None, 'traceback')."""
    from skinedge.cli import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        return None, "traceback"
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        return None, "traceback"
    if isinstance(code, str):
        os.write(2, code.encode("utf-8", "backslashreplace"))
        code = 1
    return int(code or 0) if isinstance(code, int | None) else 1, ""


def _stream(number: int, encoding: str) -> io.TextIOWrapper:
    errors = "strict" if number == 1 else "backslashreplace"
    return io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding=encoding, errors=errors, write_through=True)


def _note_open(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        with contextlib.suppress(OSError, ValueError):
            _opened.add(os.path.realpath(os.fsdecode(arguments[0])))


def _content(number: int) -> bytes:
    size = os.fstat(number).st_size
    return os.pread(number, min(size, 4 << 20), 0)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), Path(sys.argv[2]), with_torch=sys.argv[3] == "torch")
