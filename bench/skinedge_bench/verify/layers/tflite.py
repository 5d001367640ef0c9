"""Inner tensors of a .tflite file, from LiteRT without a delegate, which preserves every tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.preprocess import Pixels
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.verify.layers.graph import Operation


class TfliteTensorReader:
    """See `graph.TensorReader`. Channels are last, as in TFLite's operations."""

    def __init__(self, path: Path, layout: Layout) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._layout = layout
        self._interpreter = Interpreter(
            model_path=str(path),
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        details = {detail["index"]: detail for detail in self._interpreter.get_tensor_details()}
        names = {index: str(detail["name"]) for index, detail in details.items()}
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._details: dict[str, Any] = {}
        operations = []
        for op in self._interpreter._get_ops_details():
            inputs = tuple(names[index] for index in op["inputs"] if index in names)
            for index in op["outputs"]:
                kind, tensor = op["op_name"], names[index]
                module = readable(tensor)
                # the key omits the number after a tensor's name: it counts constants too, which a converter may merge
                operations.append(Operation(kind, module, inputs, tensor, key=f"{kind} {module}"))
                self._details[tensor] = details[index]
        self.operations = tuple(operations)
        self.outputs = tuple(str(detail["name"]) for detail in self._interpreter.get_output_details())

    def values(self, pixels: Pixels, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `TensorReader.values`."""
        self._interpreter.set_tensor(self._input, self._layout.arrange(pixels))
        self._interpreter.invoke()
        return {name: self._value(self._details[name]) for name in tensors}

    def _value(self, detail: Any) -> NDArray[Any]:
        raw = self._interpreter.get_tensor(detail["index"])
        rows = raw.reshape(-1, raw.shape[-1] if raw.ndim else 1)
        if rows.dtype.kind == "f":
            return np.asarray(rows)
        scale, zero = detail["quantization"]  # activations have one scale per tensor
        return np.asarray((rows.astype(np.float32) - np.float32(zero)) * np.float32(scale))


def open_reader(path: Path, layout: Layout) -> TfliteTensorReader:
    """Open a file that a session has opened before."""
    return TfliteTensorReader(path, layout)


def readable(tensor: str) -> str:
    """Return the module of a tensor that litert-torch named: 'blocks.0' of 'A/pkg.B_network/pkg.C_blocks/pkg.D_0;1'.

    Of several modules that were fused into one operation, it is the last in the name, the convolution. A name in
    another style is returned unchanged.
    """
    modules = [part for part in tensor.split(";") if "/" in part]
    if not modules:
        return tensor.partition(";")[0].rpartition(".")[2] or tensor
    parts = [part.rpartition(".")[2].partition("_")[2] for part in modules[-1].split("/")[1:]]
    return ".".join(part for part in parts if part).removeprefix("network.") or tensor
