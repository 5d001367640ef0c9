"""ONNX files with smaller weights and the same computation: int8 per channel, or half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 1024  # weights of a tensor that is worth it: the rest is biases and constants
STEPS = 127


def quantize_weights(model: Any, precision: str) -> Any:
    """A copy of the fp32 onnx.ModelProto; precision: 'int8-weight' or 'fp16'.

    Each large initializer becomes a small one and a node that widens it again: DequantizeLinear (per output channel,
    symmetric) or Cast. Runtimes fold that node when they load the file, so activations stay in float.
    """
    import onnx
    from onnx import numpy_helper

    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    nodes, tensors = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST or values.ndim < 2:
            tensors.append(tensor)
            continue
        stored = f"{tensor.name}_{precision}"
        if precision == "fp16":
            tensors.append(numpy_helper.from_array(values.astype(np.float16), stored))
            nodes.append(
                onnx.helper.make_node("Cast", [stored], [tensor.name], f"{stored}_cast", to=onnx.TensorProto.FLOAT)
            )
            continue
        levels, steps = rounded(values)
        names = [stored, f"{stored}_scale", f"{stored}_zero"]
        parts = (levels, steps, np.zeros(len(steps), np.int8))
        tensors += [numpy_helper.from_array(part, name) for part, name in zip(parts, names, strict=True)]
        nodes.append(onnx.helper.make_node("DequantizeLinear", names, [tensor.name], f"{stored}_dequantize", axis=0))
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *rest])
    return small


def rounded(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """(O, ...) -> levels (O, ...) int8 in -127..127, and the step of each output channel (O,) float32."""
    steps = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float32) / STEPS
    steps = np.maximum(steps, np.finfo(np.float32).tiny)
    levels = np.rint(weights / steps.reshape(-1, *[1] * (weights.ndim - 1)))
    return levels.clip(-STEPS, STEPS).astype(np.int8), steps
