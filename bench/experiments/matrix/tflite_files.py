"""Small .tflite files as other tools write them: images of 8 x 8 pixels, 3 classes, with the logits of `onnx_files`.

Written operation by operation with the flatbuffer schema, in a millisecond; TFLite Metadata with the tables of
`skinedge_export.formats.tflite.metadata`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from experiments.matrix.onnx_files import SIDE, WEIGHTS
from skinedge_export.formats.tflite import metadata as tables

OPTIONS: Mapping[str, Callable[[], Any]] = {
    "MEAN": schema.ReducerOptionsT,
    "MUL": schema.MulOptionsT,
    "ADD": schema.AddOptionsT,
    "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    "SOFTMAX": schema.SoftmaxOptionsT,
    "LOG_SOFTMAX": schema.LogSoftmaxOptionsT,
    "ARG_MAX": schema.ArgMaxOptionsT,
    "RESHAPE": schema.ReshapeOptionsT,
    "CAST": schema.CastOptionsT,
    "QUANTIZE": schema.QuantizeOptionsT,
    "DEQUANTIZE": schema.DequantizeOptionsT,
    "SLICE": schema.SliceOptionsT,
}
NUMPY = {"float32": "FLOAT32", "uint8": "UINT8", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64"}
Scale = tuple[float, int]  # scale and zero point


@dataclass
class Graph:
    """A graph under construction, from image to `logits`.

    dtype: of the image; scale: its scale and zero point, None for an image that is not quantized. The values of the
    image are divided by `white` (after subtracting `black`) to give colours in 0..1.
    """

    dtype: str = "float32"
    scale: Scale | None = None
    black: float = 0.0
    white: float = 255.0
    nhwc: bool = True
    channels: int = 3
    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=lambda: ["image"])
    outputs: list[str] = field(default_factory=list)
    signature: dict[str, str] | None = None

    def __post_init__(self) -> None:
        shape = [1, SIDE, SIDE, self.channels] if self.nhwc else [1, self.channels, SIDE, SIDE]
        real = self.tensor("image", shape, self.dtype, self.scale)
        if self.scale is not None:
            real = self.add("DEQUANTIZE", ["image"], "real", shape)
        elif self.dtype != "float32":
            real = self.add("CAST", ["image"], "real", shape)
        axes = np.array([1, 2] if self.nhwc else [2, 3], np.int32)
        self.add("MEAN", [real, self.constant("axes", axes)], "mean", [1, self.channels])
        self.add("ADD", ["mean", self.constant("black", np.float32([-self.black]))], "shifted", [1, self.channels])
        self.add("MUL", ["shifted", self.constant("w", np.float32([1 / self.white]))], "colour", [1, self.channels])
        weights = WEIGHTS if self.channels == 3 else np.ones((self.channels, 3), np.float32)
        self.dense(weights, "logits")

    def tensor(self, name: str, shape: Sequence[int], dtype: str, scale: Scale | None = None) -> str:
        """Declare a tensor; returns its name."""
        created = schema.TensorT()
        created.name, created.shape, created.buffer = name, list(shape), 0
        created.type = getattr(schema.TensorType, NUMPY[dtype])
        if scale is not None:
            created.quantization = schema.QuantizationParametersT()
            created.quantization.scale, created.quantization.zeroPoint = [scale[0]], [scale[1]]
        self.names[name] = len(self.tensors)
        self.tensors.append(created)
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add a constant; returns its name."""
        values = np.ascontiguousarray(values)
        self.tensor(name, values.shape, values.dtype.name)
        buffer = schema.BufferT()
        buffer.data = values.reshape(-1).view(np.uint8)
        self.tensors[-1].buffer = len(self.buffers)
        self.buffers.append(buffer)
        return name

    def add(
        self,
        operation: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int],
        dtype: str = "float32",
        scale: Scale | None = None,
    ) -> str:
        """Append an operation; returns the name of its output."""
        operator = schema.OperatorT()
        if operation not in self.codes:
            self.codes.append(operation)
        operator.opcodeIndex = self.codes.index(operation)
        operator.inputs = [self.names[name] for name in inputs]
        operator.outputs = [self.names[self.tensor(output, shape, dtype, scale)]]
        if operation in OPTIONS:
            operator.builtinOptions = OPTIONS[operation]()
            kind = type(operator.builtinOptions).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            if operation == "SOFTMAX":
                operator.builtinOptions.beta = 1.0
            if operation == "ARG_MAX":
                operator.builtinOptions.outputType = self.tensors[operator.outputs[0]].type
            if operation == "CAST":
                operator.builtinOptions.inDataType = self.tensors[operator.inputs[0]].type
                operator.builtinOptions.outDataType = self.tensors[operator.outputs[0]].type
        self.operators.append(operator)
        return output

    def dense(self, weights: Any, output: str) -> str:
        """Add a matrix product of the mean colour; weights: (channels, units)."""
        matrix = self.constant(f"{output}_weights", np.ascontiguousarray(np.float32(weights).T))
        return self.add("FULLY_CONNECTED", ["colour", matrix], output, [1, weights.shape[1]])

    def output(self, *names: str) -> Graph:
        """Declare outputs; returns the graph."""
        self.outputs += names
        return self

    def content(self) -> bytes:
        """Return the flatbuffer."""
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs = [self.names[name] for name in self.inputs]
        graph.outputs = [self.names[name] for name in self.outputs]
        model.operatorCodes = [schema.OperatorCodeT() for _ in self.codes]
        for code, name in zip(model.operatorCodes, self.codes, strict=True):
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            code.version = 1
        model.version, model.subgraphs, model.buffers = 3, [graph], self.buffers
        if self.signature is not None:
            signature = schema.SignatureDefT()
            signature.signatureKey, signature.subgraphIndex = "serving_default", 0
            signature.inputs = [schema.TensorMapT("image", self.names[self.inputs[0]])]
            signature.outputs = [schema.TensorMapT(name, self.names[of]) for name, of in self.signature.items()]
            model.signatureDefs = [signature]
        return packed(model)

    def save(
        self,
        path: Path,
        labels: str | None = None,
        described: bytes | None = None,
        label_file: str = "labels.txt",
    ) -> Path:
        """Write the file. labels: a label list; described: `image_metadata`."""
        content = self.content()
        if described is not None:
            model = schema.ModelT.InitFromPackedBuf(content)
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data, entry.name, entry.buffer = np.frombuffer(described, np.uint8), "TFLITE_METADATA", 0
            entry.buffer = len(model.buffers)
            model.buffers.append(buffer)
            model.metadata = [entry]
            content = packed(model)
        if labels is not None:
            zipped = io.BytesIO()
            with zipfile.ZipFile(zipped, "w") as archive:
                archive.writestr(label_file, labels)
            content += zipped.getvalue()
        path.write_bytes(content)
        return path


