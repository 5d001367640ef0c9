"""Small .onnx files as other tools write them: images of 8 x 8 pixels, 3 classes.

The logits are (4 r - 4 g, 4 g - 4 b, 4 b - 4 r) of the mean red, green and blue in 0..1, so that a red image is of the
first class, a green one of the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 8
WEIGHTS = np.array([[4, 0, -4], [-4, 4, 0], [0, -4, 4]], dtype=np.float32)
Shape = Sequence[int | str]


@dataclass
class Graph:
    """A graph under construction, from image to `logits`. layout: 'NHWC' or 'NCHW'; dtype: of the image."""

    layout: str = "NHWC"
    dtype: str = "FLOAT"
    batch: int | str = "n"
    sides: tuple[int | str, int | str] = (SIDE, SIDE)
    channels: int = 3
    opset: int = 13
    ir: int = 8
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        nhwc = self.layout == "NHWC"
        shape = [self.batch, *self.sides, self.channels] if nhwc else [self.batch, self.channels, *self.sides]
        self.inputs.append(helper.make_tensor_value_info("image", getattr(TensorProto, self.dtype), shape))
        self.add("Cast", ["image"], "real", to=TensorProto.FLOAT)
        self.add("ReduceMean", ["real"], "mean", axes=[1, 2] if nhwc else [2, 3], keepdims=0)
        offset = 128.0 if self.dtype == "INT8" else 0.0
        self.add("Add", ["mean", self.constant("offset", np.float32(offset))], "bytes")
        self.add("Div", ["bytes", self.constant("white", np.float32(255))], "colour")
        weights = WEIGHTS if self.channels == 3 else np.ones((self.channels, 3), np.float32)
        self.add("MatMul", ["colour", self.constant("weights", weights)], "logits")

    def add(self, operation: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node; returns the name of its output."""
        self.nodes.append(helper.make_node(operation, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        """Add a constant; returns its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def column(self, index: int, name: str) -> str:
        """Add a node that selects one logit: (N, 1)."""
        return self.add("Gather", ["logits", self.constant(f"{name}_index", np.array([index]))], name, axis=1)

    def output(self, name: str, shape: Shape, dtype: str = "FLOAT") -> Graph:
        """Declare an output; returns the graph."""
        self.outputs.append(helper.make_tensor_value_info(name, getattr(TensorProto, dtype), list(shape)))
        return self

    def save(self, path: Path, **metadata: str) -> Path:
        """Write the file. metadata: its metadata_props."""
        graph = helper.make_graph(self.nodes, "other", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=self.ir)
        if metadata:
            helper.set_model_props(model, metadata)
        path.write_bytes(model.SerializeToString())
        return path


def classifier(last: str = "", name: str = "scores", **options: Any) -> Graph:
    """Return a classifier of 3 classes. last: its last operation, '' for logits."""
    graph = Graph(**options)
    graph.add(last or "Identity", ["logits"], name, **({"axis": 1} if "Soft" in last else {}))
    return graph.output(name, [graph.batch, 3])


def one_logit(last: str = "Sigmoid", flat: bool = False) -> Graph:
    """Return a classifier with one output per image, high for red images: (N, 1), or (N,)."""
    graph = Graph()
    graph.column(0, "one")
    if flat:
        graph.add("Squeeze", ["one", graph.constant("last", np.array([1]))], "squeezed")
    graph.add(last, ["squeezed" if flat else "one"], "malignant")
    return graph.output("malignant", ["n"] if flat else ["n", 1])


def with_features(names: tuple[str, str], last: str = "Softmax") -> Graph:
    """Return a network that gives 16 features first, then the scores of 3 classes."""
    graph = Graph()
    tiles = graph.constant("spread", np.ones((3, 16), np.float32))
    graph.add("MatMul", ["colour", tiles], names[0])
    graph.add(last, ["logits"], names[1], **({"axis": 1} if "Soft" in last else {}))
    return graph.output(names[0], ["n", 16]).output(names[1], ["n", 3])


def two_heads(names: tuple[str, str] = ("logits_out", "probabilities"), last: str = "Softmax") -> Graph:
    """Return a network with the logits of 3 classes and their softmax."""
    graph = Graph()
    graph.add("Identity", ["logits"], names[0])
    graph.add(last, ["logits"], names[1], **({"axis": 1} if "Soft" in last else {}))
    return graph.output(names[0], ["n", 3]).output(names[1], ["n", 3])


def argmax() -> Graph:
    """Return a network that gives the index of the class: (N,) int64."""
    graph = Graph()
    graph.add("ArgMax", ["logits"], "class", axis=1, keepdims=0)
    return graph.output("class", ["n"], "INT64")


def scores_and_index() -> Graph:
    """Return a network with the probabilities and the index of the class, as scikit-learn's converter writes it."""
    graph = argmax()
    graph.add("Softmax", ["logits"], "probabilities", axis=1)
    return graph.output("probabilities", ["n", 3])


def two_inputs() -> Graph:
    """Return a network that also takes the patient's age."""
    graph = Graph()
    graph.inputs.append(helper.make_tensor_value_info("age", TensorProto.FLOAT, ["n", 1]))
    graph.add("Add", ["logits", "age"], "scores")
    return graph.output("scores", ["n", 3])


def quantized() -> Graph:
    """Return a classifier whose last node quantizes: (N, 3) uint8."""
    graph = Graph()
    graph.add("Softmax", ["logits"], "real_scores", axis=1)
    scale, zero = graph.constant("scale", np.float32(1 / 256)), graph.constant("zero", np.uint8(0))
    graph.add("QuantizeLinear", ["real_scores", scale, zero], "scores")
    return graph.output("scores", ["n", 3], "UINT8")


def detector() -> Graph:
    """Return a network with the outputs of an object detector: 10 boxes."""
    graph = Graph(batch=1)
    graph.add("MatMul", ["colour", graph.constant("a", np.ones((3, 40), np.float32))], "flat_boxes")
    graph.add("Reshape", ["flat_boxes", graph.constant("shape", np.array([1, 10, 4]))], "boxes")
    graph.add("MatMul", ["colour", graph.constant("b", np.ones((3, 10), np.float32))], "raw")
    graph.add("Sigmoid", ["raw"], "scores")
    graph.add("Identity", ["raw"], "classes")
    graph.output("boxes", [1, 10, 4]).output("scores", [1, 10]).output("classes", [1, 10])
    graph.add("ReduceSum", ["raw"], "num_detections", keepdims=0)
    return graph.output("num_detections", [])


def raw_detector() -> Graph:
    """Return a network with one output of boxes, as YOLO has: (1, 84, 5)."""
    graph = Graph(batch=1)
    graph.add("MatMul", ["colour", graph.constant("a", np.ones((3, 420), np.float32))], "flat")
    graph.add("Reshape", ["flat", graph.constant("shape", np.array([1, 84, 5]))], "output0")
    return graph.output("output0", [1, 84, 5])


def segmentation() -> Graph:
    """Return a network that gives 2 classes for each pixel: (N, 2, 8, 8)."""
    graph = Graph(layout="NCHW")
    graph.add("Slice", ["real", *(graph.constant(n, np.array([v])) for n, v in (("s", 0), ("e", 2), ("x", 1)))], "mask")
    return graph.output("mask", ["n", 2, 8, 8])


def one_class() -> Graph:
    """Return a network with a softmax over one class, a frequent mistake: always 1."""
    graph = Graph()
    graph.add("Softmax", [graph.column(0, "one")], "scores", axis=1)
    return graph.output("scores", ["n", 1])


def not_numbers() -> Graph:
    """Return a network that gives NaN."""
    graph = Graph()
    graph.add("Mul", ["logits", graph.constant("nan", np.float32(np.nan))], "scores")
    return graph.output("scores", ["n", 3])


def pooled() -> Graph:
    """Return a classifier whose output keeps its height and width: (N, 3, 1, 1)."""
    graph = Graph()
    graph.add("Softmax", ["logits"], "flat", axis=1)
    graph.add("Unsqueeze", ["flat", graph.constant("axes", np.array([2, 3]))], "scores")
    return graph.output("scores", ["n", 3, 1, 1])


def no_batch() -> Graph:
    """Return a classifier whose output has no dimension for the images: (3,)."""
    graph = Graph(batch=1)
    graph.add("Softmax", ["logits"], "rows", axis=1)
    graph.add("Squeeze", ["rows", graph.constant("first", np.array([0]))], "scores")
    return graph.output("scores", [3])


def texts() -> Graph:
    """Return a network that gives the name of the class."""
    graph = Graph()
    graph.add("ArgMax", ["logits"], "index", axis=1, keepdims=0)
    graph.add("Gather", [graph.constant("names", np.array(["a", "b", "c"], dtype=object)), "index"], "name")
    return graph.output("name", ["n"], "STRING")


def vector() -> Graph:
    """Return a network of 10 numbers, not an image."""
    graph = Graph()
    graph.nodes.clear()
    graph.inputs[:] = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])]
    graph.add("Relu", ["x"], "y")
    return graph.output("y", [1, 10])


