"""Logical cores available to this process."""

from __future__ import annotations

import math
import os

from skinedge.core.errors import ConfigError
from skinedge.system.cpu_quota import cpu_quota

LIMIT = "PYTHON_CPU_COUNT"  # of Python 3.13; we read it in older versions too


def usable() -> frozenset[int]:
    """Return the indices of the logical cores that this process may run on (its affinity, as set by taskset)."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """Return how many cores this process should use, at least 1.

    The smallest of its affinity, its container's CPU quota and PYTHON_CPU_COUNT. A quota of 1.5 CPUs counts as 2, as in
    the JVM, Go and joblib: one core would leave a third of it unused.
    Raises: ConfigError when PYTHON_CPU_COUNT is not a positive number or 'default'.
    """
    limits = [len(usable())]
    if (quota := cpu_quota()) is not None:
        limits.append(math.ceil(quota))
    if (text := os.environ.get(LIMIT, "").strip()) not in ("", "default"):
        if not text.isdecimal() or not int(text):
            raise ConfigError(f"{LIMIT} is '{text}'", todo="Set it to a number of cores, at least 1, or remove it.")
        limits.append(int(text))
    return min(limits)


def limit_threads() -> None:
    """Give PyTorch, OpenMP and BLAS as many threads as usable cores; they know the affinity only.

    Call it before importing torch or numpy. OMP_NUM_THREADS, if set, is kept.
    """
    if (cores := usable_cores()) < len(usable()):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def start_no_blas_threads() -> None:
    """Let OpenBLAS start no threads: each spins for some 30 ms, more than a command for one image uses it.

    Call it before importing numpy. OPENBLAS_NUM_THREADS, if set, is kept.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def leave_cores_while_waiting() -> None:
    """Let waiting OpenMP threads sleep instead of spinning, since our other processes need the cores.

    Call it before importing torch, which reads the setting once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
