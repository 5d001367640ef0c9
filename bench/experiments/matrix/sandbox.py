"""Run commands in a folder of their own, in processes forked from this one, which has imported what they need."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NoReturn

from experiments.fuzz.case import Outcome
from experiments.matrix.cell import Cell, Result, error_of, judge

LIGHT = (
    "PIL.Image", "PIL.TiffImagePlugin", "rich.table", "filelock", "typer._adapters", "ai_edge_litert.interpreter",
    "onnxruntime", "skinedge.cli", "skinedge.data.audit", "skinedge.data.readers", "skinedge_bench.predict.resumable",
    "skinedge_bench.evaluate.evaluate", "skinedge_bench.verify.verify", "skinedge_bench.runtimes.litert",
    "skinedge_bench.runtimes.ort",
)  # fmt: skip
PACKAGES = Path(__file__).resolve().parents[2]


def import_ahead(*, torch: bool) -> None:
    """Import what the commands need, without starting a thread: a forked process has no other threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in LIGHT:
        importlib.import_module(name)
    importlib.metadata.entry_points = cache(importlib.metadata.entry_points)
    if torch:
        from experiments.faults import process

        process.import_ahead(beyond_training=True)


class Sandbox:
    """A folder with `work`, in which commands run, and the home and temporary folders beside it."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.work, self.cache = root, root / "work", cache
        for name in ("work", "home", "tmp"):
            (root / name).mkdir(parents=True)

    def environment(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """Return environment variables that keep commands inside the sandbox. The cache is shared by all cells."""
        home, temporary = str(self.root / "home"), str(self.root / "tmp")
        own = {"HOME": home, "TMPDIR": temporary, "XDG_RUNTIME_DIR": temporary, "XDG_CACHE_HOME": f"{home}/.cache",
               "XDG_STATE_HOME": f"{home}/.state", "SKINEDGE_SHIPPED": "",
               "SKINEDGE_CACHE": str(self.cache / "skinedge"), "MPLCONFIGDIR": str(self.cache / "matplotlib"),
               "OMP_NUM_THREADS": "1", "SKINEDGE_DEBUG": None, "WORLD_SIZE": None, "RANK": None}  # fmt: skip
        return {name: value for name, value in {**os.environ, **own, **changes}.items() if value is not None}

    def run(self, cell: Cell, argv: Sequence[str]) -> Outcome:
        """Run one command of a cell and wait for it."""
        environ, deadline = self.environment(cell.env), time.monotonic() + 60 * cell.minutes
        child = os.fork()
        if child == 0:
            self._become(argv, environ, cell.shell)
        status, seconds = _wait(child, deadline)
        stdout, stderr = (self._output(name) for name in ("stdout", "stderr"))
        if status is None:
            return Outcome(None, stdout, stderr + b"\nno answer", "hang", seconds=seconds)
        if status < 0:
            cause = f"\nended by {signal.Signals(-status).name}".encode()
            return Outcome(None, stdout, stderr + cause, "crash", seconds=seconds)
        return Outcome(status, stdout, stderr, seconds=seconds)

    def files(self) -> set[str]:
        """Return every path in the working folder."""
        return {str(path.relative_to(self.work)) for path in self.work.rglob("*")}

    def _output(self, name: str) -> bytes:
        with (self.root / name).open("rb") as stream:
            return stream.read(4 << 20)

    def _become(self, argv: Sequence[str], environ: dict[str, str], shell: str) -> NoReturn:
        """Run the command in the forked process; with a shell script, as a program that the script starts."""
        try:
            os.setsid()
            os.environ.clear()
            os.environ.update(environ)
            os.chdir(self.work)
            tempfile.tempdir = None
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number, name in ((1, "stdout"), (2, "stderr")):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
                os.dup2(os.open(self.root / name, flags, 0o600), number)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if shell:
                program = str(Path(sys.executable).with_name("skinedge"))
                paths = [str(path) for path in (PACKAGES.parent, PACKAGES, PACKAGES.parent / "export")]
                environ = {**environ, "PYTHONPATH": os.pathsep.join(paths)}
                os.execve("/bin/sh", ["sh", "-c", shell, "sh", program, *argv], environ)
            from skinedge.cli import process

            sys.argv = ["skinedge", *argv]
            process()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)


def perform(part: str, cell: Cell, sandbox: Sandbox) -> Result:
    """Run a cell and judge its outcome."""
    if cell.skip:
        return Result(part, cell.name, str(cell.expected), None, False, 0.0, f"not run: {cell.skip}")
    cell.prepare(sandbox.work)
    seconds = 0.0
    for argv in cell.commands:
        before, outcome = sandbox.files(), sandbox.run(cell, argv)
        seconds += outcome.seconds
        if b"the folder is in order, but train refuses it" in outcome.stdout or b'"sound": true' in outcome.stdout:
            outcome = replace(outcome, code=0)  # a small folder is read, whatever `data check` says of a training
        if outcome.code != 0:
            break
    left = sorted(name for name in sandbox.files() - before if not name.startswith(cell.writes or ("\0",)))
    with contextlib.redirect_stderr(io.StringIO()):  # notes of the functions that judge
        problem = judge(cell.expected, outcome, sandbox.work, left)
    if outcome.code and argv != cell.commands[-1] and (problem or not cell.expected.gate):
        problem = f"{argv[0]} failed: {problem or error_of(outcome)}"
    output = outcome.stdout + outcome.stderr
    traced = bool(outcome.failure) or b"Traceback (most recent" in output or b"error: unexpected " in output
    verdict = f"DEFECT: {problem}" if problem else "ok"
    return Result(part, cell.name, str(cell.expected), outcome.code, traced, seconds, verdict, error_of(outcome))


def _wait(child: int, deadline: float) -> tuple[int | None, float]:
    """Wait for a process.

    Returns: its status as `os.waitstatus_to_exitcode` gives it, None if it was killed at the deadline; the CPU time of
    it and of its children, in seconds.
    """
    killed = False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return None if killed else os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline and not killed:
            os.killpg(child, signal.SIGKILL)
            killed = True
        time.sleep(0.005)
