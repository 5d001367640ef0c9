"""What this package asks for in pyproject.toml, and how far the installation has it.

Ranges come from the installed package's own metadata, so there is no second list of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from skinedge.core.errors import IncompatibleDependencyError, MissingDependencyError, SkinedgeError
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


@dataclass(frozen=True)
class OutsideRange:
    """An installed distribution of another version than skinedge asks for. wanted: as in pyproject.toml, '>=0.19'."""

    name: str
    version: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} (skinedge needs {self.wanted})"


def installed(name: str) -> str | None:
    """Version of a distribution, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def base() -> list[str]:
    """Names of the distributions that the base install needs."""
    from packaging.requirements import Requirement

    return [Requirement(text).name for text in stated() if "extra ==" not in text]


def stated() -> list[str]:
    """Requirements as the installed package states them; none where it runs from a bare folder."""
    try:
        return sorted(distribution(OWN).requires or ())
    except PackageNotFoundError:
        return []


def outside_range(names: Iterable[str] | None = None) -> list[OutsideRange]:
    """Installed distributions that do not fit what is stated, in any extra. names: only these; None: all."""
    from packaging.requirements import Requirement

    wanted = [requirement for text in stated() if (requirement := Requirement(text)).specifier]
    chosen = None if names is None else set(names)
    found = {}
    for requirement in wanted:
        current = installed(requirement.name)
        fits = current is None or requirement.specifier.contains(current, prereleases=True)
        if not fits and (chosen is None or requirement.name in chosen):
            found[requirement.name] = OutsideRange(requirement.name, str(current), str(requirement.specifier))
    return [found[name] for name in sorted(found)]


def require(names: Iterable[str], extra: str) -> None:
    """Check before the work that distributions are installed; warn of versions outside the range.

    Raises: MissingDependencyError for the first that is not installed.
    """
    names = tuple(names)
    for name in names:
        if installed(name) is None:
            raise MissingDependencyError(name, extra)
    for other in outside_range(names):
        note(f"WARNING: {other}: it may fail. Mend it with: pip install --upgrade 'skinedge[{extra}]'")


def import_failure(error: ImportError, extra: str = "all") -> SkinedgeError:
    """Return what to raise for a failed import of a library.

    A module that cannot be found is of a distribution that is not installed. A part of it that cannot be found, or a
    name, is of one whose version does not fit, its own or another's: all versions outside the range are named.

    Raises: `error` itself when the module is one of ours.
    """
    module = error.name or ""
    top = module.partition(".")[0]
    if top in OWN_MODULES:
        raise error
    name = _distribution(top)
    if isinstance(error, ModuleNotFoundError) and module == top:
        return MissingDependencyError(name or str(error), extra)
    return IncompatibleDependencyError(f"{name} {installed(name) or '(version unknown)'}", str(error), _remedy(extra))


def _remedy(extra: str) -> str:
    others = outside_range()
    if others:
        return f"Out of range: {', '.join(map(str, others))}. Run: pip install --upgrade 'skinedge[{extra}]'"
    return f"Run: pip install --upgrade 'skinedge[{extra}]'   (constraints.txt has versions that were tested together)"


def _distribution(module: str) -> str:
    """Name of the distribution of a top-level module."""
    names: Mapping[str, str] = {module: name for name, module in MODULES.items()}
    return names.get(module, module.replace("_", "-"))


def module_of(name: str) -> str:
    """Top-level module of a distribution."""
    return MODULES.get(name, name.replace("-", "_"))
