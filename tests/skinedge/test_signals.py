"""A signal at any moment of a command's life ends it without a traceback."""

from __future__ import annotations

import subprocess
import sys
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
