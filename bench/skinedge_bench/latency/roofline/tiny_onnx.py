"""An ONNX model of one matrix product, encoded by hand: the base install has ONNX Runtime, but not onnx.

Protocol buffers (see their encoding's documentation): a field is its number and wire type in one varint, then a varint,
or a length and that many bytes. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

IR_VERSION, OPSET = 8, 13
ELEMENT = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}  # TensorProto.DataType
WIDTH = {"float32": 4, "uint8": 1, "int8": 1}


def matrix_product(side: int, first: str, second: str) -> bytes:
    """Encode y = a @ b: a is the input, (side, side) of type `first`, b a constant of zeros of type `second`.

    first, second: both 'float32', or 'uint8' and 'int8' in any pairing, with y int32.
    """
    operation, result = ("MatMul", "float32") if first == "float32" else ("MatMulInteger", "int32")
    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, operation)
    shape = _number(1, side) * 2
    constant = shape + _number(2, ELEMENT[second]) + _text(8, "b") + _field(9, bytes(side * side * WIDTH[second]))
    graph = (
        _field(1, node)
        + _text(2, "product")
        + _field(5, constant)
        + _field(11, _value("a", first, side))
        + _field(12, _value("y", result, side))
    )
    return _number(1, IR_VERSION) + _field(7, graph) + _field(8, _text(1, "") + _number(2, OPSET))


def _value(name: str, dtype: str, side: int) -> bytes:
    """Encode the ValueInfoProto of a square matrix."""
    sides = _field(1, _number(1, side)) * 2
    tensor = _number(1, ELEMENT[dtype]) + _field(2, sides)
    return _text(1, name) + _field(2, _field(1, tensor))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """Encode seven bits per byte, the lowest first; the high bit marks that more follow."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
