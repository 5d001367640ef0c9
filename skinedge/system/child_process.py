"""Start other processes so that they end with this one, and run no code that happens to lie in the current folder.

A child leads a process group of its own and holds one end of a pipe. When this process ends, however it ends, the pipe
closes: Linux then kills the whole group (fcntl(2), F_SETSIG), and elsewhere a Python child does so itself. On Windows
only children that read their standard input end with it.

Run as `python -m skinedge.system.child_process PIPE MEMORY_MIB SECONDS MODULE ARGUMENTS...`, it becomes such a Python
child.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from skinedge.core.errors import SkinedgeError

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
IDLE = 10  # times its limit of CPU seconds that a child may take in all: this machine may be busy
Stream = IO[bytes] | int | None


class Child:
    """A running process; as a context, it is killed at its end with all that it started."""

    def __init__(self, command: Sequence[str | Path], pipe: tuple[int, int], **options: Any) -> None:
        """pipe: its reading end goes to the child, its writing end stays here; both are closed by this object."""
        reading, writing = pipe
        self._writing: int | None = writing
        posix: dict[str, Any] = {"process_group": 0, "pass_fds": [reading]} if os.name == "posix" else {}
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(command, **posix, **options)
            _kill_when_closed(reading, self.process.pid)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it still runs, and all that it started."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if os.name == "posix":
                    os.killpg(self.process.pid, signal.SIGKILL)
                else:
                    self.process.kill()
        self.process.wait()
        if self._writing is not None:
            os.close(self._writing)
            self._writing = None
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # what could not be sent any more
                    stream.close()


def start_python(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    one_thread: bool = True,
    memory_mib: int = 0,
    seconds: int = 0,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = None,
    stderr: Stream = None,
) -> Child:
    """Start `python -m MODULE ARGUMENTS`; it finds the modules that this process does, none in the current folder.

    Args:
        environment: variables to add.
        one_thread: let matrix products take one thread.
        memory_mib, seconds: limits of address space and CPU time, 0 for none; not on Windows.
    """
    pipe = os.pipe()
    start = [
        sys.executable,
        "-P",
        "-m",
        "skinedge.system.child_process",
        str(pipe[0]),
        str(memory_mib),
        str(seconds),
        module,
    ]
    threads = ONE_THREAD if one_thread else {}
    known = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path()), **threads, **(environment or {})}
    return Child([*start, *arguments], pipe, env=known, stdin=stdin, stdout=stdout, stderr=stderr)


def run_python(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    one_thread: bool = True,
    memory_mib: int = 0,
    seconds: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` to its end; see `start_python`.

    Raises: SkinedgeError when it takes much longer than `seconds` although it does not compute.
    """
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    child = start_python(
        module,
        *arguments,
        environment=environment,
        one_thread=one_thread,
        memory_mib=memory_mib,
        seconds=seconds,
        **streams,
    )
    return _to_its_end(child, IDLE * seconds or None)


def run_program(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stderr: Stream = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a program, without input, to its end. environment: variables to add; the rest is this process's."""
    known = {**os.environ, **(environment or {})}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
    return _to_its_end(Child(command, os.pipe(), cwd=cwd, env=known, **streams), None)


def _to_its_end(child: Child, seconds: float | None) -> subprocess.CompletedProcess[str]:
    with child:
        try:
            out, err = child.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise SkinedgeError(f"a process took more than {seconds:.0f} s and was ended") from None
        command = child.process.args
    texts = [(text or b"").decode(errors="replace").replace("\r\n", "\n") for text in (out, err)]
    return subprocess.CompletedProcess(command, child.process.returncode, *texts)


def search_path() -> list[str]:
    """Where this process finds modules: not in the current folder, unless PYTHONPATH names it or skinedge is there."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise SkinedgeError("the current folder is gone", todo="Change to one that exists.") from None
    package = Path(__file__).resolve().parents[2]
    named = [Path(entry).absolute() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    kept = {package, *named}
    paths = [Path(entry).absolute() for entry in sys.path if entry]
    return [str(path) for path in paths if path != here or here in kept]


def _kill_when_closed(reading: int, group: int) -> None:
    """Have the kernel kill a process group as soon as nobody can write into a pipe that it holds open."""
    if sys.platform != "linux":
        return
    import fcntl

    with contextlib.suppress(OSError):  # a kernel without it: Python children still watch the pipe
        fcntl.fcntl(reading, fcntl.F_SETOWN, -group)
        fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)


def _watch(pipe: int) -> None:
    """End this process's group when the process that started it has ended."""
    with contextlib.suppress(OSError):
        os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


def _become(pipe: int, memory_mib: int, seconds: int, module: str, arguments: Sequence[str]) -> None:
    if os.name == "posix":
        import resource

        threading.Thread(target=_watch, args=[pipe], daemon=True).start()
        for limit, value in ((resource.RLIMIT_AS, memory_mib << 20), (resource.RLIMIT_CPU, seconds)):
            if value:
                resource.setrlimit(limit, (value, value))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
