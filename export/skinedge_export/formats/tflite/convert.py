"""Conversion to TFLite: NHWC, batch 1, description and labels in an appended zip archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.run.plugins import TensorSpec
from skinedge_export.captured_output import captured_output
from skinedge_export.converter import INPUT, Artifact, ExportJob
from skinedge_export.formats.metadata import append_zip
from skinedge_export.formats.tflite import quantize as tflite_quantize
from skinedge_export.formats.tflite.metadata import SIGNATURE, with_metadata
from skinedge_export.graph.weight_swap import NamedOutputs, Tracer, WeightSwap
from skinedge_export.int8.activation_ranges import METHODS
from skinedge_export.recipe import CALIBRATED, RECIPES, ExportRecipe, load_recipe

if TYPE_CHECKING:
    from torch import nn


class TfliteConverter:
    """See `skinedge_export.converter.Converter`."""

    format = "tflite"
    suffix = ".tflite"
    runtime = "litert"
    ranges = METHODS
    libraries = ("timm", "litert_torch", "ai_edge_quantizer.quantizer")

    def recipe(self, precision: str) -> ExportRecipe:
        """See `Converter.recipe`."""
        return load_recipe(RECIPES / f"tflite-{precision}.toml")

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """See `Converter.convert`."""
        tracer = TfliteTracer(job.description.preprocess, job.form, job.description.architecture)
        content = job.graphs.fp32(tracer, job.network)
        tools = ["torch", "litert-torch", "litert-converter"]
        if job.recipe.precision != "fp32":
            quantize = (
                tflite_quantize.quantize if job.recipe.precision in CALIBRATED else tflite_quantize.quantize_weights
            )
            content, tools = quantize(content, job), [*tools, "ai-edge-quantizer", "ai-edge-litert"]
        path.write_bytes(with_metadata(content, job.description, job.form.outputs))
        append_zip(path, job.description)
        return artifact(job.recipe.precision, path, {tool: version(tool) for tool in tools})


converter = TfliteConverter()


def op_list(path: Path) -> list[str]:
    """Return the operation names of a .tflite file's main graph, in its order (no delegate applied)."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    # small codes live in the deprecated one-byte field too; the larger of the two is the code
    ops = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graph = model.Subgraphs(0)
    return [ops[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())]


@dataclass(frozen=True)
class TfliteTracer(Tracer[bytes]):
    """See `Tracer`; a graph is a flatbuffer without metadata."""

    def trace(self, model: nn.Module) -> bytes:
        """See `Tracer.trace`."""
        import torch

        size = self.rule.size
        with captured_output("TFLite export", self.architecture):
            import litert_torch

            sample = torch.zeros(1, size, size, 3, dtype=getattr(torch, self.form.input.dtype))
            edge = litert_torch.signature(SIGNATURE, model, sample_kwargs={INPUT: sample}).convert()
            return bytes(edge.model_content())

    def with_weights(self, graph: bytes, swap: WeightSwap) -> bytes:
        """Replace tensors by their values: names are the converter's own, and axes may have another order."""
        from ai_edge_litert import schema_py_generated as schema

        swapped = bytearray(graph)
        model, visited = schema.Model.GetRootAs(swapped, 0), set()
        for number in range(model.SubgraphsLength()):
            subgraph = model.Subgraphs(number)
            for tensor in (subgraph.Tensors(i) for i in range(subgraph.TensorsLength())):
                values = model.Buffers(tensor.Buffer()).DataAsNumpy()
                skipped = tensor.Buffer() in visited or tensor.Type() != schema.TensorType.FLOAT32
                if not skipped and isinstance(values, np.ndarray):
                    visited.add(tensor.Buffer())
                    replacement = swap.by_values(values.view(np.float32))
                    if replacement is not None:
                        values[:] = replacement.view(np.uint8)
        return bytes(swapped)

    def run(self, graph: bytes, images: Sequence[NDArray[Any]]) -> list[NamedOutputs]:
        """See `Tracer.run`."""
        with captured_output("running the TFLite graph", "noise"):
            from ai_edge_litert.interpreter import Interpreter

            runner = Interpreter(model_content=graph).get_signature_runner(SIGNATURE)
            return [runner(**{INPUT: image}) for image in images]


def artifact(precision: str, path: Path, versions: dict[str, str]) -> Artifact:
    """Describe a .tflite file, as LiteRT reads it."""
    with captured_output("loading the TFLite file", path.name):
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(model_path=str(path)).get_signature_runner(SIGNATURE)
        inputs, outputs = (
            tuple(
                TensorSpec(name, tuple(int(d) for d in detail["shape"]), detail["dtype"].__name__)
                for name, detail in details.items()
            )
            for details in (runner.get_input_details(), runner.get_output_details())
        )
    return Artifact(path, precision, inputs, outputs, tuple(op_list(path)), versions)
