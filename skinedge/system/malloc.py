"""How the process gets its memory from the system while PyTorch computes on a CPU."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
NEVER = 2**31 - 1  # bytes: mallopt takes an int


def keep_freed_memory() -> bool:
    """Let malloc reuse what was freed, instead of giving every large block back and asking for it anew.

    A training step, or a batch of inference, frees and allocates the same tensors of tens of megabytes again and again;
    fresh from the system, each page of them is first zeroed in a page fault: half of an inference's time. Linux with
    glibc only; elsewhere nothing is done (False).
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, NEVER))
