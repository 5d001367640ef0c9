"""A signal at any time ends a command without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Sends a signal at the N-th audit event `event` after the start: Typer compiles all commands' annotations first.
COMMAND = """
import os, signal, sys
from skinedge.cli import process
awaited, left, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def hook(event, arguments):
    global left
    if event == awaited:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

sys.argv = ["skinedge", "data", "info", "nowhere"]
sys.addaudithook(hook)
process()
"""


@pytest.mark.parametrize("number", [2, 15, 1])
@pytest.mark.parametrize(("event", "count"), [("compile", 1), ("compile", 50), ("import", 1), ("import", 16)])
def test_signal_during_command_start_up(tmp_path: Path, event: str, count: int, number: int) -> None:
    command = [sys.executable, "-c", COMMAND, event, str(count), str(number)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize("after", [0.05, 0.1, 0.2])
def test_ctrl_c_during_imports(tmp_path: Path, after: float) -> None:
    command = [sys.executable, "-m", "skinedge", "data", "info", "nowhere"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert "skinedge" not in errors.partition("Traceback")[2], errors  # Python's own start-up may print a traceback
    assert process.returncode in (1, 130, -signal.SIGINT)


FINALIZER = """
import os, sys, time
from skinedge.system import signals
signals.end_with_cleanup()

class Finalized:
    def __del__(self):
        if sys.argv[1] == "0":
            raise ValueError("odd")
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.01)

Finalized()
time.sleep(30 if int(sys.argv[1]) else 0)
"""


@pytest.mark.parametrize(("number", "code"), [(2, -2), (15, 143), (1, 129)])
def test_signal_during_a_finalizer_is_not_lost(tmp_path: Path, number: int, code: int) -> None:
    """Python drops the handler's exception in a finalizer. Without Typer, an interrupted Python ends by its signal."""
    command = [sys.executable, "-c", FINALIZER, str(number)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == code and "Exception ignored" not in done.stderr, done.stderr


def test_other_exceptions_in_a_finalizer_are_reported(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FINALIZER, "0"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "Exception ignored" in done.stderr and "ValueError: odd" in done.stderr
