"""A child process ends with its parent, and imports nothing from the current folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skinedge.core.errors import SkinedgeError
from skinedge.system.child_process import run_program, run_python, search_path, start_python

PARENT = """
import sys, threading
from pathlib import Path
from skinedge.system import signals
from skinedge.system.child_process import run_program, run_python
signals.end_with_cleanup()
if sys.argv[1] == "program":
    start = lambda: run_program(["sh", "-c", 'sleep 600 & echo $$ $! > ids; wait'])
else:
    start = lambda: run_python("sleeper")
if sys.argv[2] == "thread":
    threading.Thread(target=lambda: threading.Thread(target=start).start()).start()
    while True: signals.signal.pause()
start()
"""
SLEEPER = """
import os, subprocess, time
from pathlib import Path
other = subprocess.Popen(["sleep", "600"])
Path("ids.part").write_text(f"{os.getpid()} {other.pid}")
Path("ids.part").replace("ids")
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Return True for a running process, False for a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="on other systems a program's descendants may survive")
@pytest.mark.parametrize("spawner", ["main", "thread"])
@pytest.mark.parametrize("kind", ["program", "python"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_children_end_with_their_parent(tmp_path: Path, number: signal.Signals, kind: str, spawner: str) -> None:
    """`spawner`: the thread that starts the child; "thread" is one whose own parent thread has ended."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
    command = [sys.executable, "-c", PARENT, kind, spawner]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL) as parent:
        ids = tmp_path / "ids"
        eventually(lambda: ids.exists() and ids.read_text().strip())
        children = [int(pid) for pid in ids.read_text().split()]
        assert len(children) == 2 and all(map(alive, children))
        parent.send_signal(number)
        if spawner == "thread" and number != signal.SIGKILL:
            eventually(lambda: not alive(children[0]) or parent.poll() is None)
            parent.kill()  # its main thread has ended; the other thread waits for the child
    eventually(lambda: not any(map(alive, children)))


def test_child_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("print('executed')")
    (tmp_path / "trap.py").write_text("print('executed')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), "", *sys.path])
    assert str(tmp_path) not in search_path()
    done = run_python("trap")
    assert done.returncode and "No module named trap" in done.stderr and "executed" not in done.stdout
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run_python("trap").stdout == "executed\n"


def test_output_exit_code_and_environment_are_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS']); print('bad', file=sys.stderr); sys.exit(7)"
    )
    (tmp_path / "teller.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    done = run_python("teller", "a b", "--c")
    assert (done.returncode, done.stdout, done.stderr) == (7, "['a b', '--c'] 1\n", "bad\n")
    done = run_python("teller", environment={"OMP_NUM_THREADS": "3"}, one_thread=False)
    assert done.stdout == "[] 3\n"
    done = run_program(["sh", "-c", "echo $HERE; echo bad >&2; kill -9 $$"], environment={"HERE": "x"})
    assert (done.returncode, done.stdout, done.stderr) == (-9, "x\n", "bad\n")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce these limits")
def test_memory_and_time_limits_end_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eater.py").write_text("print(len(bytes(1 << 30)))")
    (tmp_path / "spinner.py").write_text("while True: pass")
    (tmp_path / "waiter.py").write_text("import time; time.sleep(600)")
    monkeypatch.syspath_prepend(tmp_path)
    done = run_python("eater", memory_mib=512)
    assert done.returncode == 1 and "MemoryError" in done.stderr
    assert run_python("spinner", seconds=1).returncode == -signal.SIGKILL
    monkeypatch.setattr("skinedge.system.child_process.WALL_TIME_FACTOR", 1)
    with pytest.raises(SkinedgeError, match="exceeded its timeout of 1 s"):
        run_python("waiter", seconds=1)


def test_close_ends_the_child() -> None:
    with start_python("http.server", "0", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.process.poll() is None
    assert child.process.poll() == -signal.SIGKILL
    child.close()
