"""Static int8 for TFLite by ai-edge-quantizer: int8 weights per channel, min-max ranges."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from skinedge.errors import ConfigError
from skinedge.preprocess import Pixels, Preprocess
from skinedge_export.calibrate import centred_range
from skinedge_export.job import INPUT, ExportJob
from skinedge_export.quiet import quiet


def quantize(model: bytes, job: ExportJob) -> bytes:
    """The int8 flatbuffer made from the fp32 one, calibrated on `job.calibration`.

    Raises: ConfigError without calibration images; SkinedgeError when it fails.
    """
    if job.calibration is None:
        raise ConfigError("static int8 needs calibration images")
    with quiet("TFLite quantization", job.description.architecture):
        quantizer = _quantizer(model, job.recipe.tflite.float_ops)
        ranges = _observe(model, job.calibration, quantizer.get_quantization_recipe())
        _set_known(ranges, model, job.description.preprocess)
        return bytes(quantizer.quantize(ranges, enable_progress_report=False).quantized_model)


def _quantizer(model: bytes, float_ops: tuple[str, ...]) -> Any:
    from ai_edge_quantizer import qtyping, quantizer, recipe

    made = quantizer.Quantizer(model, recipe.static_wi8_ai8())
    rules = [(".*", name) for name in float_ops]
    head = _classifier(model)
    if head is not None:
        rules.append((re.escape(head), "FULLY_CONNECTED"))
    for where, name in rules:  # after the recipe: later rules win
        made.update_quantization_recipe(where, qtyping.TFLOperationName(name), algorithm_key="no_quantize")
    return made


def _classifier(model: bytes) -> str | None:
    """Name of what the last fully connected layer writes, the logits.

    The layer stays float: an int8 logit would have a step of .05 or more, and the layer takes no time.
    """
    interpreter = _interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    ops = [op for op in interpreter._get_ops_details() if op["op_name"] == "FULLY_CONNECTED"]
    return names[ops[-1]["outputs"][0]] if ops else None


def _observe(model: bytes, calibration: Pixels, recipe: Any) -> dict[str, Any]:
    """Tensor name -> smallest and largest value over the images.

    `Quantizer.calibrate` would take a moving average, which depends on the order of the images.
    """
    from ai_edge_quantizer import calibrator, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    from skinedge_export.to_tflite import SIGNATURE

    observer = calibrator.Calibrator(model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe)
    images = [{INPUT: image[np.newaxis].astype(np.float32)} for image in calibration]
    observer.calibrate({SIGNATURE: images}, rules)
    return dict(observer.get_model_qsvs())


def _set_known(ranges: dict[str, Any], model: bytes, rule: Preprocess) -> None:
    """Set the ranges of the pixels and of the centred pixels: they are known, not observed.

    Observed, they would clip any image that is brighter or darker than the calibration images.
    """
    interpreter = _interpreter(model)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    start = interpreter.get_input_details()[0]["index"]
    known = {names[start]: (0.0, 255.0)}
    users = [op for op in interpreter._get_ops_details() if start in op["inputs"]]
    if len(users) == 1 and users[0]["op_name"] == "ADD":
        known[names[users[0]["outputs"][0]]] = centred_range(rule)
    for name, (low, high) in known.items():
        ranges[name] = {"min": np.full((1, 1, 1, 1), low, np.float32), "max": np.full((1, 1, 1, 1), high, np.float32)}


def _interpreter(model: bytes) -> Any:
    """An interpreter that shows the graph as it is written: no delegate takes part of it."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=model, experimental_op_resolver_type=plain)
