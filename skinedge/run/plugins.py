"""The plug-in point: a format or a runtime is one file and one entry-point line.

Groups: `skinedge.converters` (name: the format) and `skinedge.runtimes` (name: the runtime). Our own
come through the same door as a stranger's package.
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
# The runtime that judges each type of file, whatever else is installed: names of our own entry points.
JUDGES = {".tflite": "litert", ".onnx": "onnxruntime", ".safetensors": "torch"}


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model file; -1 in `shape` is a free dimension."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Session(Protocol):
    """One loaded model file.

    inputs, outputs: tensor specs; metadata: text that the file carries (key 'skinedge': the
    ModelDescription as JSON, where the file has one); partitions: how many pieces the graph was cut
    into by the accelerating delegate, None where the runtime has no such thing; outside: the operations that run
    outside that delegate, by name, None where nobody tells.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    partitions: int | None
    outside: tuple[str, ...] | None

    def run(self, pixels: Pixels) -> Outputs:
        """pixels: (N, S, S, 3) uint8, prepared by `skinedge.core.preprocess.prepare`."""
        ...


class Runtime(Protocol):
    """Something that runs model files; an entry point of `skinedge.runtimes` names an instance.

    name: as in reports; suffixes: of the files that it takes, e.g. ('.onnx',); optional: nobody misses it where it
    is not there (an accelerator), so it is left out in silence unless it was asked for.
    A runtime may also have `safe_format = True`: no file that it takes can crash the process or fill the memory.
    """

    name: str
    suffixes: tuple[str, ...]
    optional: bool

    def version(self) -> str:
        """Version of the library; raises MissingDependencyError where it is not installed, UnavailableError where it
        cannot work on this machine.
        """
        ...

    def open(self, path: Path, threads: int) -> Session:
        """Load a file for inference with so many threads of the CPU.

        Raises: UnavailableError where this runtime cannot compute this file here; SkinedgeError if it cannot be loaded.
        """
        ...


def load(group: str, name: str) -> Any:
    """The plug-in object `name` of `group`.

    Raises: ConfigError for an unknown name (listing the known ones) and for a name that two packages give;
    MissingDependencyError where the plug-in's own imports fail.
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
    """'package (module:object)' of an entry point."""
    distribution = point.dist.name if point.dist else "a package without a name"
    return f"{distribution} ({point.value})"


def names(group: str) -> list[str]:
    """The installed plug-ins of a group, sorted, each name once."""
    return sorted({point.name for point in entry_points(group=group)})


def judge_for(path: Path) -> Runtime:
    """The runtime whose answers count as those of this file, by its suffix: ours, whichever others are installed.

    Raises: ConfigError when no runtime takes the file, or several third-party ones do; MissingDependencyError when it
    is not installed; SkinedgeError on a 32-bit system.
    """
    if path.suffix in JUDGES:
        require_64_bit()
        judge: Runtime = load(RUNTIMES, JUDGES[path.suffix])
        return judge
    runtimes = runtimes_for(path)
    if len(runtimes) > 1:
        listed = ", ".join(runtime.name for runtime in runtimes)
        raise ConfigError(
            f"several runtimes take '{path.suffix}' files, and none of them is the default: {listed}",
            where=str(path),
            todo="Uninstall all but one of them.",
        )
    return runtimes[0]


def runtimes_for(path: Path) -> list[Runtime]:
    """The runtimes that take this type of file, by its suffix: the judge first, then the others by name.

    A plug-in that cannot be imported is left out, which is said on screen, unless it is the judge.
    Raises: ConfigError when none takes it; SkinedgeError on a 32-bit system, where none can be had.
    """
    require_64_bit()
    judge = JUDGES.get(path.suffix)
    known = {name: runtime for name in names(RUNTIMES) if (runtime := _importable(name, name == judge)) is not None}
    fitting = {name: runtime for name, runtime in known.items() if path.suffix in runtime.suffixes}
    if not fitting:
        suffixes = sorted({suffix for runtime in known.values() for suffix in runtime.suffixes})
        raise ConfigError(f"no runtime takes '{path.name}'", todo=f"Known kinds of files: {', '.join(suffixes)}.")
    return [fitting[name] for name in sorted(fitting, key=lambda name: (name != judge, name))]


def _importable(name: str, required: bool) -> Runtime | None:
    """The runtime `name`; None, with a note, for one that is not required and whose imports fail."""
    try:
        runtime: Runtime = load(RUNTIMES, name)
    except (MissingDependencyError, IncompatibleDependencyError) as error:
        if required:
            raise
        _note_once(f"the runtime '{name}' is left out: {error.what}")
        return None
    return runtime


@functools.cache
def _note_once(text: str) -> None:
    note(text)
