"""What a benchmark ran on, and signs that the machine was not quiet."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Instructions that multiply int8 and add into int32 in one step: x86 VNNI and AMX, Arm dotprod and i8mm.
INT8_DOT = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
SHOWN = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "asimd", "asimdhp", "bf16", *INT8_DOT)


@dataclass(frozen=True)
class Device:
    """cores: those this process may use; load_average: of the last minute, before the benchmark, None where
    the OS does not tell; governor, power ('mains', 'battery'): likewise; throttle_events: so far, by the kernel.
    """

    machine: str
    cpu: str
    system: str
    python: str
    features: tuple[str, ...]
    int8_dot_product: bool
    cores: int
    governor: str | None
    load_average: float | None
    power: str | None
    throttle_events: int | None
    versions: Mapping[str, str]


def describe_device(versions: Mapping[str, str]) -> Device:
    """This machine, now. versions: runtime -> version of the library."""
    features = cpu_features()
    return Device(
        machine=_read("/proc/device-tree/model") or platform.machine(),
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        features=tuple(name for name in SHOWN if name in features),
        int8_dot_product=any(name in features for name in INT8_DOT),
        cores=usable_cores(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        power=power_source(),
        throttle_events=throttle_events(),
        versions=dict(versions),
    )


def usable_cores() -> int:
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU's name as the OS knows it."""
    named = _cpuinfo("model name") or _cpuinfo("Hardware") or _sysctl("machdep.cpu.brand_string")
    return named or platform.processor() or platform.machine()


def cpu_features() -> frozenset[str]:
    """Names of instruction sets, as Linux spells them; empty where they cannot be read."""
    if platform.system() == "Darwin":
        arm = {"hw.optional.arm.FEAT_DotProd": "asimddp", "hw.optional.arm.FEAT_I8MM": "i8mm"}
        return frozenset(name for key, name in arm.items() if _sysctl(key) == "1")
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features") or "").split())


def power_source(root: Path = Path("/sys/class/power_supply")) -> str | None:
    """'battery' when one is being drained, 'mains' when a supply is on line, else None."""
    status = [_read(str(item / "status")) for item in sorted(root.glob("*"))]
    online = [_read(str(item / "online")) for item in sorted(root.glob("*"))]
    if "Discharging" in status:
        return "battery"
    return "mains" if "1" in online else None


def throttle_events(root: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """How often the kernel saw a core throttled for heat; None where it does not count."""
    counts = [_read(str(path)) for path in sorted(root.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))]
    return sum(int(count) for count in counts if count) if counts else None


def machine_reasons(device: Device, throttled_after: int | None) -> tuple[str, ...]:
    """Why timings of this machine should not be trusted, whatever the file."""
    reasons = []
    if device.load_average is not None and device.load_average > 0.5 * device.cores:
        reasons.append(f"load average {device.load_average} on {device.cores} cores before the benchmark")
    if device.power == "battery":
        reasons.append("on battery")
    if device.throttle_events is not None and (throttled_after or 0) > device.throttle_events:
        reasons.append("the CPU was throttled for heat")
    return tuple(reasons)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip().strip("\0") or None
    except OSError:
        return None


def _cpuinfo(key: str) -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _sysctl(key: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
