"""GPTQ: weights on the converters' grid, and outputs nearer to the network's than with rounding to nearest."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skinedge.core.preprocess import Preprocess
from skinedge.data.synthetic import draw
from skinedge.network import model
from skinedge.training.merge import eager_logits
from skinedge_export.int8.covariance import RunningCovariance, grouped, inverse_roots
from skinedge_export.int8.gptq import STEPS, round_rows, round_weights

SIZE = 64


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The real backbone with a head that depends on its features."""
    net, _ = model.load("tf_efficientnet_lite0", 7, "auto", seed=0)
    nn.init.normal_(net.classifier.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return net


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw(seed, seed % 7, SIZE, SIZE) for seed in range(48)])


def nearest(net: nn.Module) -> nn.Module:
    """Round every convolution's weights to the nearest step, per channel, as converters do."""
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            step = module.weight.data.abs().flatten(1).amax(1).clamp_min(1e-30)[:, None, None, None] / STEPS
            module.weight.data = (module.weight.data / step).round() * step
    return plain


def test_outputs_are_nearer_to_the_network_on_other_images(network: nn.Module, images: np.ndarray) -> None:
    rule = Preprocess(SIZE)
    seen, unseen = images[:32], images[32:]
    wanted = eager_logits(network, unseen, rule)

    def error(net: nn.Module) -> float:
        return float(np.square(eager_logits(net, unseen, rule) - wanted).mean())

    rounded = round_weights(network, seen, rule)
    assert error(rounded) < 0.5 * error(nearest(network))
    np.testing.assert_array_equal(eager_logits(network, unseen, rule), wanted)  # the original was not changed


