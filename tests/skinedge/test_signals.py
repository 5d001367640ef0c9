"""A signal at any moment of a command's life ends it without a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# At the N-th module that is imported once the command has begun: while the command line is read, or in the command.
COMMAND = """
import os, signal, sys
from skinedge.cli import process
left, number = int(sys.argv[1]), int(sys.argv[2])

def hook(event, arguments):
    global left
    if event == "import":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

sys.argv = ["skinedge", "data", "info", "nowhere"]
sys.addaudithook(hook)
process()
"""


@pytest.mark.parametrize("number", [2, 15, 1])
@pytest.mark.parametrize("moment", [1, 4, 16])
def test_a_signal_while_modules_are_imported(tmp_path: Path, moment: int, number: int) -> None:
    command = [sys.executable, "-c", COMMAND, str(moment), str(number)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + number, done.stderr
    assert "Traceback" not in done.stderr and not done.stdout
