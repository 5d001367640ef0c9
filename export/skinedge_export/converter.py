"""What a converter takes and gives: the protocol of the `skinedge.converters` entry points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import ModelDescription
from skinedge.run.plugins import TensorSpec
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    from torch import nn

INPUT = "pixels"


@dataclass(frozen=True)
class ExportJob:
    """One file to make.

    network: the merged timm model, eval mode, CPU, fp32, NCHW normalized -> logits; never changed. For int8 it
    is the equalized network with weights on the grid that the file will hold (`skinedge_export.int8.gptq`);
    description: what the file must say of itself, its labels in logit order;
    form: its input and outputs; calibration: (N, S, S, 3) uint8 prepared training images, None where the recipe
    needs none; kept_float: layers that int8 leaves alone;
    scratch: what jobs with the same network, form and calibration share, see `once`; traces: what jobs of the same form
    share whatever their network, see `skinedge_export.graph.weight_swap`.
    """

    network: nn.Module
    description: ModelDescription
    recipe: ExportRecipe
    form: IOSignature = field(default_factory=IOSignature)
    calibration: Pixels | None = None
    kept_float: tuple[Layer, ...] = ()
    scratch: dict[str, Any] = field(default_factory=dict)
    traces: dict[str, Any] = field(default_factory=dict)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made for the first of the jobs that share a scratch; never to be changed."""
        if name not in self.scratch:
            self.scratch[name] = make()
        return self.scratch[name]

    def keeps_float(self, scope: str) -> bool:
        """Whether the operations of the module at this path (in `network`) stay in float."""
        return any(layer.holds(scope) for layer in self.kept_float)


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

    format: of its files; the converter whose own name that is, is the format's default one; suffix: of its files,
    with the dot; runtime: the entry point of `skinedge.runtimes` that gates them; ranges: of int8 activations, those of
    `int8.activation_ranges` that it knows; libraries: modules that take long to import, and that converting needs.
    """

    format: str
    suffix: str
    runtime: str
    ranges: tuple[str, ...]
    libraries: tuple[str, ...]

    def recipe(self, precision: str) -> ExportRecipe:
        """How a file of this precision is made; raises ConfigError for an unknown precision."""
        ...

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """Write the file to `path`; raises SkinedgeError when it cannot be made."""
        ...
