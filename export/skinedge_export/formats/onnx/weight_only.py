"""Weight-only quantization of ONNX graphs: int8 per channel, or half precision; activations stay float."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST = 1024  # elements of a quantized tensor; smaller ones are biases and constants
STEPS = 127


def quantize_weights(model: Any, precision: str) -> Any:
    """Return a copy of the fp32 onnx.ModelProto with smaller weights; precision: 'int8-weight' or 'fp16'.

    Each large initializer becomes a smaller one and a node that restores float32: DequantizeLinear (per output
    channel, symmetric) or Cast. Runtimes fold that node when they load the file.
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
    """Return int8 levels (O, ...), -127..127, of weights (O, ...), and the step of each channel (O,) float32."""
    steps = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float32) / STEPS
    steps = np.maximum(steps, np.finfo(np.float32).tiny)
    levels = np.rint(weights / steps.reshape(-1, *[1] * (weights.ndim - 1)))
    return levels.clip(-STEPS, STEPS).astype(np.int8), steps