def packed(model: Any) -> bytes:
    """Serialize a model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def image_metadata(
    mean: Sequence[float], std: Sequence[float], label_file: str = "labels.txt", calibrated: bool = False
) -> bytes:
    """Return TFLite Metadata with the NormalizationOptions of the image and the label file of the output.

    calibrated: add a process unit that calibrates the scores.
    """
    options = tables.Table.of("NormalizationOptions", mean=tuple(map(float, mean)), std=tuple(map(float, std)))
    unit = tables.Table.of("ProcessUnit", options_type=1, options=options)
    image = tables.Table.of("TensorMetadata", name="image", process_units=[unit])
    file = tables.Table.of("AssociatedFile", name=label_file, type=2)
    units = [tables.Table.of("ProcessUnit", options_type=2)] if calibrated else []
    scores = tables.Table.of("TensorMetadata", name="scores", process_units=units, associated_files=[file])
    graph = tables.Table.of("SubGraphMetadata", input_tensor_metadata=[image], output_tensor_metadata=[scores])
    return tables._encode(tables.Table.of("ModelMetadata", subgraph_metadata=[graph]), b"M001")


def classifier(last: str = "", **options: Any) -> Graph:
    """Return a classifier of 3 classes. last: its last operation, '' for logits."""
    graph = Graph(**options)
    if not last:
        return graph.output("logits")
    graph.add(last, ["logits"], "scores", [1, 3])
    return graph.output("scores")


def one_logit(last: str = "LOGISTIC") -> Graph:
    """Return a classifier with one output, high for red images: (1, 1)."""
    graph = Graph()
    graph.dense(WEIGHTS[:, :1], "one")
    if not last:
        return graph.output("one")
    graph.add(last, ["one"], "malignant", [1, 1])
    return graph.output("malignant")


def with_features(names: tuple[str, str]) -> Graph:
    """Return a network that gives 16 features first, then the probabilities of 3 classes."""
    graph = Graph()
    graph.dense(np.ones((3, 16)), names[0])
    graph.add("SOFTMAX", ["logits"], names[1], [1, 3])
    return graph.output(*names)


def argmax() -> Graph:
    """Return a network that gives the index of the class: (1,) int64."""
    graph = Graph()
    graph.add("ARG_MAX", ["logits", graph.constant("axis", np.array([1], np.int32))], "class", [1], "int64")
    return graph.output("class")


def quantized(signature: bool = False, last: str = "SOFTMAX", dtype: str = "uint8") -> Graph:
    """Return a classifier whose last operation quantizes. signature: it names the tensor before that operation."""
    graph = Graph()
    zero = -128 if dtype == "int8" else 0
    graph.add(last, ["logits"], "real_scores", [1, 3])
    graph.add("QUANTIZE", ["real_scores"], "scores", [1, 3], dtype, (1 / 256, zero))
    graph.signature = {"probabilities": "real_scores"} if signature else None
    return graph.output("scores")


def quantized_signature() -> Graph:
    """Return a quantized classifier whose signature names its output, as converters write it."""
    graph = quantized(dtype="int8")
    graph.signature = {"probabilities": "scores"}
    return graph


def integers() -> Graph:
    """Return a network with an integer output that has no scale."""
    graph = classifier("SOFTMAX")
    graph.add("CAST", ["scores"], "whole", [1, 3], "int32")
    graph.outputs = ["whole"]
    return graph


def detector() -> Graph:
    """Return a network with the outputs of an object detector: 10 boxes."""
    graph = Graph()
    graph.dense(np.ones((3, 40)), "flat")
    shape = graph.constant("shape", np.array([1, 10, 4], np.int32))
    graph.add("RESHAPE", ["flat", shape], "StatefulPartitionedCall:0", [1, 10, 4])
    for number, size in ((1, 10), (2, 10), (3, 1)):
        graph.dense(np.ones((3, size)), f"StatefulPartitionedCall:{number}")
    return graph.output(*(f"StatefulPartitionedCall:{number}" for number in range(4)))


def segmentation() -> Graph:
    """Return a network that gives 2 numbers for each pixel: (1, 8, 8, 2)."""
    graph = Graph()
    begin, size = (graph.constant(n, np.array(v, np.int32)) for n, v in (("b", [0] * 4), ("z", [1, 8, 8, 2])))
    graph.add("SLICE", ["image", begin, size], "mask", [1, 8, 8, 2])
    return graph.output("mask")


def two_inputs() -> Graph:
    """Return a network that also takes the patient's age."""
    graph = Graph()
    graph.inputs.append(graph.tensor("age", [1, 1], "float32"))
    graph.add("ADD", ["logits", "age"], "scores", [1, 3])
    return graph.output("scores")


