"""The layers of a .tflite file with their shapes, from LiteRT's interpreter without a delegate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.errors import BundleError
from skinedge_bench.latency.roofline.workload import Layer

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL")


def layers(path: Path, size: int) -> list[Layer]:
    """List the layers of one inference of one image. size: side in pixels, for a file that accepts any.

    Raises: BundleError if LiteRT does not list operations.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    counted = []
    for operation in _operations(interpreter, path):
        kind = operation["op_name"]
        if kind not in WITH_WEIGHTS:
            continue
        weights = details[operation["inputs"][1]]
        result = details[operation["outputs"][0]]
        shape, dtype = tuple(map(int, weights["shape"])), np.dtype(weights["dtype"])
        outputs = tuple(map(int, result["shape"]))
        macs = math.prod(outputs) * _inputs_of_one_output(kind, shape, outputs[-1])
        counted.append(Layer(kind, dtype.name, macs, math.prod(shape) * dtype.itemsize))
    return counted


def _operations(interpreter: Any, path: Path) -> list[dict[str, Any]]:
    details = getattr(interpreter, "_get_ops_details", None)
    if details is None:
        raise BundleError("this version of LiteRT does not list a file's operations", where=str(path))
    return list(details())


def _inputs_of_one_output(kind: str, weights: tuple[int, ...], channels: int) -> int:
    """Return the number of products summed per output value. channels: last dimension of the output.

    weights: (out, height, width, in / groups); for a depthwise convolution (1, height, width, out); for a product
    (out, in) or (in, out), with further dimensions of its input flattened.
    """
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(weights[1:3])
    return math.prod(weights[1:]) if kind == "CONV_2D" else math.prod(weights[-2:]) // channels
