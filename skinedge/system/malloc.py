"""Settings of glibc's malloc for PyTorch on a CPU."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1  # bytes: mallopt takes an int


def keep_freed_memory() -> bool:
    """Let malloc keep and reuse large freed blocks, instead of returning them to the system.

    Each training step or inference batch frees and allocates the same tensors of tens of megabytes. Memory fresh from
    the system is zeroed page by page in page faults, which took half of the inference time. Returns False, without
    any effect, except on Linux with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, NEVER))
