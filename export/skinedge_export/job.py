"""What a converter takes and gives: the protocol of the `skinedge.converters` entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from skinedge.description import ModelDescription
from skinedge.plugins import TensorSpec
from skinedge.preprocess import Pixels
from skinedge_export.recipe import ExportRecipe

if TYPE_CHECKING:
    from torch import nn

INPUT = "pixels"
OUTPUT = "probabilities"


@dataclass(frozen=True)
class ExportJob:
    """One file to make.

    network: the merged timm model, eval mode, CPU, fp32, NCHW normalized -> logits; never changed. For int8 it
    is the equalized network with weights on the grid that the file will hold (`skinedge_export.rounding`);
    description: what the file must say of itself, its labels in logit order;
    calibration: (N, S, S, 3) uint8 prepared training images, None for fp32.
    """

    network: nn.Module
    description: ModelDescription
    recipe: ExportRecipe
    calibration: Pixels | None = None


@dataclass(frozen=True)
class Artifact:
    """A file that a converter wrote; ops: operation names in graph order; versions: tool -> version."""

    path: Path
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: tuple[str, ...]
    versions: Mapping[str, str]


class Converter(Protocol):
    """A file format; an entry point of `skinedge.converters` names an instance.

    suffix: of its files, with the dot; runtime: the entry point of `skinedge.runtimes` that gates them.
    """

    suffix: str
    runtime: str

    def recipe(self, precision: str) -> ExportRecipe:
        """How a file of this precision is made; raises ConfigError for an unknown precision."""
        ...

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """Write the file to `path`; raises SkinedgeError when it cannot be made."""
        ...