def pooled() -> Graph:
    """Return a classifier whose output keeps its height and width: (1, 1, 1, 3)."""
    graph = Graph()
    graph.add("SOFTMAX", ["logits"], "flat", [1, 3])
    graph.add("RESHAPE", ["flat", graph.constant("shape", np.array([1, 1, 1, 3], np.int32))], "scores", [1, 1, 1, 3])
    return graph.output("scores")


def no_batch() -> Graph:
    """Return a classifier whose output has no dimension for the images: (3,)."""
    graph = Graph()
    graph.add("SOFTMAX", ["logits"], "rows", [1, 3])
    graph.add("RESHAPE", ["rows", graph.constant("shape", np.array([3], np.int32))], "scores", [3])
    return graph.output("scores")


def any_size() -> Graph:
    """Return a classifier of images of any size."""
    graph = classifier("SOFTMAX")
    graph.tensors[graph.names["image"]].shapeSignature = [1, -1, -1, 3]
    return graph


def one_class() -> Graph:
    """Return a network with a softmax over one class, a frequent mistake: always 1."""
    return one_logit("SOFTMAX")


GRAPHS: dict[str, Callable[[], Graph]] = {
    "softmax": lambda: classifier("SOFTMAX"),
    "logits": classifier,
    "log_softmax": lambda: classifier("LOG_SOFTMAX"),
    "sigmoids": lambda: classifier("LOGISTIC"),
    "one_sigmoid": one_logit,
    "one_logit": lambda: one_logit(""),
    "one_class_softmax": one_class,
    "argmax": argmax,
    "features_first": lambda: with_features(("features", "probabilities")),
    "unnamed_outputs": lambda: with_features(("StatefulPartitionedCall:0", "StatefulPartitionedCall:1")),
    "two_inputs": two_inputs,
    "nchw": lambda: classifier("SOFTMAX", nhwc=False),
    "grey": lambda: classifier("SOFTMAX", channels=1),
    "uint8_input": lambda: classifier("SOFTMAX", dtype="uint8", scale=(1.0, 0)),
    "int8_input": lambda: classifier("SOFTMAX", dtype="int8", scale=(1 / 128, 0), black=-1, white=255 / 128),
    "int16_input": lambda: classifier("SOFTMAX", dtype="int16", scale=(0.01, 0)),
    "int32_input": lambda: classifier("SOFTMAX", dtype="int32"),
    "int64_input": lambda: classifier("SOFTMAX", dtype="int64"),
    "uint8_output": quantized,
    "int8_sigmoids": lambda: quantized(last="LOGISTIC", dtype="int8"),
    "quantize_after_signature": lambda: quantized(signature=True),
    "quantized_signature": quantized_signature,
    "integers": integers,
    "detector": detector,
    "segmentation": segmentation,
    "pooled": pooled,
    "no_batch": no_batch,
    "any_size_tflite": any_size,
}
