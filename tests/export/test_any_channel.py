"""Ranges, sensitivity and equalization for channels of every kind, compared with float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from channels import KINDS, Values
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skinedge.core.errors import GateError
from skinedge.core.preprocess import Preprocess
from skinedge_export.int8.activation_ranges import BINS, METHODS, count, narrowed
from skinedge_export.int8.equalization import equalize
from skinedge_export.int8.sensitivity import channelwise, eight_bits, ranked

MANY = settings(max_examples=60, deadline=None)
kinds, seeds = st.sampled_from(sorted(KINDS)), st.integers(0, 2**32 - 1)
SUBNORMAL = np.array([0.0, 1e-45, 3e-45], np.float32)


def drawn(kind: str, seed: int, values: int = 500) -> Values:
    return KINDS[kind](np.random.default_rng(seed), values)


def check_histogram(values: Values) -> None:
    """Oracle: numpy's histogram in float64; all ranges are finite and contain zero."""
    low, high = float(values.min()), float(values.max())
    found = count([{"x": values}], {"x": (low, high)})["x"]
    if high > low:
        expected, _ = np.histogram(values.astype(np.float64), bins=BINS, range=(low, high))
        assert found.counts.sum() == len(values)
        assert np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max() <= 5  # values on an edge
    for method in METHODS:
        least, most = narrowed(found, method)
        assert min(low, 0) <= least <= 0 <= most <= max(high, 0), method


@MANY
@given(kinds, seeds)
def test_every_value_of_every_kind_is_counted_in_its_bin(kind: str, seed: int) -> None:
    check_histogram(drawn(kind, seed))


def test_values_at_the_ends_of_float32_are_counted() -> None:
    check_histogram(SUBNORMAL)
    check_histogram(np.array([-3.4e38, -1e38, 0, 3.4e38], np.float32))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_limits_that_are_not_finite_name_the_tensor(value: float) -> None:
    with pytest.raises(GateError, match="not finite") as caught:
        count([], {"good": (0.0, 1.0), "bad": (0.0, value)})
    assert caught.value.where == "bad"


@MANY
@given(kinds, seeds)
def test_eight_bits_are_float64s(kind: str, seed: int) -> None:
    values = drawn(kind, seed)
    exact = values.astype(np.float64)
    step = (max(exact.max(), 0) - min(exact.min(), 0)) / 255
    expected = np.rint(exact / step) * step if step else exact
    found = eight_bits(torch.from_numpy(values)).double().numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=step * 1e-6)
    rows = channelwise(torch.from_numpy(np.stack([values, values[::-1] / 2]))).double().numpy()
    steps = np.abs(np.stack([exact, exact[::-1] / 2])).max(axis=1, keepdims=True) / 127
    assert np.isfinite(rows).all()
    assert (np.abs(rows - np.stack([exact, exact[::-1] / 2])) <= steps * (0.5 + 1e-5)).all()


def network(bias: Values, gain: float = 1.0) -> nn.Module:
    """Build a network with middle channels around `bias`, and logits `gain` times a mean of the first channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ).eval()
    net[1].bias.data.copy_(torch.from_numpy(bias))
    net[3].weight.data.mul_(gain)
    return net


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)


@settings(max_examples=25, deadline=None)
@given(kind=kinds, seed=seeds)
def test_equalizing_any_channels_changes_no_output(kind: str, seed: int) -> None:
    images = np.random.default_rng(1).integers(0, 256, (4, 8, 8, 3), np.uint8)
    bias = np.clip(drawn(kind, seed, 4), -1e37, 1e37)
    net = network(bias, 1e-3)
    equal = equalize(net, images, Preprocess(8))
    assert all(torch.isfinite(tensor).all() for tensor in equal.state_dict().values())
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        before, after = net.double()(inputs.double()), equal.double()(inputs.double())
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5 * float(before.abs().max()))


@pytest.mark.parametrize("gain", [1.0, 1e-25, 1e25, 1e36])
def test_the_order_of_the_layers_does_not_depend_on_the_size_of_the_logits(pixels: np.ndarray, gain: float) -> None:
    """Squares of 1e25 overflow in float32, those of 1e-25 vanish."""
    bias, rule = np.zeros(4, np.float32), Preprocess(8)
    base, scaled = network(bias), network(bias, gain)
    base[3].bias.data.zero_()
    scaled[3].bias.data.zero_()
    expected, found = ranked(base, pixels, rule), ranked(scaled, pixels, rule)
    assert [layer.name for layer, _ in found] == [layer.name for layer, _ in expected]
    for (_, change), (_, wanted) in zip(found, expected, strict=True):
        assert change == pytest.approx(wanted * gain, rel=0.05) and change > 0


def test_values_that_are_not_finite_are_an_error(pixels: np.ndarray) -> None:
    broken = network(np.array([0, math.nan, 0, 0], np.float32))
    for function in (equalize, ranked):
        with pytest.raises(GateError, match="not finite"):
            function(broken, pixels, Preprocess(8))
