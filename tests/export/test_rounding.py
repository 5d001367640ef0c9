"""Rounding for the images: on the grid that converters use, and nearer to the network than plain rounding."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skinedge import model
from skinedge.data.synth import draw
from skinedge.merge import eager_logits
from skinedge.preprocess import Preprocess
from skinedge_export.rounding import STEPS, Moments, grouped, round_rows, round_weights

SIZE = 64


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The real backbone with a head that looks at its features."""
    net, _ = model.load("tf_efficientnet_lite0", 7, "auto", seed=0)
    nn.init.normal_(net.classifier.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return net


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw(seed, seed % 7, SIZE, SIZE) for seed in range(48)])


def nearest(net: nn.Module) -> nn.Module:
    """Every convolution's weight rounded to its nearest step, per channel: what converters do."""
    plain = copy.deepcopy(net)
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            step = module.weight.data.abs().flatten(1).amax(1).clamp_min(1e-30)[:, None, None, None] / STEPS
            module.weight.data = (module.weight.data / step).round() * step
    return plain


def test_it_is_nearer_to_the_network_on_images_it_has_not_seen(network: nn.Module, images: np.ndarray) -> None:
    rule = Preprocess(SIZE)
    seen, unseen = images[:32], images[32:]
    wanted = eager_logits(network, unseen, rule)

    def error(net: nn.Module) -> float:
        return float(np.square(eager_logits(net, unseen, rule) - wanted).mean())

    rounded = round_weights(network, seen, rule)
    assert error(rounded) < 0.5 * error(nearest(network))
    np.testing.assert_array_equal(eager_logits(network, unseen, rule), wanted)  # the original was not changed


def test_a_converters_own_rounding_changes_nothing_any_more(network: nn.Module, images: np.ndarray) -> None:
    rounded = round_weights(network, images[:16], Preprocess(SIZE))
    again = nearest(rounded)
    for ours, theirs in zip(rounded.modules(), again.modules(), strict=True):
        if isinstance(ours, nn.Conv2d):
            torch.testing.assert_close(theirs.weight, ours.weight, rtol=1e-6, atol=1e-9)


def test_with_independent_inputs_it_is_plain_rounding() -> None:
    weight = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    eye = torch.eye(5).expand(2, 5, 5)
    torch.testing.assert_close(round_rows(weight, eye), (weight / step).round() * step)


def test_with_equal_inputs_the_sum_of_a_filter_survives() -> None:
    weight = torch.randn(4, 1, 9, generator=torch.Generator().manual_seed(0))
    same = torch.ones(4, 9, 9) + 1e-4 * torch.eye(9)
    step = weight.abs().amax(dim=2, keepdim=True) / STEPS
    kept = (round_rows(weight, same) - weight).sum(dim=2).abs()
    assert (kept <= 0.51 * step[:, :, 0]).all()


@pytest.mark.parametrize("groups", [1, 4])
def test_moments_are_those_of_what_the_filter_sees(groups: int) -> None:
    """Oracle: a convolution's mean output is its weight times the mean patch, its variance w C w."""
    conv = nn.Conv2d(4, 8, 3, groups=groups, bias=False)
    images = torch.randn(400, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 1.0
    seen = Moments(conv)
    with torch.no_grad():
        seen.add(conv, (images,))  # one place only: every patch is the whole image
        out = conv(images).flatten(1)
        weight = grouped(conv)
        mean = torch.einsum("gok,gk->go", weight, seen.mean).flatten()
        variance = torch.einsum("gok,gkl,gol->go", weight, seen.covariance(), weight).flatten()
    torch.testing.assert_close(mean, out.mean(0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(variance, out.var(0), rtol=0.05, atol=1e-3)
