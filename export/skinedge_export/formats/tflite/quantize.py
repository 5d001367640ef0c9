"""Quantization of TFLite files by ai-edge-quantizer: static int8 (weights per channel), or of the weights alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import HEATMAP, Contract
from skinedge.core.preprocess import Pixels
from skinedge_export.captured_output import captured_output
from skinedge_export.converter import INPUT, ExportJob
from skinedge_export.formats.tflite.metadata import SIGNATURE
from skinedge_export.graph.graph import EVIDENCE
from skinedge_export.int8.activation_ranges import IMAGES, Histogram, count, narrowed
from skinedge_export.int8.calibration_images import centred_range, in_order
from skinedge_export.int8.finite import require_finite


def quantize(model: bytes, job: ExportJob) -> bytes:
    """Return the int8 flatbuffer of an fp32 one, calibrated on `job.calibration`.

    Raises: ConfigError without calibration images; SkinedgeError if quantization fails.
    """
    if job.calibration is None:
        raise ConfigError("static int8 needs calibration images")
    calibration, method = job.calibration, job.recipe.calibration.ranges
    with captured_output("TFLite quantization", job.description.architecture):
        observed = job.observed
        if observed.extremes is None:
            observed.extremes = _observe(model, calibration, job)
        ranges = dict(observed.extremes)
        if method != "min-max":
            if observed.histograms is None:
                observed.histograms = _histograms(model, calibration, job.form.input, ranges)
            ranges |= {
                name: _limits(*narrowed(histogram, method))
                for name, histogram in observed.histograms.items()
                if scope(name) != EVIDENCE and HEATMAP not in name  # clipping would flatten the peaks of the heatmap
            }
        quantizer = _quantizer(model, job, kept=_kept_float(model, job))
        known = _known_ranges(model, job)
        return bytes(quantizer.quantize({**ranges, **known}, enable_progress_report=False).quantized_model)


def quantize_weights(model: bytes, job: ExportJob) -> bytes:
    """Return the flatbuffer with smaller weights, int8 per channel ('int8-weight') or fp16; it computes in float."""
    from ai_edge_quantizer import qtyping, quantizer, recipe

    with captured_output("TFLite weights", job.description.architecture):
        rules = recipe.weight_only_wi8_afp32()
        if job.recipe.precision == "fp16":
            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            config = qtyping.OpQuantizationConfig(
                weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
            )
            rules = [{**rules[0], "algorithm_key": "float_casting", "op_config": config.to_dict()}]
        result = quantizer.Quantizer(model, rules).quantize(enable_progress_report=False)
        return bytes(result.quantized_model)


def _quantizer(model: bytes, job: ExportJob, kept: tuple[tuple[str, str], ...] = ()) -> Any:
    """Build the static int8 quantizer.

    kept: (tensor, operation) pairs that stay in float besides the recipe's operations and the classifier.
    """
    from ai_edge_quantizer import qtyping, quantizer, recipe

    static = quantizer.Quantizer(model, recipe.static_wi8_ai8())
    rules = [(".*", name) for name in job.recipe.tflite.float_ops]
    rules += [(re.escape(tensor), operation) for tensor, operation in (*_classifier(model), *kept)]
    for where, name in rules:  # after the recipe: later rules win
        static.update_quantization_recipe(where, qtyping.TFLOperationName(name), algorithm_key="no_quantize")
    return static


def _classifier(model: bytes) -> list[tuple[str, str]]:
    """Return the last fully connected layer as (tensor, operation): its output is the logits.

    The layer stays float: an int8 logit would have a step of .05 or more, and the layer costs almost no time.
    """
    return [pair for pair in _written(model) if pair[1] == "FULLY_CONNECTED"][-1:]


def _kept_float(model: bytes, job: ExportJob) -> tuple[tuple[str, str], ...]:
    """Return (tensor, operation) for every operation of the layers in `job.kept_float`."""
    from ai_edge_quantizer import qtyping

    supported = {name.value for name in qtyping.TFLOperationName}
    pairs = tuple(pair for pair in _written(model) if pair[1] in supported and job.keeps_float(scope(pair[0])))
    if job.kept_float and not pairs:
        raise ConfigError("none of the layers to keep in float was found in the TFLite graph")
    return pairs


def _written(model: bytes) -> list[tuple[str, str]]:
    """Return (name of the first output tensor, operation) for every operation, in graph order."""
    interpreter = _interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    return [(names[op["outputs"][0]], op["op_name"]) for op in interpreter._get_ops_details()]


def scope(tensor: str) -> str:
    """Return the path, in the job's network, of the module that a tensor comes from; '' outside the network.

    litert-torch names a tensor 'wrapper.PixelModel/...Sequential_blocks/...Conv2d_0;1': a class and the attribute that
    holds it, level by level, and joins the names of fused operations by ';;', the result's own first.
    """
    levels = tensor.split(";")[0].split("/")
    names = [level.rpartition(".")[2].partition("_")[2] for level in levels[1:]]
    return ".".join(names[1:] if names[:1] == ["network"] else names)


def _observe(model: bytes, calibration: Pixels, job: ExportJob) -> dict[str, Any]:
    """Return tensor name -> smallest and largest value over the images.

    `Quantizer.calibrate` would take a moving average, which depends on the order of the images.
    Raises: GateError if a value is not finite.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    observer = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(_quantizer(model, job).get_quantization_recipe())
    images = [{INPUT: job.form.input.encode(image[np.newaxis])} for image in calibration]
    observer.calibrate({SIGNATURE: images}, rules)
    observed = dict(observer.get_model_qsvs())
    for name, limits in observed.items():
        require_finite(name, *limits["min"].flat, *limits["max"].flat)
    return observed


