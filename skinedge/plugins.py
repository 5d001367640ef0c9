"""The plug-in point: a format or a runtime is one file and one entry-point line.

Groups: `skinedge.converters` (name: the format) and `skinedge.runtimes` (name: the runtime). Our own
come through the same door as a stranger's package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skinedge.bits import require_64_bit
from skinedge.errors import ConfigError, MissingDependencyError
from skinedge.preprocess import Pixels

CONVERTERS = "skinedge.converters"
RUNTIMES = "skinedge.runtimes"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model file; -1 in `shape` is a free dimension."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Outputs:
    """What a model said of N images.

    probabilities: (N, C) float32, rows sum to 1; logits: (N, C) float32 where the file has them;
    heatmaps: (N, H, W, C) float32 where the file has them: each class's activation map, the classifier's weights
    applied to the last features. Its mean over H and W, plus the classifier's bias, is the logits.
    """

    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32] | None = None
    heatmaps: NDArray[np.float32] | None = None


class Session(Protocol):
    """One loaded model file.

    inputs, outputs: tensor specs; metadata: text that the file carries (key 'skinedge': the
    ModelDescription as JSON, where the file has one); partitions: how many pieces the graph was cut
    into by the accelerating delegate, None where the runtime has no such thing.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, str]
    partitions: int | None

    def run(self, pixels: Pixels) -> Outputs:
        """pixels: (N, S, S, 3) uint8, prepared by `skinedge.preprocess.prepare`."""
        ...


class Runtime(Protocol):
    """Something that runs model files; an entry point of `skinedge.runtimes` names an instance.

    name: as in reports; suffixes: of the files that it takes, e.g. ('.onnx',); optional: nobody misses it where it
    is not there (an accelerator), so it is left out in silence unless it was asked for.
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

    Raises: ConfigError for an unknown name (listing the known ones); MissingDependencyError where
    the plug-in's own imports fail.
    """
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        kind = group.removeprefix("skinedge.").removesuffix("s")
        raise ConfigError(f"unknown {kind} '{name}'", todo=f"Installed: {', '.join(sorted(found)) or 'none'}.")
    try:
        return found[name].load()
    except ModuleNotFoundError as error:
        extra = "export" if group == CONVERTERS else "all"
        raise MissingDependencyError(error.name or name, extra) from None


def names(group: str) -> list[str]:
    """The installed plug-ins of a group, sorted."""
    return sorted(point.name for point in entry_points(group=group))


def runtimes_for(path: Path) -> list[Runtime]:
    """The runtimes that take this kind of file, by its suffix.

    Raises: ConfigError when none does; SkinedgeError on a 32-bit system, where none can be had.
    """
    require_64_bit()
    known: list[Runtime] = [load(RUNTIMES, name) for name in names(RUNTIMES)]
    fitting = [runtime for runtime in known if path.suffix in runtime.suffixes]
    if not fitting:
        suffixes = sorted({suffix for runtime in known for suffix in runtime.suffixes})
        raise ConfigError(f"no runtime takes '{path.name}'", todo=f"Known kinds of files: {', '.join(suffixes)}.")
    return fitting
