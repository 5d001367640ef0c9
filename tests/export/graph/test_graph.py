from __future__ import annotations

import copy
import logging
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import SkinedgeError
from skinedge.core.preprocess import Preprocess
from skinedge.run.embedded_metadata import ModelDescription
from skinedge_export.captured_output import captured_output
from skinedge_export.converter import ExportJob
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.graph.graph import _without_norms, pixel_model
from skinedge_export.signature import IOSignature

LITE0 = {"CONV_2D": 33, "DEPTHWISE_CONV_2D": 16, "ADD": 10, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}


def network(name: str):
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=5).eval()


@pytest.mark.parametrize(
    ("backbone", "plain_stem"),
    [("test_efficientnet", True), ("test_resnet", True), ("test_nfnet", False)],
)
def test_pixels_in_probabilities_out(backbone: str, plain_stem: bool) -> None:
    import torch

    rule = Preprocess(64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    net = network(backbone)
    before = copy.deepcopy(net.state_dict())
    wrapped = pixel_model(net, rule, IOSignature())
    pixels = torch.randint(0, 256, (2, 64, 64, 3), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        found = wrapped(pixels)["probabilities"]
        normal = (pixels - torch.tensor(rule.mean)) / torch.tensor(rule.std)
        expected = torch.softmax(net(normal.permute(0, 3, 1, 2)), dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (wrapped.scale is None) == plain_stem
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Odd:
    """Small networks with BatchNorms of several kinds."""

    @staticmethod
    def build(kind: str):
        import torch
        from torch import nn

        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.stem = nn.Conv2d(3, 8, 3, bias=kind == "biased")
                statistics = {"affine": kind != "no scale", "track_running_stats": kind != "no statistics"}
                self.first, self.second = (nn.BatchNorm2d(8, **statistics) for _ in range(2))
                self.head = nn.Linear(8, 5)

            def forward_features(self, x):
                y = self.first(self.stem(x))
                if kind == "two norms":
                    y = y + self.second(self.stem(x))
                return torch.relu(y)

            def forward_head(self, x):
                return self.head(x.mean((2, 3)))

            def forward(self, x):
                return self.forward_head(self.forward_features(x))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            net = Net().eval()
            for tensor in net.state_dict().values():
                if tensor.dtype == torch.float32:
                    tensor.copy_(torch.rand_like(tensor) + 0.2)
            return net


@pytest.mark.parametrize(
    ("kind", "folded"),
    [("plain", True), ("biased", True), ("two norms", False), ("no scale", False), ("no statistics", False)],
)
def test_a_norm_is_folded_only_if_the_function_stays_the_same(kind: str, folded: bool) -> None:
    import torch

    net = Odd.build(kind)
    found = _without_norms(net, 32)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(found(image), net(image), rtol=1e-4, atol=1e-4)
    assert (not isinstance(found.first, torch.nn.BatchNorm2d)) == folded


def test_efficientnet_lite0_keeps_the_clean_op_list(tmp_path: Path) -> None:
    labels = ("a", "b", "c", "d", "e")
    said = dict.fromkeys(labels, "benign")
    prior = dict.fromkeys(labels, 0.2)
    rule = Preprocess(64)
    description = ModelDescription("id", "n", "tf_efficientnet_lite0", labels, said, None, prior, rule, "unknown", True)
    net, converter = network("tf_efficientnet_lite0"), tflite_convert.converter
    full = converter.convert(ExportJob(net, description, converter.recipe("fp32")), tmp_path / "fp32")
    assert Counter(full.ops) == LITE0
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype(np.uint8)
    job = ExportJob(net, description, converter.recipe("int8"), calibration=images)
    small = converter.convert(job, tmp_path / "int8")
    assert Counter(small.ops) == {**LITE0, "QUANTIZE": 1, "DEQUANTIZE": 1}
    assert small.ops[0] == "QUANTIZE" and small.ops[-4:] == ("MEAN", "DEQUANTIZE", "FULLY_CONNECTED", "SOFTMAX")
    assert (small.inputs[0].dtype, small.outputs[0].dtype) == ("float32", "float32")
    assert small.path.stat().st_size <= 0.31 * full.path.stat().st_size


def test_a_converters_output_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_output("conversion", "net"):
        print("python")
        os.write(1, b"native out\n")
        os.write(2, b"native err\n")
        warnings.warn("loud", stacklevel=1)
        logging.getLogger("converter").error("louder")
    print("after")
    said = capfd.readouterr()
    assert said.out == "after\n" and said.err == ""


def test_a_converters_failure_is_one_of_our_errors(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(SkinedgeError, match=r"net: TFLite export failed: RuntimeError: no lowering for aten\.foo"),
        captured_output("TFLite export", "net"),
    ):
        raise RuntimeError("no lowering for aten.foo\nmore")
    with pytest.raises(SkinedgeError, match="last words"), captured_output("export", "net"):
        os.write(2, b"first\nlast words\n")
        raise ValueError
    assert capfd.readouterr() == ("", "")


def test_import_errors_pass_unchanged() -> None:
    with pytest.raises(ModuleNotFoundError), captured_output("export", "net"):
        import no_such_package  # noqa: F401


def test_interrupts_pass() -> None:
    with pytest.raises(KeyboardInterrupt), captured_output("export", "net"):
        raise KeyboardInterrupt