def _histograms(
    model: bytes, calibration: Pixels, contract: Contract, observed: Mapping[str, Any]
) -> dict[str, Histogram]:
    """Count histograms of the tensors with one range, over IMAGES of the calibration images."""
    interpreter = _interpreter(model, keep_tensors=True)
    limits = {
        name: (float(extremes["min"].min()), float(extremes["max"].max()))
        for name, extremes in observed.items()
        if extremes["min"].size == 1  # weights have a range per channel
    }
    indices = {t["name"]: t["index"] for t in interpreter.get_tensor_details() if t["name"] in limits}
    input_index = interpreter.get_input_details()[0]["index"]

    def runs() -> Iterator[dict[str, NDArray[np.float32]]]:
        interpreter.allocate_tensors()
        for image in in_order(calibration)[:: max(1, len(calibration) // IMAGES)]:
            interpreter.set_tensor(input_index, contract.encode(image[np.newaxis]))
            interpreter.invoke()
            yield {name: interpreter.get_tensor(index) for name, index in indices.items()}

    return count(runs(), limits)


def _known_ranges(model: bytes, job: ExportJob) -> dict[str, Any]:
    """Return the ranges of the pixels and of the centred pixels, which follow from the input contract.

    Observed ranges would clip images that are brighter or darker than the calibration images.
    """
    interpreter = _interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    index = interpreter.get_input_details()[0]["index"]
    known = {names[index]: job.form.input.range}
    while True:  # through the cast of bytes
        users = [op for op in operations if index in op["inputs"]]
        if len(users) != 1 or users[0]["op_name"] not in ("CAST", "ADD"):
            break
        index = users[0]["outputs"][0]
        if users[0]["op_name"] == "ADD":
            known[names[index]] = centred_range(job.description.preprocess, job.form.input)
            break
        known[names[index]] = job.form.input.range
    return {name: _limits(low, high) for name, (low, high) in known.items()}


def _limits(low: float, high: float) -> dict[str, NDArray[np.float32]]:
    return {"min": np.full((1, 1, 1, 1), low, np.float32), "max": np.full((1, 1, 1, 1), high, np.float32)}


def _interpreter(model: bytes, *, keep_tensors: bool = False) -> Any:
    """Load a graph without delegates, so that every operation and tensor is visible."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(
        model_content=model, experimental_op_resolver_type=plain, experimental_preserve_all_tensors=keep_tensors
    )
