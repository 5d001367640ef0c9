"""Workload of one inference: multiply-accumulates and weight bytes, as the file's own runtime executes it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FORMATS = {".onnx": "skinedge_bench.latency.roofline.onnx", ".tflite": "skinedge_bench.latency.roofline.tflite"}


@dataclass(frozen=True)
class Layer:
    """One operation with weights. dtype: of the weights in the multiplication ('int8', 'float32', ...), after any
    dequantization; macs: multiply-accumulates of one inference; weight_bytes: size of these weights.
    """

    kind: str
    dtype: str
    macs: int
    weight_bytes: int


@dataclass(frozen=True)
class Workload:
    """Workload of one inference of one image: convolutions and matrix products; the rest is negligible.

    int8_macs, float32_macs: multiply-accumulates by the type of the weights; other_macs: in any other type;
    weight_bytes: size of all weights.
    """

    int8_macs: int
    float32_macs: int
    other_macs: int
    weight_bytes: int

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> Workload:
        """Sum the layers."""
        by_type = {"int8": 0, "float32": 0, "other": 0}
        for layer in layers:
            dtype = "int8" if layer.dtype == "uint8" else layer.dtype
            by_type[dtype if dtype in by_type else "other"] += layer.macs
        weights = sum(layer.weight_bytes for layer in layers)
        return cls(by_type["int8"], by_type["float32"], by_type["other"], weights)

    @property
    def macs(self) -> int:
        """Return multiply-accumulates in all."""
        return self.int8_macs + self.float32_macs + self.other_macs


def count(path: Path, size: int) -> Workload | None:
    """Count the workload of a file; None for a format without a counter.

    size: side of the images in pixels, for a file that accepts any. Raises: BundleError if the runtime cannot tell.
    """
    if path.suffix not in FORMATS:
        return None
    layers: Sequence[Layer] = importlib.import_module(FORMATS[path.suffix]).layers(path, size)
    return Workload.of(layers)
