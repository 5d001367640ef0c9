"""What a benchmark runs on: what does not change while it runs."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from skinedge.system.child_process import run_program
from skinedge.system.cpu import usable_cores

# Instructions that multiply int8 and add into int32 in one step: x86 VNNI and AMX, Arm dotprod and i8mm.
INT8_DOT = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm")
# Those that multiply unsigned by signed bytes without an intermediate sum in 16 bits, which could saturate.
_EXACT_U8S8 = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
HYPERVISORS = ("QEMU", "VMware", "innotek", "Xen", "Parallels", "Amazon EC2", "Google")
_X86 = ("sse4_1", "avx", "avx2")  # any of them: an x86 CPU
CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq"
SHOWN = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_bf16", "asimd", "asimdhp", "bf16", *INT8_DOT)


@dataclass(frozen=True)
class Device:
    """python: its version, None on a phone; cores: those this process may use; int8_dot_product: None where the CPU's
    features cannot be read; governor, max_frequency_mhz: None where the OS does not tell; emulated: 'aarch64 on
    x86_64' where another architecture is imitated; virtualization: 'virtual machine', 'container', both, or nothing
    that could be seen. Of a browser only: backend, what computes in it; clock_step_ms, the step of its clock.
    """

    machine: str
    cpu: str
    system: str
    python: str | None
    features: tuple[str, ...]
    int8_dot_product: bool | None
    cores: int
    governor: str | None
    max_frequency_mhz: float | None
    emulated: str | None
    virtualization: tuple[str, ...]
    versions: Mapping[str, str]
    backend: str | None = None
    clock_step_ms: float | None = None


def describe_device(versions: Mapping[str, str]) -> Device:
    """This machine, now. versions: runtime -> version of the library."""
    features = cpu_features()
    highest = read_text(f"{CPUFREQ}/cpuinfo_max_freq")
    return Device(
        machine=read_text("/proc/device-tree/model") or platform.machine(),
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        features=instruction_set(features),
        int8_dot_product=any(name in features for name in INT8_DOT) if features else None,
        cores=usable_cores(),
        governor=read_text(f"{CPUFREQ}/scaling_governor"),
        max_frequency_mhz=int(highest) / 1000 if highest else None,
        emulated=emulation(),
        virtualization=virtualization(),
        versions=dict(versions),
    )


def instruction_set(features: Collection[str]) -> tuple[str, ...]:
    """Those of a CPU's features that decide how a model is computed. features: as `cpu_features` gives them."""
    return tuple(name for name in SHOWN if name in features)


def saturates(features: Collection[str]) -> bool:
    """Return True for an x86 CPU without VNNI.

    There ONNX Runtime adds two products of bytes in 16 bits (vpmaddubsw), and a sum that is too large becomes the
    largest number (onnxruntime's documentation of quantization, on the choice of U8S8), unless it is told otherwise.
    features: names of instruction sets.
    """
    return any(name in features for name in _X86) and not any(name in features for name in _EXACT_U8S8)


def saturation(files: Mapping[str, str], features: Collection[str]) -> str | None:
    """Return a warning where U8S8 files run on a CPU that saturates; None elsewhere, or where the CPU is not known.

    files: name -> precision; features: names of instruction sets.
    """
    names = sorted(name for name, precision in files.items() if is_u8s8(name, precision))
    if not names or not saturates(features):
        return None
    return (
        f"{', '.join(names)}: this x86 CPU has no VNNI. skinedge has ONNX Runtime compute exact sums here, which is "
        "slower; in a program that does not set session.x64quantprecision to 1, sums saturate and answers differ"
    )


def is_u8s8(name: str, precision: str) -> bool:
    """Whether a file of ours multiplies uint8 activations by int8 weights: ONNX in int8, unless written for Arm."""
    quantized = precision.startswith("int8") and precision != "int8-weight"
    return quantized and name.endswith(".onnx") and ".arm." not in name


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


def emulation(machine: str | None = None, root: Path = Path("/")) -> str | None:
    """'aarch64 on x86_64' where this process runs in an emulator of another architecture (qemu-user), else None.

    The emulator answers uname and /proc/cpuinfo for what it imitates, but the kernel's own name of its architecture
    (Linux 6.1) and the name that it loads CPU drivers by are the real ones.
    machine: what uname says (default: here).
    """
    said = machine or platform.machine()
    kernel = read_text(root / "proc/sys/kernel/arch")
    alias = (read_text(root / "sys/devices/system/cpu/modalias") or "").split(":")
    real = kernel or (alias[2].split(",")[0] if alias[:2] == ["cpu", "type"] and len(alias) > 2 else "")
    if not _family(real) or not _family(said) or _family(real) == _family(said):
        return None
    return f"{said} on {real}"


def virtualization(root: Path = Path("/")) -> tuple[str, ...]:
    """What lies between this process and the hardware, as far as can be seen."""
    vendor = read_text(root / "sys/class/dmi/id/sys_vendor") or ""
    machine = (
        (root / "proc/device-tree/hypervisor").exists()
        or (root / "sys/hypervisor/type").exists()
        or any(name in vendor for name in HYPERVISORS)
        or "hypervisor" in (_cpuinfo("flags", root / "proc/cpuinfo") or "").split()
    )
    groups = read_text(root / "proc/1/cgroup") or ""
    container = any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")) or any(
        name in groups for name in ("docker", "kubepods", "lxc")
    )
    return (*(("virtual machine",) if machine else ()), *(("container",) if container else ()))


def read_text(path: str | Path) -> str | None:
    """A small file of the OS; None where it is not there or empty."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip().strip("\0") or None
    except OSError:
        return None


def _family(machine: str) -> str:
    """'arm', 'x86' or '': programs of one family run each other's older code without an emulator."""
    name = machine.lower()
    return "arm" if name.startswith(("arm", "aarch")) else "x86" if re.fullmatch(r"x86.*|i[3-6]86|amd64", name) else ""


def _cpuinfo(key: str, path: Path = Path("/proc/cpuinfo")) -> str | None:
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _sysctl(key: str) -> str | None:
    if platform.system() != "Darwin":
        return None
    done = run_program(["sysctl", "-n", key])
    return done.stdout.strip() or None
