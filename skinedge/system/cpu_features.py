"""Instruction sets of this CPU, on which the last bits of a quantized model's outputs depend."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from skinedge.system.child_process import run_program

# Instructions that multiply int8 and add into int32 in one step: x86 VNNI and AMX, Arm dotprod and i8mm.
INT8_DOT = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
SHOWN = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "asimd", "asimdhp", "bf16", *INT8_DOT)


def cpu_features() -> frozenset[str]:
    """Return the names of the CPU's instruction sets in Linux spelling; empty if unknown."""
    if platform.system() == "Darwin":
        arm = {"hw.optional.arm.FEAT_DotProd": "asimddp", "hw.optional.arm.FEAT_I8MM": "i8mm"}
        return frozenset(name for key, name in arm.items() if sysctl(key) == "1")
    return frozenset((cpuinfo("flags") or cpuinfo("Features") or "").split())


def instruction_set(features: Collection[str]) -> tuple[str, ...]:
    """Select the CPU features that affect how a model is computed. features: of `cpu_features`."""
    return tuple(name for name in SHOWN if name in features)


def read_text(path: str | Path) -> str | None:
    """Read a small text file of the OS; None if missing or empty."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip().strip("\0") or None
    except OSError:
        return None


def cpuinfo(key: str, path: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return the first value of a key in /proc/cpuinfo, None without one."""
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def sysctl(key: str) -> str | None:
    """Return a sysctl value on macOS, None elsewhere."""
    if platform.system() != "Darwin":
        return None
    completed = run_program(["sysctl", "-n", key])
    return completed.stdout.strip() or None
