"""TFLite files: NHWC, batch 1, description and labels in an appended zip."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from skinedge.plugins import TensorSpec
from skinedge_export.job import INPUT, Artifact, ExportJob
from skinedge_export.metadata import append_zip
from skinedge_export.quiet import quiet
from skinedge_export.ranges import METHODS
from skinedge_export.recipe import CALIBRATED, RECIPES, ExportRecipe, load_recipe
from skinedge_export.tflite_metadata import with_metadata
from skinedge_export.wrapper import pixel_model

SIGNATURE = "serving_default"


class TfliteConverter:
    """See `skinedge_export.job.Converter`."""

    format = "tflite"
    suffix = ".tflite"
    runtime = "litert"
    ranges = METHODS

    def recipe(self, precision: str) -> ExportRecipe:
        return load_recipe(RECIPES / f"tflite-{precision}.toml")

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        content, tools = job.once("tflite", lambda: _trace(job)), ["torch", "litert-torch", "litert-converter"]
        if job.recipe.precision != "fp32":
            from skinedge_export import quantize_tflite

            quantize = quantize_tflite.quantize if job.recipe.precision in CALIBRATED else quantize_tflite.shrink
            content, tools = quantize(content, job), [*tools, "ai-edge-quantizer", "ai-edge-litert"]
        path.write_bytes(with_metadata(content, job.description, job.form.outputs))
        append_zip(path, job.description)
        return artifact(job.recipe.precision, path, {tool: version(tool) for tool in tools})


converter = TfliteConverter()


def op_list(path: Path) -> list[str]:
    """Operation names of the main graph of a .tflite file, in its order (no delegate applied)."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    # small codes live in the deprecated one-byte field too; the larger of the two is the code
    ops = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    graph = model.Subgraphs(0)
    return [ops[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())]


def _trace(job: ExportJob) -> bytes:
    """The fp32 flatbuffer of the job's network."""
    import torch

    size, form = job.description.preprocess.size, job.form
    model = pixel_model(job.network, job.description.preprocess, form)
    with quiet("TFLite export", job.description.architecture):
        import litert_torch

        sample = torch.zeros(1, size, size, 3, dtype=getattr(torch, form.input.dtype))
        edge = litert_torch.signature(SIGNATURE, model, sample_kwargs={INPUT: sample}).convert()
        return bytes(edge.model_content())


def artifact(precision: str, path: Path, versions: dict[str, str]) -> Artifact:
    with quiet("loading the TFLite file", path.name):
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
