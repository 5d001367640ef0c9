"""The layers of an .onnx file with their shapes, from ONNX Runtime's profile of one inference.

This needs no ONNX parser, and counts the executed operations: int8 if the quantized operations were fused, float if
only the weights are stored in int8. Layout optimizations, which pad weights, and packing, which hides them, are off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core import json_io
from skinedge.core.errors import BundleError
from skinedge.system.temporary_folder import scratch_folder
from skinedge_bench.latency.roofline.workload import Layer
from skinedge_bench.runtimes.ort import DTYPES

PROFILE_BYTES = 256 << 20

# operation -> index of the weights among its inputs
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
PRODUCTS = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "DynamicQuantizeMatMul"), 1),
    **dict.fromkeys(("MatMulIntegerToFloat",), 1),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), 3),
}
NAMES = {"float": "float32", "double": "float64"}  # the profile's -> numpy's

Tensor = tuple[str, tuple[int, ...]]


def layers(path: Path, size: int) -> list[Layer]:
    """List the layers of one inference of one image. size: side in pixels, for a file that accepts any.

    Raises: BundleError if ONNX Runtime cannot profile the file.
    """
    try:
        kernels = _profile(path, size)
    except Exception as error:  # its C++ exceptions have no common base below Exception
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"ONNX Runtime cannot profile this file ({reason})", where=str(path)) from None
    counted = []
    for kind, inputs, outputs in kernels:
        if kind in CONVOLUTIONS:
            dtype, shape = inputs[CONVOLUTIONS[kind]]
            macs = math.prod(outputs[0][1]) * math.prod(shape[1:])  # weights (out, in / groups, height, width)
        elif kind in PRODUCTS:
            dtype, shape = inputs[PRODUCTS[kind]]
            macs = math.prod(outputs[0][1]) * (math.prod(shape[-2:]) // outputs[0][1][-1])  # (in, out) or (out, in)
        else:
            continue
        counted.append(Layer(kind, dtype, macs, math.prod(shape) * np.dtype(dtype).itemsize))
    return counted


def _profile(path: Path, size: int) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """Return (operation, inputs, outputs) of each executed kernel, in order."""
    import onnxruntime

    with scratch_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        shape = [side if isinstance(side, int) else size for side in image.shape]
        shape[0] = image.shape[0] if isinstance(image.shape[0], int) else 1
        session.run(None, {image.name: np.zeros(shape, dtype=DTYPES[image.type])})
        events = json_io.read_json(Path(session.end_profiling()), list[dict[str, Any]], most=PROFILE_BYTES)
    kernels: list[Mapping[str, Any]] = [e.get("args", {}) for e in events if e["name"].endswith("_kernel_time")]
    return [(a["op_name"], _tensors(a["input_type_shape"]), _tensors(a["output_type_shape"])) for a in kernels]


def _tensors(entries: Sequence[Mapping[str, Sequence[int]]]) -> list[Tensor]:
    pairs = [next(iter(tensor.items())) for tensor in entries]
    return [(NAMES.get(name, name), tuple(shape)) for name, shape in pairs]
