"""malloc's settings, each in a separate process because they are process-wide."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from skinedge.system.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def fill():
    return float(torch.ones(16, 1024, 1024).sum())
for _ in range(12):  # until the heap has grown
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc has this setting only on Linux with glibc")
def test_freed_memory_is_reused() -> None:
    """64 MiB are 16,384 pages of 4 KiB: page faults for all of them on each allocation, or for almost none."""
    assert faults("keep") < 0.1 * faults("leave")
