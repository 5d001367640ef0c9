"""Operations of an .onnx file, read without the onnx package, which is not in the base install.

Protocol buffers (see their encoding's documentation): a field is its number and wire type in one varint, then a varint,
4 or 8 bytes, or a length and that many bytes. Field numbers are those of onnx.proto. Weights are skipped, not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MODEL_GRAPH, GRAPH_NODE, GRAPH_INITIALIZER, TENSOR_EXTERNAL = 7, 1, 5, 13
NODE_INPUT, NODE_OUTPUT, NODE_OPERATION = 1, 2, 4
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Node:
    """One operation: its ONNX name, and the names of its inputs and outputs."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def nodes(content: bytes) -> list[Node]:
    """List the operations of the main graph, in order. Raises: ValueError for bytes that are not an ONNX model."""
    model = memoryview(content)
    return [_node(node) for graph in _messages(model, MODEL_GRAPH) for node in _messages(graph, GRAPH_NODE)]


def external_files(content: bytes) -> set[str]:
    """Return the names of other files with the model's weights. Raises: ValueError as `nodes`."""
    model = memoryview(content)
    tensors = [tensor for graph in _messages(model, MODEL_GRAPH) for tensor in _messages(graph, GRAPH_INITIALIZER)]
    entries = [dict(_fields(entry)) for tensor in tensors for entry in _messages(tensor, TENSOR_EXTERNAL)]
    return {bytes(entry[2]).decode() for entry in entries if bytes(entry.get(1, b"")) == b"location" and 2 in entry}


def _node(message: memoryview) -> Node:
    texts: dict[int, list[str]] = {NODE_INPUT: [], NODE_OUTPUT: [], NODE_OPERATION: [""]}
    for number, value in _fields(message):
        if number in texts:
            texts[number].append(bytes(value).decode())
    return Node(texts[NODE_OPERATION][-1], tuple(texts[NODE_INPUT]), tuple(texts[NODE_OUTPUT]))


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(data) if number == wanted)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and bytes of each field with a length; other fields are skipped. Raises: ValueError."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is longer than its file")
            yield number, data[at : at + length]
            at += length
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a number and the position behind it: seven bits per byte, the lowest first."""
    value = 0
    for count in range(10):
        if at + count >= len(data):
            break
        value |= (data[at + count] & 0x7F) << 7 * count
        if data[at + count] < 0x80:
            return value, at + count + 1
    raise ValueError("a number does not end")
