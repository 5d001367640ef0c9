"""The logical cores that this process may run on, and how it shares them."""

from __future__ import annotations

import os


def usable() -> frozenset[int]:
    """Their numbers."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many there are."""
    return len(usable())


def leave_cores_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait, not spin: other processes of ours need the cores.

    To be called before torch is imported, which reads it once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