def external(path: Path) -> Path:
    """Write a file whose weights are in another file, which is missing."""
    classifier("Softmax").save(path)
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    path.write_bytes(model.SerializeToString())
    return path


GRAPHS: dict[str, Callable[[], Graph]] = {
    "softmax": lambda: classifier("Softmax"),
    "logits": classifier,
    "log_softmax": lambda: classifier("LogSoftmax"),
    "sigmoids": lambda: classifier("Sigmoid"),
    "one_sigmoid": one_logit,
    "one_sigmoid_flat": lambda: one_logit(flat=True),
    "one_logit": lambda: one_logit("Identity"),
    "one_class_softmax": one_class,
    "argmax": argmax,
    "scores_and_index": scores_and_index,
    "features_first": lambda: with_features(("features", "probabilities")),
    "unnamed_outputs": lambda: with_features(("output_0", "output_1")),
    "logits_and_softmax": two_heads,
    "two_heads": lambda: two_heads(("lesion", "body_site"), "Identity"),
    "two_inputs": two_inputs,
    "nchw": lambda: classifier("Softmax", layout="NCHW"),
    "grey": lambda: classifier("Softmax", channels=1),
    "not_square": lambda: classifier("Softmax", sides=(8, 16)),
    "uint8_input": lambda: classifier("Softmax", dtype="UINT8"),
    "int8_input": lambda: classifier("Softmax", dtype="INT8"),
    "int32_input": lambda: classifier("Softmax", dtype="INT32"),
    "int64_input": lambda: classifier("Softmax", dtype="INT64"),
    "float16_input": lambda: classifier("Softmax", dtype="FLOAT16"),
    "double_input": lambda: classifier("Softmax", dtype="DOUBLE"),
    "bool_input": lambda: classifier("Softmax", dtype="BOOL"),
    "quantized_output": quantized,
    "detector": detector,
    "raw_detector": raw_detector,
    "segmentation": segmentation,
    "old_opset": lambda: classifier("Softmax", opset=7, ir=3),
    "batch_of_4": lambda: classifier("Softmax", batch=4),
    "any_size": lambda: classifier("Softmax", sides=("h", "w")),
    "any_size_nchw": lambda: classifier("Softmax", layout="NCHW", sides=("h", "w")),
    "not_numbers": not_numbers,
    "pooled": pooled,
    "no_batch": no_batch,
    "texts": texts,
    "vector": vector,
}
