"""Start child processes that end with this one and import no modules from the current folder.

A child leads its own process group and holds one end of a pipe. When this process ends for any reason, the pipe closes:
Linux then kills the group (fcntl(2), F_SETSIG), and on other systems a Python child does so itself. On Windows only
children that read their standard input end with their parent.

A Python child is `python -m skinedge.system.child_process PIPE MEMORY_MIB SECONDS MODULE ARGUMENTS...`.
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
WALL_TIME_FACTOR = 10  # wall time allowed per second of a child's CPU time limit: the machine may be busy
Stream = IO[bytes] | int | None


class Child:
    """A running process; as a context manager, it kills the process and its descendants on exit."""

    def __init__(self, command: Sequence[str | Path], pipe: tuple[int, int], **options: Any) -> None:
        """Start the process. pipe: (read end, for the child, write end, kept here); this object closes both."""
        read_end, write_end = pipe
        self._write_end: int | None = write_end
        posix: dict[str, Any] = {"process_group": 0, "pass_fds": [read_end]} if os.name == "posix" else {}
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(command, **posix, **options)
            _kill_when_closed(read_end, self.process.pid)
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the process, if it is still running, and its descendants."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):  # the process ended in the meantime
                if os.name == "posix":
                    os.killpg(self.process.pid, signal.SIGKILL)
                else:
                    self.process.kill()
        self.process.wait()
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):  # unsent data in the buffer
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
    """Start `python -m MODULE ARGUMENTS` with this process's module search path, but not the current folder.

    Args:
        environment: variables to add.
        one_thread: limit matrix products to one thread.
        memory_mib, seconds: limits of address space and CPU time, 0 for none; ignored on Windows.
    """
    pipe = os.pipe()
    command = [
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
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(search_path()), **threads, **(environment or {})}
    return Child([*command, *arguments], pipe, env=variables, stdin=stdin, stdout=stdout, stderr=stderr)


def run_python(
    module: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    one_thread: bool = True,
    memory_mib: int = 0,
    seconds: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m MODULE ARGUMENTS` and wait for it; see `start_python`.

    Raises: SkinedgeError when its wall time exceeds WALL_TIME_FACTOR times `seconds`, e.g. because it hangs.
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
    return _wait(child, WALL_TIME_FACTOR * seconds or None)


def run_program(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stderr: Stream = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a program without input and wait for it. environment: variables to add to this process's."""
    variables = {**os.environ, **(environment or {})}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
    return _wait(Child(command, os.pipe(), cwd=cwd, env=variables, **streams), None)


def _wait(child: Child, timeout_s: float | None) -> subprocess.CompletedProcess[str]:
    with child:
        try:
            out, err = child.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise SkinedgeError(f"a child process exceeded its timeout of {timeout_s:.0f} s and was killed") from None
        command = child.process.args
    texts = [(text or b"").decode(errors="replace").replace("\r\n", "\n") for text in (out, err)]
    return subprocess.CompletedProcess(command, child.process.returncode, *texts)


def search_path() -> list[str]:
    """Return this process's module folders, without the current one unless PYTHONPATH or skinedge itself needs it.

    Raises: SkinedgeError for a relative one if the current folder was deleted.
    """
    package = Path(__file__).resolve().parents[2]
    python_path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    try:
        allowed = {package, *(Path(entry).absolute() for entry in python_path)}
        paths = [Path(entry).absolute() for entry in sys.path if entry]
        current = Path.cwd()
    except FileNotFoundError:
        if all(Path(entry).is_absolute() for entry in (*sys.path, *python_path) if entry):
            return [entry for entry in sys.path if entry]
        raise SkinedgeError("the current folder no longer exists", todo="Change to an existing folder.") from None
    return [str(path) for path in paths if path != current or current in allowed]


def _kill_when_closed(read_end: int, group: int) -> None:
    """Tell the kernel to kill a process group when the last write end of its pipe is closed."""
    if sys.platform != "linux":
        return
    import fcntl

    with contextlib.suppress(OSError):  # not supported by the kernel: Python children still watch the pipe
        fcntl.fcntl(read_end, fcntl.F_SETOWN, -group)
        fcntl.fcntl(read_end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(read_end, fcntl.F_SETFL, fcntl.fcntl(read_end, fcntl.F_GETFL) | os.O_ASYNC)


def _watch(pipe: int) -> None:
    """Wait until the parent process ends, then kill this process's group."""
    with contextlib.suppress(OSError):
        os.read(pipe, 1)
    os.killpg(0, signal.SIGKILL)


def _run_module(pipe: int, memory_mib: int, seconds: int, module: str, arguments: Sequence[str]) -> None:
    """Set this process's limits, watch the parent's pipe, and run `module` as the main program."""
    if os.name == "posix":
        import resource

        threading.Thread(target=_watch, args=[pipe], daemon=True).start()
        for limit, value in ((resource.RLIMIT_AS, memory_mib << 20), (resource.RLIMIT_CPU, seconds)):
            if value:
                resource.setrlimit(limit, (value, value))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run_module(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
