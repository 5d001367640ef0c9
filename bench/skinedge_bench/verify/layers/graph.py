"""A model file from inside: which operations it computes, in their order, and what each of them gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from skinedge.core.preprocess import Pixels

# as TFLite writes them, and ONNX; an operation in neither of the first two computes something from no weights
MOVES = frozenset(  # the same numbers in another place or type
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
    """As the graph writes it.

    kind: the format's name of it; name: for people; inputs, output: tensors' names; key: what it is called in every
    file of its format that was made from the same network, whatever its precision.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    output: str
    key: str


class TensorReader(Protocol):
    """An open file. operations: in graph order; outputs: names of the tensors that the file gives."""

    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def values(self, pixels: Pixels, tensors: Sequence[str]) -> dict[str, NDArray[Any]]:
        """pixels: (1, S, S, 3) uint8; returns each tensor as (places, channels) real numbers, dequantized."""
        ...


@dataclass(frozen=True)
class Step:
    """One operation that both files compute.

    reads: tensors of the nearest earlier steps that it is made from; free: whether the int8 network may have scaled
    its channels, which is so behind the first weights and before the logits.
    """

    kind: str
    name: str
    tensor: str
    reads: tuple[str, ...]
    free: bool


def steps(inside: TensorReader, known: Collection[str]) -> tuple[Step, ...]:
    """The operations whose output is in `known`, in graph order; all that lies between two of them is passed through.

    Equalization never scales what a file gives nor what a softmax reads: these are compared as they are.
    """
    sources: dict[str, frozenset[str]] = {}  # what a tensor is made from
    same: dict[str, str] = {}  # a tensor that was moved -> the one that was computed
    scaled: set[str] = set()
    final: set[str] = set()
    found: list[tuple[Operation, frozenset[str]]] = []
    for operation in inside.operations:
        reads = frozenset[str]().union(*(sources.get(name, frozenset()) for name in operation.inputs))
        if operation.kind in WEIGHTED or scaled & set(operation.inputs):
            scaled.add(operation.output)
        if operation.kind in SOFTMAX:
            final |= {same.get(name, name) for name in operation.inputs}
        if operation.kind in MOVES and operation.inputs:
            same[operation.output] = same.get(operation.inputs[0], operation.inputs[0])
        if operation.kind in MOVES or operation.output not in known:
            sources[operation.output] = reads
        else:
            sources[operation.output] = frozenset((operation.output,))
            found.append((operation, reads))
    final |= {same.get(name, name) for name in inside.outputs}
    return tuple(
        Step(made.kind, made.name, made.output, tuple(sorted(reads)), made.output in scaled - final)
        for made, reads in found
    )


def computed(inside: TensorReader) -> dict[str, str]:
    """tensor -> name for people of the operation that computes it; what only moves numbers is left out."""
    return {made.output: made.name for made in inside.operations if made.kind not in MOVES}


def matched(mine: TensorReader, theirs: TensorReader) -> dict[str, str]:
    """Tensor of one file -> tensor of the other, computed by the same operation.

    Of operations that share a key the first is the other's first, and so on; where their numbers differ nobody knows.
    """
    first, second = _by_key(mine), _by_key(theirs)
    alike = [key for key in first if len(first[key]) == len(second.get(key, ()))]
    return {a: b for key in alike for a, b in zip(first[key], second[key], strict=True)}


def _by_key(inside: TensorReader) -> dict[str, list[str]]:
    names = Counter(operation.output for operation in inside.operations)
    found: dict[str, list[str]] = {}
    for operation in inside.operations:
        if operation.kind not in MOVES and names[operation.output] == 1:
            found.setdefault(operation.key, []).append(operation.output)
    return found
