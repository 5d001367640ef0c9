"""Plug-ins: a format or a runtime is one file and one entry-point line.

Groups: `skinedge.converters` (name: the format) and `skinedge.runtimes` (name: the runtime). Our own and third-party
plug-ins are loaded in the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from skinedge.core.errors import ConfigError, IncompatibleDependencyError, MissingDependencyError
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.system.platform_check import require_64_bit
from skinedge.system.progress import note
from skinedge.system.requirements import import_failure

CONVERTERS = "skinedge.converters"
RUNTIMES = "skinedge.runtimes"
# The runtime that judges each type of file, regardless of other installed ones: names of our own entry points.
JUDGES = {".tflite": "litert", ".onnx": "onnxruntime", ".safetensors": "torch"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model file; -1 in `shape` is a free dimension."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Session(Protocol):
    """One loaded model file.

    inputs, outputs: tensor specs; metadata: texts embedded in the file (key 'skinedge': the ModelDescription as
    JSON, if it has one); partitions: number of graph partitions made by the accelerating delegate, None without a
    delegate; outside: names of the operations that run outside that delegate, None if unknown.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    partitions: int | None
    outside: tuple[str, ...] | None

    def run(self, pixels: Pixels) -> Outputs:
        """Run inference. pixels: (N, S, S, 3) uint8, prepared by `skinedge.core.preprocess.prepare`."""
        ...


class Runtime(Protocol):
    """Interface of a runtime; an entry point of `skinedge.runtimes` names an instance.

    name: as in reports; suffixes: of the files that it runs, e.g. ('.onnx',); optional: skipped silently when
    unavailable (an accelerator), unless it was requested.
    A runtime may also have `safe_format = True`: none of its files can crash the process or exhaust memory.
    """

    name: str
    suffixes: tuple[str, ...]
    optional: bool

    def version(self) -> str:
        """Return the version of the library.

        Raises: MissingDependencyError when it is not installed; UnavailableError when it cannot run on this machine.
        """
        ...

    def open(self, path: Path, threads: int) -> Session:
        """Load a file for inference on `threads` CPU threads.

        Raises: UnavailableError when this runtime cannot run this file here; SkinedgeError when it cannot be loaded.
        """
        ...


def load(group: str, name: str) -> Any:
    """Load the plug-in object `name` of `group`.

    Raises: ConfigError for an unknown name (listing the installed ones) and for a name used by two packages;
    MissingDependencyError when the plug-in's own imports fail.
    """
    points = [point for point in entry_points(group=group) if point.name == name]
    kind = group.removeprefix("skinedge.").removesuffix("s")
    if not points:
        raise ConfigError(f"unknown {kind} '{name}'", todo=f"Installed: {', '.join(names(group)) or 'none'}.")
    if len(points) > 1:
        raise ConfigError(
            f"{len(points)} {kind}s are named '{name}': {' and '.join(map(_origin, points))}",
            todo="Uninstall one of the packages.",
        )
    try:
        return points[0].load()
    except ImportError as error:
        raise import_failure(error, "export" if group == CONVERTERS else "all") from None


def _origin(point: EntryPoint) -> str:
    """Return 'package (module:object)' for an entry point."""
    distribution = point.dist.name if point.dist else "unnamed package"
    return f"{distribution} ({point.value})"


def names(group: str) -> list[str]:
    """Return the distinct names of a group's installed plug-ins, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def judge_for(path: Path) -> Runtime:
    """Return the runtime that judges this type of file: ours, regardless of other installed ones.

    Raises: ConfigError when no runtime takes the file, or several third-party ones do; MissingDependencyError when it
    is not installed; SkinedgeError on a 32-bit system.
    """
    if path.suffix in JUDGES:
        require_64_bit()
        judge: Runtime = load(RUNTIMES, JUDGES[path.suffix])
        return judge
    runtimes = runtimes_for(path)
    if len(runtimes) > 1:
        runtime_names = ", ".join(runtime.name for runtime in runtimes)
        raise ConfigError(
            f"several runtimes take '{path.suffix}' files, and none of them is the default: {runtime_names}",
            where=str(path),
            todo="Uninstall all but one of them.",
        )
    return runtimes[0]


def runtimes_for(path: Path) -> list[Runtime]:
    """Return the runtimes for this type of file, by its suffix: the judge first, then the others by name.

    A plug-in that cannot be imported is skipped with a note, unless it is the judge.
    Raises: ConfigError when no runtime takes the file; SkinedgeError on a 32-bit system, which no runtime supports.
    """
    require_64_bit()
    judge = JUDGES.get(path.suffix)
    importable = {name: runtime for name in names(RUNTIMES) if (runtime := _import(name, name == judge)) is not None}
    suitable = {name: runtime for name, runtime in importable.items() if path.suffix in runtime.suffixes}
    if not suitable:
        suffixes = sorted({suffix for runtime in importable.values() for suffix in runtime.suffixes})
        raise ConfigError(f"no runtime takes '{path.name}'", todo=f"Supported file types: {', '.join(suffixes)}.")
    return [suitable[name] for name in sorted(suitable, key=lambda name: (name != judge, name))]


def _import(name: str, required: bool) -> Runtime | None:
    """Load the runtime `name`; None, with a note, if it is not required and its imports fail."""
    try:
        runtime: Runtime = load(RUNTIMES, name)
    except (MissingDependencyError, IncompatibleDependencyError) as error:
        if required:
            raise
        _note_once(f"skipping the runtime '{name}': {error.what}")
        return None
    return runtime


@functools.cache
def _note_once(text: str) -> None:
    """Print a note, once per process."""
    note(text)
