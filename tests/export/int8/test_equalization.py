"""Channel equalization: the same function, with less error at eight bits."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn

from skinedge.core.preprocess import Preprocess
from skinedge.data.synthetic import draw
from skinedge.network import model
from skinedge.training.merge import eager_logits
from skinedge_export.int8.equalization import STRETCH, _scale_input, equalize

SIZE = 64
RULE = Preprocess(SIZE)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw(seed, seed % 7, SIZE, SIZE) for seed in range(24)])


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    net, _ = model.load("tf_efficientnet_lite0", 7, "auto", seed=0)
    nn.init.normal_(net.classifier.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return net


def uneven(net: nn.Module, name: str) -> nn.Module:
    """Give the channels written by BatchNorm `name` very different ranges."""
    norm = net.get_submodule(name)
    with torch.no_grad():
        norm.weight.copy_(torch.logspace(-1, 0.5, len(norm.weight)))
    return net.eval()


def random_network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=7).eval()


def ranges(net: nn.Module, layer: str, images: np.ndarray) -> torch.Tensor:
    """Return the largest magnitude of each channel that a layer writes."""
    seen: list[torch.Tensor] = []
    handle = net.get_submodule(layer).register_forward_hook(lambda module, inputs, output: seen.append(output))
    eager_logits(net, images, RULE)
    handle.remove()
    return torch.cat(seen).abs().amax(dim=(0, 2, 3))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "bn1"),
        ("resnet18", "layer1.0.bn1"),
        ("mobilenetv2_100", "blocks.1.0.bn3"),
        ("regnetx_002", "stem.bn"),
    ],
)
def test_it_computes_the_same_and_its_channels_are_equal(name: str, layer: str, images: np.ndarray) -> None:
    net = uneven(random_network(name), layer)
    equal = equalize(net, images, RULE)
    wanted = eager_logits(net, images, RULE)
    np.testing.assert_allclose(eager_logits(equal, images, RULE), wanted, atol=1e-4 * np.abs(wanted).max())
    before, after = ranges(net, layer, images), ranges(equal, layer, images)
    assert before.max() / before.median() > 2 * after.max() / after.median()


def test_the_real_backbone_keeps_its_logits(lite0: nn.Module, images: np.ndarray) -> None:
    equal = equalize(lite0, images, RULE)
    unseen = np.stack([draw(seed, seed % 7, SIZE, SIZE) for seed in range(100, 116)])
    wanted = eager_logits(lite0, unseen, RULE)
    np.testing.assert_allclose(eager_logits(equal, unseen, RULE), wanted, atol=2e-5 * np.abs(wanted).max())
    changed = [key for key, value in equal.state_dict().items() if not torch.equal(value, lite0.state_dict()[key])]
    assert "blocks.1.0.bn3.weight" in changed  # a linear bottleneck
    assert "blocks.1.0.bn1.weight" not in changed  # a ReLU6 clips its output
    assert "classifier.bias" not in changed


def test_the_order_of_the_images_does_not_matter(lite0: nn.Module, images: np.ndarray) -> None:
    one, other = equalize(lite0, images, RULE), equalize(lite0, images[::-1].copy(), RULE)
    for key, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv3_small_050", "convnext_atto", "test_vit"])
def test_unsupported_layers_keep_the_function(name: str, images: np.ndarray) -> None:
    size = 160 if name == "test_vit" else SIZE
    rule = Preprocess(size)
    few = np.stack([draw(seed, seed, size, size) for seed in range(4)])
    net = random_network(name)
    wanted = eager_logits(net, few, rule)
    found = eager_logits(equalize(net, few, rule), few, rule)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1, np.abs(wanted).max()))


def test_a_network_that_cannot_be_traced_is_returned_unchanged(
    images: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) if x.mean() > 0 else x.amax((2, 3))

    net = Branching()
    assert equalize(net, images, RULE) is net
    assert "not equalized" in capsys.readouterr().err


def test_a_layer_that_is_used_twice_is_not_scaled(images: np.ndarray) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
            self.last = nn.Conv2d(8, 7, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.again(self.again(self.first(x)))).mean((2, 3))

    torch.manual_seed(0)
    net = Twice()
    equal = equalize(net, images, RULE)
    np.testing.assert_allclose(eager_logits(equal, images, RULE), eager_logits(net, images, RULE), atol=1e-5)


def test_the_factor_of_a_zero_channel_is_limited(images: np.ndarray) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 7, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        net[0].weight[2], net[0].bias[2] = 0, 0
    equal = equalize(net, images, RULE)
    torch.testing.assert_close(net[1].weight[:, 2] / equal[1].weight[:, 2], torch.full((7, 1, 1), STRETCH))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_grouped_convolution_reads_scaled_channels(groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 12, 3, groups=groups)
    factors, x = torch.linspace(1, 4, 6), torch.randn(2, 6, 5, 5)
    wanted = conv(x)
    with torch.no_grad():
        _scale_input(conv, factors)
    torch.testing.assert_close(conv(x * factors.view(6, 1, 1)), wanted)
