"""Conversion to ONNX: one file, dynamic batch dimension, checked."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from skinedge.core.errors import SkinedgeError
from skinedge.run.embedded_metadata import ModelDescription
from skinedge.run.plugins import TensorSpec
from skinedge_export.captured_output import captured_output
from skinedge_export.converter import INPUT, Artifact, ExportJob
from skinedge_export.formats.metadata import describe_onnx
from skinedge_export.graph.weight_swap import NamedOutputs, Tracer, WeightSwap
from skinedge_export.int8.activation_ranges import METHODS
from skinedge_export.recipe import CALIBRATED, RECIPES, ExportRecipe, OnnxOptions, load_recipe

if TYPE_CHECKING:
    from torch import nn

Graph = tuple[Any, dict[str, str]]  # onnx.ModelProto, node name -> path of the module that computes it


class OnnxConverter:
    """See `skinedge_export.converter.Converter`."""

    format = "onnx"
    suffix = ".onnx"
    runtime = "onnxruntime"
    ranges = METHODS
    libraries = ("timm", "torch.onnx", "onnxscript", "onnxruntime.quantization")

    def recipe(self, precision: str) -> ExportRecipe:
        """See `Converter.recipe`."""
        return load_recipe(RECIPES / f"onnx-{precision}.toml")

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        """See `Converter.convert`."""
        model, scopes = fp32_graph(job)
        tools = ["torch", "onnxscript", "onnx"]
        if job.recipe.precision in CALIBRATED:
            from skinedge_export.formats.onnx.quantize import quantize

            model, tools = quantize(model, job, scopes), [*tools, "onnxruntime"]
        elif job.recipe.precision != "fp32":
            from skinedge_export.formats.onnx.weight_only import quantize_weights

            model = quantize_weights(model, job.recipe.precision)
        _write(model, job.description, path)
        return _artifact(model, job.recipe, path, {tool: version(tool) for tool in tools})


converter = OnnxConverter()


def op_list(path: Path) -> list[str]:
    """Return the operation names of an ONNX file, in graph order."""
    import onnx

    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]


def fp32_graph(job: ExportJob) -> Graph:
    """Return the fp32 onnx.ModelProto of the job's network, and node name -> path of the module that computes it.

    Neither must be changed.
    """
    description = job.description
    tracer = OnnxTracer(description.preprocess, job.form, description.architecture, job.recipe.onnx.opset)
    return job.graphs.fp32(tracer, job.network)


@dataclass(frozen=True)
class OnnxTracer(Tracer[Graph]):
    """See `Tracer`. opset: version of the ONNX operator set."""

    opset: int

    def trace(self, model: nn.Module) -> Graph:
        """See `Tracer.trace`."""
        import torch

        size, dtype = self.rule.size, getattr(torch, self.form.input.dtype)
        sample = torch.zeros(2, size, size, 3, dtype=dtype)  # a batch of 1 would become a constant
        with captured_output("ONNX export", self.architecture):
            program = torch.onnx.export(
                model,
                (sample,),
                dynamo=True,
                external_data=False,
                opset_version=self.opset,
                input_names=[INPUT],
                output_names=list(self.form.outputs),
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
                verbose=False,
            )
            proto = program.model_proto
            scopes = {node.name: _scope(node) for node in proto.graph.node}
            return _without_notes(proto), scopes

    def with_weights(self, graph: Graph, swap: WeightSwap) -> Graph:
        """Replace initializers by name: they have the names of the state dict."""
        from onnx import numpy_helper

        model, scopes = graph
        swapped = type(model)()
        swapped.CopyFrom(model)
        for tensor in swapped.graph.initializer:
            values = swap.by_name(tensor.name, numpy_helper.to_array(tensor))
            if values is not None:
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return swapped, scopes

    def run(self, graph: Graph, images: Sequence[NDArray[Any]]) -> list[NamedOutputs]:
        """See `Tracer.run`."""
        import onnxruntime as ort

        with captured_output("running the ONNX graph", "noise"):
            session = ort.InferenceSession(graph[0].SerializeToString(), providers=["CPUExecutionProvider"])
            names = [output.name for output in session.get_outputs()]
            return [dict(zip(names, session.run(names, {INPUT: image}), strict=True)) for image in images]


def _scope(node: Any) -> str:
    """Return the path, in the job's network, of the module that a node comes from; '' if not noted by the exporter."""
    noted = {prop.key: prop.value for prop in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
    modules = ast.literal_eval(noted)[:-1]  # the last one is the operation
    return modules[-1].removeprefix("network").removeprefix(".") if modules else ""


def _without_notes(model: Any) -> Any:
    """Remove the exporter's notes, which contain source paths of this machine."""
    graph = model.graph
    model.doc_string = ""
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        part.ClearField("metadata_props")
    return model


def _write(model: Any, description: ModelDescription, path: Path) -> None:
    """Write the checked file, with the lowest IR version that its opset allows: old runtimes refuse newer ones."""
    import onnx

    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise SkinedgeError("the ONNX exporter put weights outside the file")
    describe_onnx(model, description)
    try:
        model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
        onnx.checker.check_model(model, full_check=True)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SkinedgeError(f"the ONNX exporter wrote an invalid graph ({error})") from None
    path.write_bytes(model.SerializeToString(deterministic=True))


def _artifact(model: Any, recipe: ExportRecipe, path: Path, versions: dict[str, str]) -> Artifact:
    graph = model.graph
    return Artifact(
        path=path,
        precision=recipe.precision,
        inputs=tuple(_spec(value) for value in graph.input),
        outputs=tuple(_spec(value) for value in graph.output),
        ops=tuple(node.op_type for node in graph.node),
        versions=versions,
        oldest_runtime=_oldest_runtime(recipe.onnx),
    )


def _oldest_runtime(options: OnnxOptions) -> str | None:
    """Return the first ONNX Runtime whose outputs are those of the newest; None if that was not measured.

    Measured on x86-64 with AVX2: 1.14.1 differs from 1.32.0 by at most 8e-6, 1.13.1 refuses opset 18. With int8
    activations (S8S8), probabilities of 1.14.1 are wrong by up to 0.19; those of 1.15.1 are the same bits.
    """
    if options.opset != 18:
        return None
    return "1.15" if options.activations == "int8" else "1.14"


def _spec(value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return TensorSpec(value.name, shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
