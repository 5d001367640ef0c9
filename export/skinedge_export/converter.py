"""Protocol of the `skinedge.converters` entry points, with a converter's input and output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import ModelDescription
from skinedge.run.plugins import TensorSpec
from skinedge_export.graph.weight_swap import GraphCache
from skinedge_export.int8.activation_ranges import ObservedTensors
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    from torch import nn

INPUT = "pixels"


@dataclass(frozen=True)
class ExportJob:
    """One file to convert.

    network: the merged timm model, eval mode, CPU, fp32, NCHW normalized -> logits; must not be changed. For int8 it
    is the equalized network with weights on the file's int8 grid (`skinedge_export.int8.gptq`);
    description: embedded in the file, labels in logit order; form: I/O signature;
    calibration: (N, S, S, 3) uint8 prepared training images, None if the recipe needs none;
    kept_float: layers excluded from int8; graphs: fp32 graphs, shared by all jobs of a run;
    observed: activation ranges, shared by jobs with the same network, signature, calibration images and format.
    """

    network: nn.Module
    description: ModelDescription
    recipe: ExportRecipe
    form: IOSignature = field(default_factory=IOSignature)
    calibration: Pixels | None = None
    kept_float: tuple[Layer, ...] = ()
    graphs: GraphCache = field(default_factory=GraphCache)
    observed: ObservedTensors = field(default_factory=ObservedTensors)

    def keeps_float(self, scope: str) -> bool:
        """Return True if the operations of the module at this path in `network` stay in float."""
        return any(layer.holds(scope) for layer in self.kept_float)


@dataclass(frozen=True)
class Artifact:
    """A converted file.

    ops: operation names in graph order; versions: tool -> version; oldest_runtime: first release of the format's own
    runtime that computes the file as the newest does, None if unknown.
    """

    path: Path
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: tuple[str, ...]
    versions: Mapping[str, str]
    oldest_runtime: str | None = None


class Converter(Protocol):
    """Writer of one file format; an entry point of `skinedge.converters` names an instance.

    format: file format; its default converter is the one registered under the format's name; suffix: of its files,
    with the dot; runtime: entry point of `skinedge.runtimes` that checks them; ranges: supported methods of
    `int8.activation_ranges`; libraries: slow imports that conversion needs.
    """

    format: str
    suffix: str
    runtime: str
    ranges: tuple[str, ...]
    libraries: tuple[str, ...]

    def recipe(self, precision: str) -> ExportRecipe:
        """Return the recipe of a precision; raises ConfigError for an unknown one."""
        ...

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """Write the file to `path`; raises SkinedgeError if conversion fails."""
        ...
