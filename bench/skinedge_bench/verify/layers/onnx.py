"""Inner tensors of an .onnx file, as additional outputs in ONNX Runtime without graph optimizations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.preprocess import Pixels
from skinedge.system.requirements import import_failure
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.verify.layers.graph import Operation


class OnnxTensorReader:
    """See `graph.TensorReader`. The value of a quantized tensor is its dequantized value, which the next layer reads.

    Quantized layers are computed as the file defines them, in float between QuantizeLinear and DequantizeLinear: on a
    CPU whose int8 kernels saturate, the file is less accurate.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._layout = layout
        self._model = _library().load(path)
        graph = self._model.graph
        self.operations = _operations(graph)
        self.outputs = tuple(value.name for value in graph.output)
        self._input = graph.input[0].name
        self._dequantized = _dequantized(graph)
        before = itertools.takewhile(lambda operation: operation.kind != "Transpose", self.operations)
        self._channels_last = set() if layout.channels_first else {operation.output for operation in before}
        self._session: Any = None
        self._session_outputs: tuple[str, ...] = ()

    def values(self, pixels: Pixels, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `TensorReader.values`."""
        outputs = tuple(self._dequantized.get(name, name) for name in tensors)
        if self._session_outputs != outputs:
            self._session, self._session_outputs = self._open(outputs), outputs
        arrays = self._session.run(list(outputs), {self._input: self._layout.arrange(pixels)})
        return {name: self._rows(name, array) for name, array in zip(tensors, arrays, strict=True)}

    def _rows(self, tensor: str, array: NDArray[Any]) -> NDArray[Any]:
        """Reshape (N, C, H, W) or (N, ..., C) to (positions, C)."""
        channels_first = array.ndim == 4 and tensor not in self._channels_last
        last = np.moveaxis(array, 1, -1) if channels_first else array
        return last.reshape(-1, last.shape[-1] if last.ndim else 1)

    def _open(self, outputs: Sequence[str]) -> Any:
        """Open a session that also returns the tensors `outputs`."""
        import onnxruntime

        onnx, model = _library(), _library().ModelProto()
        model.CopyFrom(self._model)
        existing = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs if name not in existing)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def open_reader(path: Path, layout: Layout) -> OnnxTensorReader:
    """Open a file that a session has opened before. Raises: MissingDependencyError without the package onnx."""
    return OnnxTensorReader(path, layout)


def _library() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise import_failure(error, "export") from None
    return onnx


def _operations(graph: Any) -> tuple[Operation, ...]:
    """List the operations, named by the module of their weights; without weights, by module before and tensor."""
    modules: dict[str, str] = {}
    operations = []
    for node in graph.node:
        weights = next((name for name in node.input[1:] if ".weight" in name), "")
        own = weights.partition(".weight")[0].removeprefix("network.")
        before = own or next((modules[name] for name in node.input if modules.get(name)), "")
        for output in node.output:
            modules[output] = before
            name = own or (f"{before}/{output}" if before else output)
            # a quantizer folds a Clip into the layer before it, which then writes the Clip's tensor
            operations.append(Operation(node.op_type, name, tuple(node.input), output, key=output))
    return tuple(operations)


def _dequantized(graph: Any) -> dict[str, str]:
    """Return tensor -> the tensor after its QuantizeLinear and DequantizeLinear."""
    quantized = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    dequantized = {node.input[0]: node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return {name: dequantized[integers] for name, integers in quantized.items() if integers in dequantized}
