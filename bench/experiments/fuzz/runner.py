"""Run inputs one after another in reused processes; a crash or a hang ends the process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from experiments.fuzz.box import Box
from experiments.fuzz.case import Case, Outcome
from experiments.fuzz.oracles import Finding, findings

HANG = 10  # timeout in seconds, of time on a core
SECOND_TIMEOUT = 60  # of a second try: a machine with other work, or short of memory, slows sound commands too
LIFE = 3000  # inputs until a child process is replaced
PACKAGES = Path(__file__).resolve().parents[2]


class Runner:
    """Runs cases in `box`; keeps one child process for commands that import torch and one for the others."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self._children: dict[bool, Child] = {}
        self._plain: dict[tuple[Any, ...], Outcome] = {}

    def run(self, case: Case) -> tuple[Outcome, list[Finding]]:
        """Run one case, restore the box, and return the outcome and its findings."""
        plain = self._without_mutation(case) if case.judge or case.guarded else None
        self.box.put(case.files)
        outcome = self._outcome(case)
        if outcome.failure == "hang":
            self.box.restore()
            self.box.put(case.files)
            outcome = self._outcome(case, timeout=SECOND_TIMEOUT)
        faults = findings(case, outcome, plain, self.box.outside(case), self.box.work)
        self.box.restore()
        return outcome, faults

    def close(self) -> None:
        for child in self._children.values():
            child.close()

    def _without_mutation(self, case: Case) -> Outcome:
        key = (case.argv, tuple(case.env.items()), case.torch)
        if key not in self._plain:
            self._plain[key] = self._outcome(case, watch=True)
            self.box.restore()
            if self._plain[key].code != 0:
                message = self._plain[key].stderr.decode("utf-8", "replace")
                raise RuntimeError(f"command fails without a mutation: skinedge {' '.join(case.argv)}: {message}")
        return self._plain[key]

    def _outcome(self, case: Case, *, watch: bool = False, timeout: float = HANG) -> Outcome:
        environment = {**self.box.environment, **case.env}
        if case.fresh:
            return fresh(case, environment, self.box.work)
        child = self._children.get(case.torch)
        if child is None or child.jobs >= LIFE or not child.alive():
            if child is not None:
                child.close()
            child = self._children[case.torch] = Child(self.box.root.parent, with_torch=case.torch)
        job = {
            "argv": case.argv,
            "cwd": str(self.box.work),
            "env": environment,
            "encoding": case.encoding,
            "watch": watch,
        }
        return child.run(job, timeout)


class Child:
    """One process of `fuzz.child`."""

    def __init__(self, folder: Path, *, with_torch: bool) -> None:
        kind = "torch" if with_torch else "light"
        self.folder, self.jobs = folder / kind, 0
        self.folder.mkdir(exist_ok=True)
        self._connection, theirs = Pipe()
        paths = os.pathsep.join([str(PACKAGES), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "experiments.fuzz.child", str(theirs.fileno()), str(self.folder), kind],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
            start_new_session=True,
        )
        theirs.close()
        self._connection.recv()

    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: dict[str, Any], timeout: float = HANG) -> Outcome:
        """Run one job; a crash or a hang of the process is an outcome too."""
        self.jobs += 1
        self._connection.send(job)
        seconds, earlier_delay = 0.0, run_delay(self._process.pid)
        while not self._connection.poll(1):
            delay = run_delay(self._process.pid)
            seconds += max(0.0, 1 - (delay - earlier_delay))  # not wall time: a suspended machine is not a hang
            earlier_delay = delay
            if seconds > timeout:
                self.close()
                return Outcome(None, b"", b"no answer", "hang", seconds=seconds)
        try:
            outcome: Outcome = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.wait()
            stderr = (self.folder / "stderr").read_bytes()[-20_000:]
            cause = signal.Signals(-self._process.returncode).name if self._process.returncode < 0 else "exit"
            return Outcome(None, b"", stderr + f"\nended by {cause}\n".encode(), "crash")
        return outcome

    def close(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._connection.close()


def fresh(case: Case, environment: dict[str, str | None], work: Path) -> Outcome:
    """Run the command in a new process, as a user starts it."""
    environ = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    command = [sys.executable, "-m", "skinedge", *case.argv]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=work, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=6 * HANG)  # a slow start on a loaded machine is not a hang
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return Outcome(None, b"", b"no answer", "hang", seconds=time.monotonic() - started)
    failure = "crash" if process.returncode < 0 else ""
    return Outcome(None if failure else process.returncode, stdout, stderr, failure, seconds=time.monotonic() - started)


def run_delay(pid: int) -> float:
    """Return the seconds that a process and its children waited for a free core."""
    total = 0.0
    for process in (pid, *_children(pid)):
        try:
            total += int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
        except (OSError, IndexError):
            continue
    return total


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
