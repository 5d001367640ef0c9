"""Static int8 for ONNX: QDQ, uint8 activations, int8 weights per channel, min-max ranges."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.errors import ConfigError
from skinedge.preprocess import Pixels
from skinedge_export.calibrate import centred_range
from skinedge_export.job import INPUT, ExportJob
from skinedge_export.quiet import quiet


def quantize(model: Any, job: ExportJob) -> Any:
    """The int8 onnx.ModelProto made from the fp32 one, calibrated on `job.calibration`.

    Minima and maxima do not depend on the order of the images. The ranges of the pixels and of the
    centred pixels are known, so they are set rather than observed. The last Gemm, the classifier, stays
    float: softmax sees unrounded logits, and the layer takes no time.
    Raises: ConfigError without calibration images; SkinedgeError when it fails.
    """
    if job.calibration is None:
        raise ConfigError("static int8 needs calibration images")
    with quiet("ONNX quantization", job.description.architecture), tempfile.TemporaryDirectory() as scratch:
        import onnx

        target = Path(scratch) / "int8.onnx"
        _quantize_to(model, job.calibration, job, target)
        return onnx.load(target)


def _quantize_to(model: Any, calibration: Pixels, job: ExportJob, target: Path) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    options = job.recipe.onnx
    quantize_static(
        model,
        target,
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=options.reduce_range,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=_float_nodes(model, options.float_ops),
        extra_options={"TensorQuantOverrides": _known_ranges(model, job)},
    )


def _float_nodes(model: Any, float_ops: Sequence[str]) -> list[str]:
    """Names of the nodes that int8 leaves alone."""
    heads = [node.name for node in model.graph.node if node.op_type == "Gemm"][-1:]
    return [node.name for node in model.graph.node if node.op_type in float_ops] + heads


def _known_ranges(model: Any, job: ExportJob) -> dict[str, list[dict[str, Any]]]:
    """Overrides for the input and for what one addition of constants makes of it."""
    known = {INPUT: (0.0, 255.0)}
    users = [node for node in model.graph.node if INPUT in node.input]
    if len(users) == 1 and users[0].op_type == "Add":
        known[users[0].output[0]] = centred_range(job.description.preprocess)
    return {name: [{"rmin": np.float32(low), "rmax": np.float32(high)}] for name, (low, high) in known.items()}


class _Reader:
    """onnxruntime's CalibrationDataReader, by shape: one image a step."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels
        self._next = 0

    def get_next(self) -> dict[str, Any] | None:
        if self._next == len(self._pixels):
            return None
        image = self._pixels[self._next : self._next + 1].astype(np.float32)
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
