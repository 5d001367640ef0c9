"""Layout change of our ONNX graph for onnx2tf, which takes every image input for NCHW and converts it to NHWC."""

from __future__ import annotations

from typing import Any

from skinedge.core.errors import SkinedgeError

TO_CHANNELS_FIRST = [0, 3, 1, 2]
ELEMENTWISE = ("Cast", "Add", "Sub", "Mul", "Div")


def channels_first(model: Any) -> Any:
    """Return a copy of an onnx.ModelProto with input (1, 3, S, S) for (N, S, S, 3), without its first transposition.

    Constants with one value per channel before the transposition are reshaped. onnx2tf has options that keep an NHWC
    input, but then transposes the first convolution's input wrongly.
    Raises: SkinedgeError for a graph without that transposition.
    """
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    head, transposition = _head(graph)
    for node in head:
        _reshape_constants(graph, node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == transposition.output[0]:
                node.input[index] = transposition.input[0]
    graph.node.remove(transposition)
    size = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    _set_shape(graph.input[0], (1, 3, size, size))
    for output in graph.output:
        dims = output.type.tensor_type.shape.dim
        _set_shape(output, (1, *(dim.dim_value for dim in dims[1:])))
    del graph.value_info[:]  # shapes of the original layout
    for node in [node for node in graph.node if node.op_type == "MaxPool"]:
        _pad_with_zeros(graph, node)
    return changed


def _head(graph: Any) -> tuple[list[Any], Any]:
    """Return the operations before the first transposition, and the transposition."""
    head, value = [], graph.input[0].name
    while True:
        users = [node for node in graph.node if value in node.input]
        if len(users) == 1 and users[0].op_type in ELEMENTWISE:
            head.append(users[0])
            value = users[0].output[0]
            continue
        perm = [list(item.ints) for node in users for item in node.attribute if item.name == "perm"]
        if len(users) == 1 and users[0].op_type == "Transpose" and perm == [TO_CHANNELS_FIRST]:
            return head, users[0]
        types = ", ".join(node.op_type for node in users) or "nothing"
        raise SkinedgeError(f"the ONNX graph's pixels go into {types}, not into a transposition to NCHW")


def _reshape_constants(graph: Any, node: Any) -> None:
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    for index, name in enumerate(node.input):
        if name in constants and len(constants[name].dims):
            values = numpy_helper.to_array(constants[name])
            column = numpy_helper.from_array(values.reshape(-1, 1, 1), f"{name}.column")
            if column.name not in constants:
                graph.initializer.append(column)
            node.input[index] = column.name


def _pad_with_zeros(graph: Any, pool: Any) -> None:
    """Pad a max-pooling after a ReLU with explicit zeros, which does not change its output.

    onnx2tf pads with the smallest float32, which TensorFlow then includes in the int8 range: all values would be lost.
    """
    import numpy as np
    from onnx import helper, numpy_helper

    source = next((node for node in graph.node if pool.input[0] in node.output), None)
    pads = next((item for item in pool.attribute if item.name == "pads"), None)
    if source is None or source.op_type != "Relu" or pads is None or not any(pads.ints):
        return
    half = len(pads.ints) // 2
    amounts = np.array([0, 0, *pads.ints[:half], 0, 0, *pads.ints[half:]], np.int64)
    name = f"{pool.output[0]}.padded"
    graph.initializer.append(numpy_helper.from_array(amounts, f"{name}.pads"))
    padding = helper.make_node("Pad", [pool.input[0], f"{name}.pads"], [name], name=name, mode="constant")
    graph.node.insert(list(graph.node).index(pool), padding)
    pool.input[0] = name
    pads.ints[:] = [0] * len(pads.ints)


def _set_shape(value: Any, shape: tuple[int, ...]) -> None:
    dims = value.type.tensor_type.shape.dim
    for dim, length in zip(dims, shape, strict=True):
        dim.Clear()
        dim.dim_value = length
