"""Workloads counted from files, against hooks on the network in PyTorch and against arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.publish import bundled_model
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency.roofline import onnx as onnx_layers
from skinedge_bench.latency.roofline import tflite as tflite_layers
from skinedge_bench.latency.roofline import workload


def macs_by_hooks(network: Any, size: int) -> int:
    """Return the multiply-accumulates of all convolutions and linear layers in PyTorch for one image."""
    import torch

    counted = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        weights = module.weight.shape  # (out, in / groups, height, width) or (out, in)
        counted.append(output.numel() * int(np.prod(weights[1:])))

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, size, size))
    return sum(counted)


@pytest.fixture(scope="module")
def write_onnx(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any, int], Path]:
    """A function that exports a network with PyTorch's exporter, input (1, 3, S, S)."""

    def write(network: Any, size: int) -> Path:
        import torch

        path = tmp_path_factory.mktemp("networks") / "network.onnx"
        torch.onnx.export(network.eval(), (torch.zeros(1, 3, size, size),), str(path), dynamo=False)
        return path

    return write


def test_every_file_of_a_run_has_the_networks_workload(tiny_run: Path) -> None:
    import timm

    bundle = Bundle.open(tiny_run)
    size, classes = bundle.manifest.preprocess.size, len(bundle.manifest.labels)
    expected = macs_by_hooks(timm.create_model("tf_efficientnet_lite0", num_classes=classes), size)
    for entry in bundle.model_files():
        found = workload.count(bundle.root / entry.path, size)
        assert found is not None and found.macs == expected, entry.path
        if ".fp32." in entry.path:
            assert found.int8_macs == found.other_macs == 0 and found.weight_bytes > 13_000_000
        else:  # the classifier stays in float
            assert 0 < found.float32_macs == 1280 * classes and found.weight_bytes < 4_000_000


def test_the_shipped_files_have_the_published_number() -> None:
    """EfficientNet-Lite0 at 224 px: 407 M are published (Google's table, 1,000 classes), 385 M by others' count."""
    if not bundled_model.FOLDER.joinpath("model.int8.tflite").is_file():
        pytest.skip("no model ships with this checkout")
    both = [workload.count(bundled_model.FOLDER / f"model.int8.{suffix}", 224) for suffix in ("tflite", "onnx")]
    assert both[0] is not None and both[1] is not None and both[0].macs == both[1].macs
    assert 0.38e9 < both[0].macs < 0.41e9


def test_resnet_18_has_its_known_number(write_onnx: Callable[[Any, int], Path]) -> None:
    """1.8 G (He et al. 2016, table 1), at 224 px."""
    import timm

    network = timm.create_model("resnet18", pretrained=False)
    found = workload.count(write_onnx(network, 224), 224)
    assert found is not None and found.macs == macs_by_hooks(network, 224)
    assert 1.81e9 < found.macs < 1.82e9 and found.weight_bytes > 11_000_000 * 4


def test_groups_strides_and_a_free_batch(write_onnx: Callable[[Any, int], Path], foreign: Callable[..., Path]) -> None:
    import torch

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.Conv2d(8, 12, 5, groups=4, padding=2, dilation=1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(12, 5, bias=False),
    )
    found = onnx_layers.layers(write_onnx(network, 16), 16)
    assert [layer.macs for layer in found] == [8 * 8 * 8 * 27, 8 * 8 * 12 * 2 * 25, 60]
    assert [layer.weight_bytes for layer in found] == [4 * 8 * 27, 4 * 12 * 2 * 25, 240]
    for path in (foreign(), foreign("NCHW", 1, dtype="UINT8")):  # a mean, a division: nothing to count
        assert workload.count(path, 8) == workload.Workload(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "weights", "outputs", "products"),
    [
        ("CONV_2D", (8, 3, 3, 4), 8, 36),
        ("DEPTHWISE_CONV_2D", (1, 5, 5, 12), 12, 25),
        ("FULLY_CONNECTED", (10, 7 * 7 * 16), 10, 784),  # its input may be (1, 7, 7, 16), without a reshape
        ("BATCH_MATMUL", (1, 20, 30), 30, 20),
        ("BATCH_MATMUL", (1, 30, 20), 30, 20),  # transposed
    ],
)
def test_products_of_one_output_in_a_tflite_file(
    kind: str, weights: tuple[int, ...], outputs: int, products: int
) -> None:
    assert tflite_layers._inputs_of_one_output(kind, weights, outputs) == products


def test_half_precision_is_separate_and_other_formats_are_not_counted(tmp_path: Path) -> None:
    layers = [workload.Layer("Conv", dtype, 10, 7) for dtype in ("int8", "uint8", "float32", "float16", "int16")]
    assert workload.Workload.of(layers) == workload.Workload(20, 10, 20, 35)
    assert workload.count(tmp_path / "model.safetensors", 224) is None
