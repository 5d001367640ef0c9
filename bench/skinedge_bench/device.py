"""The device that runs a benchmark: properties that stay constant during it."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from skinedge.system.cpu import usable_cores
from skinedge.system.cpu_features import INT8_DOT, cpu_features, cpuinfo, instruction_set, read_text, sysctl

# Multiply unsigned by signed bytes without an intermediate 16-bit sum, which could saturate.
_EXACT_U8S8 = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8")
HYPERVISORS = ("QEMU", "VMware", "innotek", "Xen", "Parallels", "Amazon EC2", "Google")
_X86 = ("sse4_1", "avx", "avx2")  # any of them implies an x86 CPU
CPUFREQ = "/sys/devices/system/cpu/cpu0/cpufreq"


@dataclass(frozen=True)
class Device:
    """Hardware, operating system and libraries.

    python: version, None on a phone; cores: available to this process; int8_dot_product: None if the CPU features are
    unknown; governor, max_frequency_mhz: None if the OS does not report them; emulated: 'aarch64 on x86_64' in an
    emulator; virtualization: 'virtual machine', 'container', both, or empty if none was detected.
    For browsers only: backend, the compute backend; clock_step_ms, the resolution of the clock.
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
    """Describe this machine. versions: runtime -> version of the library."""
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


def saturates(features: Collection[str]) -> bool:
    """Return True for an x86 CPU without VNNI.

    On these CPUs, ONNX Runtime by default adds two products of bytes in 16 bits (vpmaddubsw), and sums that are too
    large saturate (onnxruntime's documentation of quantization, on the choice of U8S8).
    features: names of instruction sets.
    """
    return any(name in features for name in _X86) and not any(name in features for name in _EXACT_U8S8)


def saturation(files: Mapping[str, str], features: Collection[str]) -> str | None:
    """Return a warning if U8S8 files run on a CPU that saturates; None for other or unknown CPUs.

    files: name -> precision; features: names of instruction sets.
    """
    names = sorted(name for name, precision in files.items() if is_u8s8(name, precision))
    if not names or not saturates(features):
        return None
    return (
        f"{', '.join(names)}: this x86 CPU has no VNNI. skinedge makes ONNX Runtime compute exact sums here, which is "
        "slower; in a program that does not set session.x64quantprecision to 1, sums saturate and predictions differ"
    )


def is_u8s8(name: str, precision: str) -> bool:
    """Return True for a skinedge file with uint8 activations and int8 weights: ONNX int8, unless exported for Arm."""
    quantized = precision.startswith("int8") and precision != "int8-weight"
    return quantized and name.endswith(".onnx") and ".arm." not in name


def cpu_name() -> str:
    """Return the CPU's name as the OS reports it."""
    name = cpuinfo("model name") or cpuinfo("Hardware") or sysctl("machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def emulation(machine: str | None = None, root: Path = Path("/")) -> str | None:
    """Return e.g. 'aarch64 on x86_64' if this process runs in an emulator (qemu-user), else None.

    The emulator reports the emulated architecture in uname and /proc/cpuinfo, but the kernel's own architecture (Linux
    6.1) and the alias for CPU drivers are those of the host.
    machine: the machine name of uname (default: of this process).
    """
    emulated = machine or platform.machine()
    kernel = read_text(root / "proc/sys/kernel/arch")
    alias = (read_text(root / "sys/devices/system/cpu/modalias") or "").split(":")
    real = kernel or (alias[2].split(",")[0] if alias[:2] == ["cpu", "type"] and len(alias) > 2 else "")
    if not _family(real) or not _family(emulated) or _family(real) == _family(emulated):
        return None
    return f"{emulated} on {real}"


def virtualization(root: Path = Path("/")) -> tuple[str, ...]:
    """Detect a virtual machine and a container around this process."""
    vendor = read_text(root / "sys/class/dmi/id/sys_vendor") or ""
    machine = (
        (root / "proc/device-tree/hypervisor").exists()
        or (root / "sys/hypervisor/type").exists()
        or any(name in vendor for name in HYPERVISORS)
        or "hypervisor" in (cpuinfo("flags", root / "proc/cpuinfo") or "").split()
    )
    groups = read_text(root / "proc/1/cgroup") or ""
    container = any((root / path).exists() for path in (".dockerenv", "run/.containerenv")) or any(
        name in groups for name in ("docker", "kubepods", "lxc")
    )
    return (*(("virtual machine",) if machine else ()), *(("container",) if container else ()))


def _family(machine: str) -> str:
    """Return 'arm', 'x86' or '' (unknown); CPUs of a family run its older code without an emulator."""
    name = machine.lower()
    return "arm" if name.startswith(("arm", "aarch")) else "x86" if re.fullmatch(r"x86.*|i[3-6]86|amd64", name) else ""