def test_a_converters_own_rounding_changes_nothing(network: nn.Module, images: np.ndarray) -> None:
    rounded = round_weights(network, images[:16], Preprocess(SIZE))
    again = nearest(rounded)
    for ours, theirs in zip(rounded.modules(), again.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            torch.testing.assert_close(theirs.weight, ours.weight, rtol=1e-6, atol=1e-9)


def test_with_independent_inputs_it_is_rounding_to_nearest() -> None:
    weight = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    eye = torch.eye(5).double().expand(2, 5, 5)
    roots, _ = inverse_roots(eye)
    torch.testing.assert_close(round_rows(weight, roots), (weight / step).round() * step)


def test_with_equal_inputs_the_sum_of_a_filter_is_kept() -> None:
    weight = torch.randn(4, 1, 9, generator=torch.Generator().manual_seed(0))
    same = torch.ones(4, 9, 9).double() + 1e-4 * torch.eye(9).double()
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    kept = (round_rows(weight, inverse_roots(same)[0]) - weight).sum(dim=2).abs()
    assert (kept <= 0.51 * step[:, :, 0]).all()


@pytest.mark.parametrize("groups", [1, 4])
def test_statistics_are_those_of_the_filters_inputs(groups: int) -> None:
    """Oracle: a convolution's mean output is its weight times the mean patch, its variance w C w."""
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
    images = torch.randn(400, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 1.0
    seen = RunningCovariance(conv)
    with torch.no_grad():
        seen.add(conv, (images,))  # one position only: every patch is the complete image
        out = conv(images).flatten(1).double()
        weight = grouped(conv).double()
        mean = torch.einsum("gok,gk->go", weight, seen.mean).flatten()
        variance = torch.einsum("gok,gkl,gol->go", weight, seen.covariance(), weight).flatten()
    torch.testing.assert_close(mean, out.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(variance, out.var(0), rtol=0.05, atol=1e-3)


class TinyScales(nn.Module):
    """Convolution and norm; some channels hardly depend on their input and output their bias only."""

    def __init__(self, factors: dict[int, float], bias: float = 0.7, *, conv_bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=conv_bias)
        self.bn = nn.BatchNorm2d(8)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.conv.weight.normal_(std=0.2, generator=generator)
            if conv_bias:
                self.conv.bias.normal_(generator=generator)
            self.bn.running_mean.normal_(std=0.1, generator=generator)
            for channel, factor in factors.items():
                self.bn.weight[channel], self.bn.bias[channel] = factor, bias
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(pixels))


def stored_biases(net: TinyScales, inputs: torch.Tensor) -> torch.Tensor:
    """Return the integers that a converter stores, bias / (input step x weight step), by channel, after folding."""
    factor = (net.bn.weight / torch.sqrt(net.bn.running_var + net.bn.eps)).double()
    start = net.conv.bias.double() if net.conv.bias is not None else 0.0
    bias = net.bn.bias.double() + (start - net.bn.running_mean.double()) * factor
    span = float(inputs.max().clamp_min(0) - inputs.min().clamp_max(0))
    step = net.conv.weight.double().abs().flatten(1).amax(1) * factor.abs() / STEPS
    return bias / (span / 255 * step)


FACTORS = {0: 1e-12, 3: -1e-12, 5: 1e-30, 6: 0.0}


def test_the_bias_of_a_tiny_channel_fits_into_int32(images: np.ndarray) -> None:
    rule, net = Preprocess(SIZE), TinyScales(FACTORS)
    (inputs,) = model.inputs(images[:16], rule)
    mute = list(FACTORS)
    with torch.no_grad():
        before, expected = stored_biases(net, inputs), net(inputs)
        assert (before[mute].abs() > 2**31).all()
        rounded = round_weights(net, images[:16], rule)
        after, found = stored_biases(rounded, inputs), rounded(inputs)
    assert (after.abs() < 2**30).all()
    assert (found - expected)[:, mute].abs().max() < 5e-4
    assert torch.equal(stored_biases(net, inputs), before)  # the original was not changed


@pytest.mark.parametrize("bias", [0.0, -0.7, 5.0])
def test_a_channel_of_zero_weights_keeps_its_bias(images: np.ndarray, bias: float) -> None:
    """All its weights are zero: it gets a step if there is a bias to store."""
    rule, net = Preprocess(SIZE), TinyScales({2: 1.0}, bias)
    with torch.no_grad():
        net.conv.weight[2] = 0
        net.bn.running_mean[2] = 0
        (inputs,) = model.inputs(images[:16], rule)
        expected = net(inputs)[:, 2]
        rounded = round_weights(net, images[:16], rule)
        assert (rounded(inputs)[:, 2] - expected).abs().max() <= 5e-4 * max(abs(bias), 1)
        assert bool(rounded.conv.weight[2].any()) == (bias != 0)
        if bias:
            assert stored_biases(rounded, inputs)[2].abs() < 2**30


def test_other_channels_are_not_changed(images: np.ndarray) -> None:
    rule, net = Preprocess(SIZE), TinyScales({})
    rounded = round_weights(net, images[:16], rule)
    assert torch.equal(rounded.bn.weight, net.bn.weight) and torch.equal(rounded.bn.bias, net.bn.bias)


def test_a_tiny_convolution_with_a_bias_keeps_its_output(images: np.ndarray) -> None:
    """Its weights are tiny, so the factor is raised by far, which must not scale the bias."""
    rule, net = Preprocess(SIZE), TinyScales({1: 1.0}, conv_bias=True)
    with torch.no_grad():
        net.conv.weight[1] *= 1e-12
        (inputs,) = model.inputs(images[:16], rule)
        expected = net(inputs)[:, 1]
        rounded = round_weights(net, images[:16], rule)
        assert (rounded(inputs)[:, 1] - expected).abs().max() < 5e-4


def test_the_tiny_runs_int8_file_has_no_bias_at_the_limit(exported_run: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = (exported_run / "model.int8.tflite").read_bytes()
    tflite = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    held = [
        np.frombuffer(bytes(tflite.buffers[tensor.buffer].data), np.int32)
        for tensor in tflite.subgraphs[0].tensors
        if tensor.type == schema.TensorType.INT32 and tflite.buffers[tensor.buffer].data is not None
    ]
    assert len(held) >= 5
    assert max(int(np.abs(bias.astype(np.int64)).max()) for bias in held) < 2**31 - 1
