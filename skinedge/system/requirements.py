"""Compare the installed distributions with the requirements in pyproject.toml.

Version ranges come from the installed package's metadata, so there is no second list of them.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from skinedge.core.errors import IncompatibleDependencyError, MissingDependencyError, SkinedgeError, UnavailableError
from skinedge.core.installation import pip_install
from skinedge.system.progress import note

OWN = "skinedge"
OWN_MODULES = ("skinedge", "skinedge_export", "skinedge_bench")
# distribution -> module, where the names differ
MODULES = {"pillow": "PIL", "grad-cam": "pytorch_grad_cam", "markdown-it-py": "markdown_it"}

# Distributions, in the order of the commands that need them.
RUN = ("numpy", "pillow", "onnxruntime", "ai-edge-litert")
TRAIN = ("torch", "torchvision", "timm", "peft", "accelerate", "safetensors")
EXPORT = ("onnx", "onnxscript", "litert-torch", "ai-edge-quantizer")
PLOTS = ("matplotlib", "markdown-it-py")
EXPLAIN = ("grad-cam",)
SIGN = ("py-minisign",)
HEIC = ("pillow-heif",)
DICOM = ("pydicom",)
TENSORBOARD = ("tensorboard",)

# Distribution that lacks wheels for some platforms -> what to do there. Its marker in pyproject.toml names them.
_ELSEWHERE = (
    "Use --format onnx here; for .tflite, copy the run to Linux x86-64 or an Apple-silicon Mac and export there."
)
INSTEAD = {
    "ai-edge-litert": "Use an .onnx file here; .tflite files run on Linux, Apple silicon and Windows x64.",
    "ai-edge-quantizer": _ELSEWHERE,
    "litert-torch": _ELSEWHERE,
}


@dataclass(frozen=True)
class OutsideRange:
    """An installed distribution outside the required range. required: the range in pyproject.toml, e.g. '>=0.19'."""

    name: str
    version: str
    required: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} (skinedge needs {self.required})"


def installed(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def base() -> list[str]:
    """Return the names of the distributions that the base install needs."""
    from packaging.requirements import Requirement

    return [Requirement(text).name for text in declared() if "extra ==" not in text]


def declared() -> list[str]:
    """Return the requirements in the installed package's metadata; empty if skinedge is not installed."""
    try:
        return sorted(distribution(OWN).requires or ())
    except PackageNotFoundError:
        return []


def outside_range(names: Iterable[str] | None = None) -> list[OutsideRange]:
    """Return installed distributions outside the declared range of any extra. names: only these; None: all."""
    from packaging.requirements import Requirement

    requirements = [requirement for text in declared() if (requirement := Requirement(text)).specifier]
    selected = None if names is None else set(names)
    outside = {}
    for requirement in requirements:
        current = installed(requirement.name)
        fits = current is None or requirement.specifier.contains(current, prereleases=True)
        if not fits and (selected is None or requirement.name in selected):
            outside[requirement.name] = OutsideRange(requirement.name, str(current), str(requirement.specifier))
    return [outside[name] for name in sorted(outside)]


def has_wheel(name: str, environment: Mapping[str, str] | None = None) -> bool:
    """Return False if pyproject.toml requires a distribution on other platforms only, where it has wheels.

    environment: marker variables of another platform, e.g. {"sys_platform": "win32", "platform_machine": "AMD64"}.
    """
    from packaging.requirements import Requirement

    markers = [requirement.marker for text in declared() if (requirement := Requirement(text)).name == name]
    extras = ["", *(extra for marker in markers for extra in re.findall(r"""extra == ["']([^"']+)""", str(marker)))]
    environments = [{**(environment or {}), "extra": extra} for extra in extras]
    return not markers or any(marker is None or any(map(marker.evaluate, environments)) for marker in markers)


def missing(name: str, extra: str) -> SkinedgeError:
    """Return the error to raise for a distribution that is not installed."""
    if has_wheel(name):
        return MissingDependencyError(name, extra)
    here = f"{platform.system()} {platform.machine()}"
    return UnavailableError(f"the package '{name}' has no wheel for {here}", todo=INSTEAD.get(name))


def check_wheels(modules: Iterable[str], extra: str) -> None:
    """Raises: UnavailableError if a module's distribution has no wheel for this platform, and is not installed."""
    for name in map(distribution_of, modules):
        if installed(name) is None and not has_wheel(name):
            raise missing(name, extra)


def require(names: Iterable[str], extra: str) -> None:
    """Check that distributions are installed, except those without a wheel here; warn about versions out of range.

    Raises: MissingDependencyError for the first one that is not installed.
    """
    names = tuple(names)
    for name in names:
        if installed(name) is None and has_wheel(name):
            raise MissingDependencyError(name, extra)
    for mismatch in outside_range(names):
        note(f"WARNING: {mismatch}: it may fail. Fix it with: {pip_install(extra, '--upgrade')}")


def import_failure(error: ImportError, extra: str = "all") -> SkinedgeError:
    """Convert a failed import of a library to the error to raise.

    A missing top-level module means that its distribution is not installed. A missing submodule or name means an
    incompatible version of that distribution or another: the error lists all versions outside the range.

    Raises: `error` itself for a module of skinedge.
    """
    module = error.name or ""
    top = module.partition(".")[0]
    if top in OWN_MODULES:
        raise error
    name = distribution_of(top)
    if isinstance(error, ModuleNotFoundError) and module == top:
        return missing(name or str(error), extra)
    return IncompatibleDependencyError(f"{name} {installed(name) or '(version unknown)'}", str(error), _remedy(extra))


def _remedy(extra: str) -> str:
    mismatches = outside_range()
    if mismatches:
        return f"Out of range: {', '.join(map(str, mismatches))}. Run: {pip_install(extra, '--upgrade')}"
    return f"Run: {pip_install(extra, '--upgrade')}   (constraints.txt lists versions tested together)"


def distribution_of(module: str) -> str:
    """Return the name of a module's distribution."""
    top, names = module.partition(".")[0], {module: name for name, module in MODULES.items()}
    return names.get(top, top.replace("_", "-"))


def module_of(name: str) -> str:
    """Return the top-level module of a distribution."""
    return MODULES.get(name, name.replace("-", "_"))
