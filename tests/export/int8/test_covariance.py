"""Covariances of channels that hardly vary, or vary too much: equal to numpy's in float64, and always usable."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from channels import KINDS, Values, channels
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skinedge.core.errors import GateError
from skinedge.core.preprocess import Preprocess
from skinedge.network import model
from skinedge_export.int8 import gptq
from skinedge_export.int8.covariance import DAMPING, LEAST_DAMPING, RunningCovariance, inverse_roots
from skinedge_export.int8.gptq import STEPS, round_rows, round_weights

MANY = settings(max_examples=60, deadline=None)


def observed(values: Values, batch: int = 16) -> RunningCovariance:
    """Observe a 1 x 1 convolution over one-pixel images: (N, C) values."""
    conv = nn.Conv2d(values.shape[1], 3, 1, bias=False)
    moments = RunningCovariance(conv, "layer")
    for start in range(0, len(values), batch):
        moments.add(conv, (torch.from_numpy(values[start : start + batch, :, None, None]),))
    return moments


@MANY
@given(channels())
def test_statistics_are_numpys_in_float64(values: Values) -> None:
    """Oracle: numpy's two-pass covariance, damped by definition."""
    moments, exact = observed(values), values.astype(np.float64)
    expected = np.atleast_2d(np.cov(exact, rowvar=False, bias=True))
    variance, energy = np.diag(expected).mean(), np.square(exact).mean()
    damping = max(DAMPING * variance, LEAST_DAMPING * energy) or 1.0
    deviation = np.sqrt(np.diag(expected)) + 1e-7 * np.sqrt(np.square(exact).mean(axis=0))  # float64 has 1e-16
    found = moments.covariance()[0].numpy() - damping * np.eye(len(expected))
    assert (np.abs(found - expected) <= 1e-6 * np.outer(deviation, deviation) + 1e-12 * damping).all()
    np.testing.assert_allclose(moments.mean[0].numpy(), exact.mean(axis=0), rtol=1e-12, atol=1e-300)


@MANY
@given(channels(most=8), st.integers(1, 4))
def test_every_covariance_can_be_factored(values: Values, filters: int) -> None:
    covariance = observed(values).covariance()
    roots, plain = inverse_roots(covariance)
    assert not plain
    root = roots[0].double()
    assert torch.equal(root, root.triu())
    product = root @ covariance[0] @ root.T
    product = product / product.diagonal().mean()
    torch.testing.assert_close(product, torch.eye(len(product)).double(), rtol=0, atol=1e-3)
    weight = torch.randn(1, filters, values.shape[1], generator=torch.Generator().manual_seed(filters))
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    places = round_rows(weight, roots) / step
    torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-3)
    assert places.abs().max() <= STEPS + 1e-3


@pytest.mark.parametrize("seed", range(40))
def test_resampled_saturated_channels_never_fail(seed: int) -> None:
    """Regression: float32 sums of a saturated depthwise channel, resampled, made one main job in four fail."""
    rng = np.random.default_rng(seed)
    groups = np.stack([np.stack([KINDS["saturated"](rng, 256) for _ in range(9)], 1) for _ in range(8)])
    covariances = torch.cat([observed(values).covariance() for values in groups])
    roots, plain = inverse_roots(covariances)
    assert not plain and torch.isfinite(roots).all()


def test_damping_increases_until_factoring_succeeds_else_rounding_is_to_nearest() -> None:
    def pair(product: float) -> list[list[float]]:
        return [[1.0, product], [product, 1.0]]

    indefinite = torch.tensor([pair(0.5), pair(1.05), pair(5.0), pair(50.0)], dtype=torch.float64)
    roots, plain = inverse_roots(indefinite)
    assert plain == [3]
    for group, extra in enumerate((0.0, 0.1, 10.0)):
        root = roots[group].double()
        expected = indefinite[group] + extra * torch.eye(2)
        torch.testing.assert_close(root @ expected @ root.T, torch.eye(2).double(), rtol=0, atol=1e-5)
    weight = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    torch.testing.assert_close(round_rows(weight, roots)[3], ((weight / step).round() * step)[3])


class Net(nn.Module):
    """Two convolutions with their norms; the second takes the first one's activation."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.second, self.last = nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for conv in (self.first, self.second):
                conv.weight.normal_(generator=generator)
            self.norm.weight.mul_(gain)
        self.eval()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.last(self.second(self.norm(self.first(pixels))))


IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)


def test_values_that_are_not_finite_are_an_error_that_names_the_layer() -> None:
    with pytest.raises(GateError, match=r"^second: values on the calibration images are not finite"):
        round_weights(Net(gain=3e38), IMAGES, Preprocess(8))


def test_a_layer_that_cannot_be_factored_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hopeless(covariance: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        return torch.eye(covariance.shape[1]).expand(len(covariance), -1, -1), list(range(len(covariance)))

    monkeypatch.setattr(gptq, "inverse_roots", hopeless)
    net = Net()
    rounded = round_weights(net, IMAGES, Preprocess(8))
    assert "second: rounded to the nearest step in groups 0, 1, 2, 3" in capsys.readouterr().err
    step = net.second.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / STEPS
    torch.testing.assert_close(rounded.second.weight, (net.second.weight / step).round() * step)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_network_over_any_channel_rounds_to_finite_weights(kind: str) -> None:
    """The first convolution's norm makes the second one's input constant, dead, huge and so on."""
    gain = {"constant": 0.0, "dead": 0.0, "huge": 1e25, "tiny": 1e-30, "nearly constant": 1e-6}.get(kind, 1.0)
    net = Net(gain)
    if kind in ("saturated", "constant", "nearly constant"):
        nn.init.constant_(net.norm.bias, 6.0)
    rounded = round_weights(net, IMAGES, Preprocess(8))
    assert all(torch.isfinite(tensor).all() for tensor in rounded.state_dict().values())
    with torch.inference_mode():
        inputs = next(model.inputs(IMAGES, Preprocess(8)))
        exact, close = net(inputs), rounded(inputs)
    scale = float((exact - exact.mean(dim=(0, 2, 3), keepdim=True)).abs().max())
    assert math.isfinite(scale)
    assert (close - exact).abs().max() <= 0.1 * scale + 1e-3 * (1 + exact.abs().max())  # raised tiny scales
