"""Python without docstrings (-OO) is refused before peft fails on it."""

from __future__ import annotations

import subprocess
import sys


def test_without_docstrings_the_adapters_are_refused() -> None:
    code = (
        "import sys; from skinedge.network.lora import import_peft\ntry: import_peft()\nexcept Exception as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert "Unset PYTHONOPTIMIZE" in done.stdout and "torch" not in done.stderr
