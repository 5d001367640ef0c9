"""Logical cores available to this process."""

from __future__ import annotations

import os


def usable() -> frozenset[int]:
    """Return the indices of the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Return the number of logical cores that this process may run on."""
    return len(usable())


def leave_cores_while_waiting() -> None:
    """Let waiting OpenMP threads sleep instead of spinning, since our other processes need the cores.

    Call it before importing torch, which reads the setting once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
