"""The logical cores that this process may run on."""

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
