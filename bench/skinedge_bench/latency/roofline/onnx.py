"""The layers of an .onnx file with their shapes: what ONNX Runtime's own profile of one inference says.

So no ONNX parser is needed, and what is counted is what is computed: int8 where the quantized operations were fused,
float where the file only keeps its weights small. Layout optimizations are off, since they pad the weights, and so is
packing, which hides them.
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

# operation -> which input is the weights
CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
PRODUCTS = {
    **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "DynamicQuantizeMatMul"), 1),
    **dict.fromkeys(("MatMulIntegerToFloat",), 1),
    **dict.fromkeys(("QLinearMatMul", "QGemm"), 3),
}
NAMES = {"float": "float32", "double": "float64"}  # the profile's -> numpy's

Tensor = tuple[str, tuple[int, ...]]


def layers(path: Path, size: int) -> list[Layer]:
    """Of one inference of one image. size: side in pixels where the file leaves it free.

    Raises: BundleError when ONNX Runtime cannot run the file in this way.
    """
    try:
        ran = _profile(path, size)
    except Exception as error:  # its C++ exceptions have no common base below Exception
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"ONNX Runtime cannot profile this file ({reason})", where=str(path)) from None
    found = []
    for kind, inputs, outputs in ran:
        if kind in CONVOLUTIONS:
            dtype, shape = inputs[CONVOLUTIONS[kind]]
            macs = math.prod(outputs[0][1]) * math.prod(shape[1:])  # weights (out, in / groups, height, width)
        elif kind in PRODUCTS:
            dtype, shape = inputs[PRODUCTS[kind]]
            macs = math.prod(outputs[0][1]) * (math.prod(shape[-2:]) // outputs[0][1][-1])  # (in, out) or (out, in)
        else:
            continue
        found.append(Layer(kind, dtype, macs, math.prod(shape) * np.dtype(dtype).itemsize))
    return found


def _profile(path: Path, size: int) -> list[tuple[str, list[Tensor], list[Tensor]]]:
    """(operation, inputs, outputs) of each kernel that ran, in their order."""
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
    ran: list[Mapping[str, Any]] = [event.get("args", {}) for event in events if event["name"].endswith("_kernel_time")]
    return [(a["op_name"], _tensors(a["input_type_shape"]), _tensors(a["output_type_shape"])) for a in ran]


def _tensors(said: Sequence[Mapping[str, Sequence[int]]]) -> list[Tensor]:
    pairs = [next(iter(tensor.items())) for tensor in said]
    return [(NAMES.get(name, name), tuple(shape)) for name, shape in pairs]
