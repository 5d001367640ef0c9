"""What a benchmark ran on, and signs that the machine was not quiet."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

# Instructions that multiply int8 and add into int32 in one step: x86 VNNI and AMX, Arm dotprod and i8mm.
INT8_DOT = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
# Those that multiply unsigned by signed bytes without an intermediate sum in 16 bits, which could saturate.
_EXACT_U8S8 = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
_X86 = ("sse4_1", "avx", "avx2")  # any of them: an x86 CPU
SHOWN = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "asimd", "asimdhp", "bf16", *INT8_DOT)


FOREIGN = 0.10  # of the usable cores' time: what others may take before timings are doubtful


@dataclass(frozen=True)
class Device:
    """cores: those this process may use; int8_dot_product: None where the CPU's features cannot be read;
    load_average: of the last minute, before the benchmark (with our own work in it), None where the OS does not
    tell; governor, power ('mains', 'battery'): likewise; throttle_events: so far, by the kernel.
    """

    machine: str
    cpu: str
    system: str
    python: str
    features: tuple[str, ...]
    int8_dot_product: bool | None
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
        features=instruction_set(features),
        int8_dot_product=any(name in features for name in INT8_DOT) if features else None,
        cores=usable_cores(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        power=power_source(),
        throttle_events=throttle_events(),
        versions=dict(versions),
    )


def instruction_set(features: Collection[str]) -> tuple[str, ...]:
    """Those of a CPU's features that decide how a model is computed. features: as `cpu_features` gives them."""
    return tuple(name for name in SHOWN if name in features)


def saturation(files: Mapping[str, str], features: Collection[str]) -> str | None:
    """A warning where U8S8 files ran on an x86 CPU without VNNI; None where they did not, or the CPU is not known.

    There ONNX Runtime adds two products of a byte with a byte in 16 bits (vpmaddubsw), and what is too large becomes
    the largest number (onnxruntime's documentation of quantization, on the choice of U8S8).
    files: name -> precision; features: names of instruction sets.
    """
    names = sorted(name for name, precision in files.items() if is_u8s8(name, precision))
    if not names or not any(name in features for name in _X86) or any(name in features for name in _EXACT_U8S8):
        return None
    return (
        f"{', '.join(names)}: this x86 CPU has no VNNI, so sums of int8 products saturate in ONNX Runtime: what is "
        "measured here does not hold for a CPU with VNNI, nor the other way round"
    )


def is_u8s8(name: str, precision: str) -> bool:
    """Whether a file of ours multiplies uint8 activations by int8 weights: ONNX in int8, unless written for Arm."""
    quantized = precision.startswith("int8") and precision != "int8-weight"
    return quantized and name.endswith(".onnx") and ".arm." not in name


@dataclass(frozen=True)
class CpuClock:
    """Seconds of CPU time of the cores that this process may use, all of them together, since the system's start.

    total: that passed; busy: that somebody used (or, on a virtual machine, that the host took away);
    own: that this process and its finished children used.
    """

    total: float
    busy: float
    own: float

    def foreign_share(self, later: CpuClock) -> float | None:
        """Share of the cores' time that others used between two readings; None for no time at all."""
        total = later.total - self.total
        if total <= 0:
            return None
        foreign = (later.busy - self.busy) - (later.own - self.own)
        return min(1.0, max(0.0, foreign / total))


def cpu_clock(stat: Path = Path("/proc/stat"), cores: Collection[int] | None = None) -> CpuClock | None:
    """The clock now, from the lines 'cpuN' of the cores (default: the usable ones); None where the OS has no such file.

    Fields of a line: user, nice, system, idle, iowait, irq, softirq, steal (proc(5)), in clock ticks.
    """
    wanted = {f"cpu{core}" for core in (usable() if cores is None else cores)}
    rows = [line.split() for line in (_read(str(stat)) or "").splitlines()]
    ticks = [[int(count) for count in row[1:9]] for row in rows if row and row[0] in wanted]
    if not ticks:
        return None
    total, idle = sum(map(sum, ticks)), sum(sum(row[3:5]) for row in ticks)
    times, second = os.times(), os.sysconf("SC_CLK_TCK")
    own = times.user + times.system + times.children_user + times.children_system
    return CpuClock(total / second, (total - idle) / second, own)


def usable() -> frozenset[int]:
    """Numbers of the logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def usable_cores() -> int:
    """How many logical cores this process may run on."""
    return len(usable())


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


def machine_reasons(device: Device, throttled_after: int | None, foreign: float | None) -> tuple[str, ...]:
    """Why timings of this machine should not be trusted, whatever the file.

    foreign: share of the cores' time that other processes used meanwhile, None where the OS does not tell.
    """
    reasons = []
    if foreign is not None and foreign > FOREIGN:
        reasons.append(f"other processes used {foreign:.0%} of the {device.cores} cores during the benchmark")
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
