"""The operations of a model file in graph order, their tensors, and the operations that two files share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from skinedge.core.preprocess import Pixels

# Operations by their TFLite and ONNX names. An operation in neither MOVES nor WEIGHTED computes without weights.
MOVES = frozenset(  # the same numbers in another position or type
    [
        *("QUANTIZE", "DEQUANTIZE", "CAST", "RESHAPE", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2", "SHAPE"),
        *("QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Pad"),
        *("Shape", "Flatten", "Identity"),
    ]
)
WEIGHTED = frozenset(
    [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"),
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"),
    ]
)
SOFTMAX = frozenset(("SOFTMAX", "Softmax"))


@dataclass(frozen=True)
class Operation:
    """An operation of the graph.

    kind: its name in the format; name: for display; inputs, output: names of tensors; key: identifies the operation in
    every file of its format that was made from the same network, in any precision.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    key: str


class TensorReader(Protocol):
    """An open file. operations: in graph order; outputs: names of the output tensors."""

    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def values(self, pixels: Pixels, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run pixels (1, S, S, 3) uint8; return each tensor as (positions, channels) real numbers, dequantized."""
        ...


@dataclass(frozen=True)
class Step:
    """One operation that both files compute.

    reads: tensors of the nearest earlier steps that it depends on; free: whether the int8 network may have scaled its
    channels, as it may after the first weights and before the logits.
    """

    kind: str
    name: str
    tensor: str
    reads: tuple[str, ...]
    free: bool


def steps(reader: TensorReader, shared: Collection[str]) -> tuple[Step, ...]:
    """Return the operations whose output is in `shared`, in graph order; operations between two of them are skipped.

    Equalization never scales a file's outputs nor the input of a softmax: these are compared without a factor.
    """
    sources: dict[str, frozenset[str]] = {}  # tensor -> the shared tensors it is computed from
    origins: dict[str, str] = {}  # moved tensor -> the computed tensor
    scaled: set[str] = set()
    final: set[str] = set()
    selected: list[tuple[Operation, frozenset[str]]] = []
    for operation in reader.operations:
        reads = frozenset[str]().union(*(sources.get(name, frozenset()) for name in operation.inputs))
        if operation.kind in WEIGHTED or scaled & set(operation.inputs):
            scaled.add(operation.output)
        if operation.kind in SOFTMAX:
            final |= {origins.get(name, name) for name in operation.inputs}
        if operation.kind in MOVES and operation.inputs:
            origins[operation.output] = origins.get(operation.inputs[0], operation.inputs[0])
        if operation.kind in MOVES or operation.output not in shared:
            sources[operation.output] = reads
        else:
            sources[operation.output] = frozenset((operation.output,))
            selected.append((operation, reads))
    final |= {origins.get(name, name) for name in reader.outputs}
    return tuple(
        Step(operation.kind, operation.name, operation.output, tuple(sorted(reads)), operation.output in scaled - final)
        for operation, reads in selected
    )


def computed(reader: TensorReader) -> dict[str, str]:
    """Return tensor -> name of the operation that computes it; operations that only move numbers are omitted."""
    return {operation.output: operation.name for operation in reader.operations if operation.kind not in MOVES}


def matched(ours: TensorReader, theirs: TensorReader) -> dict[str, str]:
    """Return tensor of one file -> tensor of the other that the same operation computes.

    Operations that share a key are paired in graph order; a key with different counts in the two files is omitted.
    """
    first, second = _by_key(ours), _by_key(theirs)
    keys = [key for key in first if len(first[key]) == len(second.get(key, ()))]
    return {a: b for key in keys for a, b in zip(first[key], second[key], strict=True)}


def _by_key(reader: TensorReader) -> dict[str, list[str]]:
    """Return key -> output tensors of its operations, in graph order; tensors with several writers are omitted."""
    writers = Counter(operation.output for operation in reader.operations)
    tensors: dict[str, list[str]] = {}
    for operation in reader.operations:
        if operation.kind not in MOVES and writers[operation.output] == 1:
            tensors.setdefault(operation.key, []).append(operation.output)
    return tensors
