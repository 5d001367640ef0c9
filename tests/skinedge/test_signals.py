"""A signal at any moment of a command's life ends it without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# At the N-th `event` once the command has begun: Typer compiles the annotations of all commands before it parses.
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
def test_a_signal_while_a_command_begins(tmp_path: Path, event: str, count: int, number: int) -> None:
    command = [sys.executable, "-c", COMMAND, event, str(count), str(number)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize("after", [0.05, 0.1, 0.2])
def test_ctrl_c_while_python_imports_the_command(tmp_path: Path, after: float) -> None:
    command = [sys.executable, "-m", "skinedge", "data", "info", "nowhere"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert "skinedge" not in said.partition("Traceback")[2], said  # Python's own start is not ours
    assert process.returncode in (1, 130, -signal.SIGINT)
