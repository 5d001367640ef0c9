"""Static int8 quantization of ONNX graphs: QDQ format, int8 weights per channel, 8-bit activations.

QDQ: pairs of QuantizeLinear and DequantizeLinear nodes around float operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import HEATMAP, Contract
from skinedge.core.preprocess import Pixels
from skinedge.system.temporary_folder import scratch_folder
from skinedge_export.captured_output import captured_output
from skinedge_export.converter import INPUT, ExportJob
from skinedge_export.graph.graph import EVIDENCE
from skinedge_export.int8.activation_ranges import IMAGES, Histogram, Range, count, narrowed
from skinedge_export.int8.calibration_images import centred_range, in_order
from skinedge_export.int8.finite import require_finite


def quantize(model: Any, job: ExportJob, scopes: Mapping[str, str]) -> Any:
    """Return the int8 onnx.ModelProto of an fp32 one, calibrated on `job.calibration`.

    scopes: node name -> path of the module that computes it. Minima and maxima do not depend on the order of the
    images. The ranges of the pixels and of the centred pixels are known, so they are set rather than observed. The
    last Gemm, the classifier, stays float: softmax takes unrounded logits, and the layer costs almost no time.
    Raises: ConfigError without calibration images; SkinedgeError if quantization fails.
    """
    if job.calibration is None:
        raise ConfigError("static int8 needs calibration images")
    calibration, method = job.calibration, job.recipe.calibration.ranges
    with captured_output("ONNX quantization", job.description.architecture), scratch_folder() as scratch:
        import onnx

        observed = job.observed
        if observed.extremes is None:
            observed.extremes = _observe(model, calibration, job.form.input)
        ranges = dict(observed.extremes)
        if method != "min-max":
            if observed.histograms is None:
                observed.histograms = _histograms(model, calibration, job.form.input, ranges)
            evidence = {name for node in model.graph.node if scopes[node.name] == EVIDENCE for name in node.output}
            ranges |= {
                name: narrowed(histogram, method)
                for name, histogram in observed.histograms.items()
                if name not in {HEATMAP, *evidence}  # clipping would flatten the peaks of the heatmap
            }
        path = scratch / "int8.onnx"
        image = _Reader(calibration[:1], job.form.input)  # unused: all ranges are set
        _quantize_to(model, job, scopes, {**ranges, **_known_ranges(model, job)}, image, path)
        return onnx.load(path)


def _quantize_to(
    model: Any, job: ExportJob, scopes: Mapping[str, str], ranges: Mapping[str, Range], images: _Reader, path: Path
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    options = job.recipe.onnx
    overrides = {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in ranges.items()}
    own = type(model)()
    own.CopyFrom(model)  # quantize_static moves its model's weights into a file
    quantize_static(
        own,
        path,
        images,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=options.reduce_range,
        activation_type=QuantType.QUInt8 if options.activations == "uint8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=_float_nodes(model, job, scopes),
        extra_options={"TensorQuantOverrides": overrides},
    )


def _float_nodes(model: Any, job: ExportJob, scopes: Mapping[str, str]) -> list[str]:
    """Return the names of the nodes that stay in float."""
    nodes = model.graph.node
    kept = [node.name for node in nodes if job.keeps_float(scopes[node.name])]
    if job.kept_float and not kept:
        raise ConfigError("none of the layers to keep in float was found in the ONNX graph")
    heads = [node.name for node in nodes if node.op_type == "Gemm"][-1:]
    return list(
        dict.fromkeys([*(node.name for node in nodes if node.op_type in job.recipe.onnx.float_ops), *heads, *kept])
    )


def _observe(model: Any, calibration: Pixels, contract: Contract) -> dict[str, Range]:
    """Return the smallest and largest value, over the images, of every float tensor that a node writes.

    Raises: GateError if a value is not finite.
    """
    ranges: dict[str, Range] = {}
    for tensors in _runs(model, calibration, contract):
        for name, values in tensors.items():
            low, high = float(values.min()), float(values.max())
            require_finite(name, low, high)
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))
    return ranges


def _histograms(
    model: Any, calibration: Pixels, contract: Contract, limits: Mapping[str, Range]
) -> dict[str, Histogram]:
    some = in_order(calibration)[:: max(1, len(calibration) // IMAGES)]
    return count(_runs(model, some, contract), limits)


def _runs(model: Any, pixels: Pixels, contract: Contract) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield each image's float tensors, by name, from a copy of the graph that has them as outputs."""
    import onnx
    import onnxruntime as ort

    observable = onnx.ModelProto()
    observable.CopyFrom(model)
    typed = onnx.shape_inference.infer_shapes(model).graph  # tensors without a type would be left out
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.output)}
    names = [name for node in model.graph.node for name in node.output if kinds.get(name) == onnx.TensorProto.FLOAT]
    outputs = {output.name for output in model.graph.output}
    observable.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name not in outputs
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(observable.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for image in pixels:
        yield dict(zip(names, session.run(names, {INPUT: contract.encode(image[np.newaxis])}), strict=True))


def _known_ranges(model: Any, job: ExportJob) -> dict[str, Range]:
    """Return the ranges of the input (if it is float) and of the results of a cast and one addition of constants."""
    contract = job.form.input
    known = {INPUT: contract.range} if contract.dtype == "float32" else {}
    name = INPUT
    while True:
        users = [node for node in model.graph.node if name in node.input]
        if len(users) != 1 or users[0].op_type not in ("Cast", "Add"):
            return known
        name = users[0].output[0]
        if users[0].op_type == "Add":
            return {**known, name: centred_range(job.description.preprocess, contract)}
        known[name] = contract.range


class _Reader:
    """onnxruntime's CalibrationDataReader, by shape: one image per step."""

    def __init__(self, pixels: Pixels, contract: Contract) -> None:
        self._pixels = pixels
        self._contract = contract
        self._next = 0

    def get_next(self) -> dict[str, Any] | None:
        if self._next == len(self._pixels):
            return None
        image = self._contract.encode(self._pixels[self._next : self._next + 1])
        self._next += 1
        return {INPUT: image}

    def __iter__(self) -> _Reader:
        return self

    def __next__(self) -> dict[str, Any]:
        image = self.get_next()
        if image is None:
            raise StopIteration
        return image

    def __len__(self) -> int:
        return len(self._pixels)
