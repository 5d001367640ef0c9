"""Sensitivity to int8: division of real networks into layers, and the order of layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from skinedge.core.preprocess import Preprocess
from skinedge.data.synthetic import draw
from skinedge_export.int8.sensitivity import Layer, channelwise, eight_bits, layers, ranked, rounded

RULE = Preprocess(32)
WEIGHTED = (nn.Conv2d, nn.Linear)
PASSING = (nn.Identity, nn.Dropout, nn.Flatten)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw(seed, seed % 7, 32, 32) for seed in range(8)])


def build(name: str) -> nn.Module:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=7).eval()


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def check_untouched(network: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    for name, module in network.named_modules():
        assert not module._forward_hooks and not module._forward_pre_hooks, name
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mobilenetv3_large_100"])
def test_every_weight_is_in_one_layer_and_in_one_only(name: str) -> None:
    network = build(name)
    found = layers(network)
    assert len({layer.name for layer in found}) == len(found)
    for path, module in network.named_modules():
        holders = [layer.name for layer in found if layer.holds(path)]
        if isinstance(module, WEIGHTED):
            assert len(holders) == 1, f"{path} is in {holders}"
        elif path and not any(module.children()) and not isinstance(module, PASSING):
            assert len(holders) <= 1, f"{path} is in {holders}"
    every = [path for layer in found for path in layer.paths]
    assert len(every) == len(set(every)) and all(network.get_submodule(path) is not network for path in every)


def test_a_layer_is_a_convolution_with_its_norm_and_activation_and_its_blocks_sum() -> None:
    network = build("resnet18")
    found = {layer.name: layer for layer in layers(network)}
    assert {"bn1", "act1"} < set(found["conv1"].paths)
    first, last = found["layer1.0.conv1"], found["layer1.0.conv2"]
    assert "layer1.0.bn1" in first.paths and first.own is None
    assert last.own == "layer1.0" and last.holds("layer1.0") and not last.holds("layer1.0.conv1")
    downsampled = [layer for layer in found.values() if layer.own == "layer2.0"]
    assert [layer.name for layer in downsampled] == ["layer2.0.downsample.0"]
    blocks = [path for path, module in network.named_modules() if type(module).__name__ == "BasicBlock"]
    assert sorted(layer.own for layer in found.values() if layer.own) == sorted(blocks)


def test_a_gate_is_one_layer() -> None:
    """Half of a squeeze-excite in int8 would requantize the other half's factors."""
    network = build("efficientnet_b0")
    gates = [path for path, module in network.named_modules() if type(module).__name__ == "SqueezeExcite"]
    found = layers(network)
    assert gates
    paths = [path for path, _ in network.named_modules()]
    for gate in gates:
        inside = [path for path in paths if path.startswith(f"{gate}.")]
        assert len({layer.name for layer in found for path in inside if layer.holds(path)}) == 1


def test_a_path_with_a_common_prefix_belongs_to_another_layer() -> None:
    layer = Layer(("blocks.1", "act"), own="blocks")
    assert layer.holds("blocks.1.conv") and layer.holds("act") and layer.holds("blocks")
    assert not layer.holds("blocks.10") and not layer.holds("blocks.2") and not layer.holds("")


class Block(nn.Module):
    """One layer: convolution, norm, activation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.bn, self.act = nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(images)))


class Chain(nn.Module):
    """Four layers and a head; `fail_at`: the forward that raises."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(3 if i == 0 else 8) for i in range(4)))
        self.head = nn.Linear(8, 5)
        self.calls, self.fail_at = 0, fail_at

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        features = self.blocks(images)
        if self.calls == self.fail_at:
            raise RuntimeError("out of memory")
        return self.head(features.mean(dim=(2, 3)))


def chain(bad: int | None = None, fail_at: int = -1) -> Chain:
    """bad: the convolution of which one channel's weights are a thousand times as large, and so is what it says.

    The next layer takes it a thousand times smaller: in float the network is the same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Chain(fail_at).eval()
    if bad is not None:
        with torch.no_grad():
            network.blocks[bad].conv.weight[2] *= 1000
            network.blocks[bad + 1].conv.weight[:, 2] /= 1000
    return network


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_layer_made_bad_on_purpose_comes_first(bad: int, images: np.ndarray) -> None:
    plain, harmed = chain(), chain(bad)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(harmed(image), plain(image), rtol=1e-3, atol=1e-4)
    found = ranked(harmed, images, RULE)
    assert found[0][0].name == f"blocks.{bad}.conv"
    assert found[0][1] > 2 * found[1][1]
    assert [error for _, error in found] == sorted((error for _, error in found), reverse=True)
    assert {layer.name for layer, _ in found} == {layer.name for layer in layers(harmed)}


def test_the_worst_of_a_real_network_is_named(images: np.ndarray) -> None:
    network = build("test_resnet")
    with torch.no_grad():
        for name, tensor in network.named_parameters():  # residual branches start at zero
            if name.startswith("layer") and name.endswith(("bn2.weight", "bn3.weight")):
                tensor.fill_(1.0)
        network.layer2[0].conv1.weight[3] *= 1000
        network.layer2[0].conv2.weight[:, 3] /= 1000
    before = snapshot(network)
    found = ranked(network, images, RULE)
    assert found[0][0].name == "layer2.0.conv1"
    check_untouched(network, before)


def test_the_error_is_that_of_rounding_the_layer_alone(images: np.ndarray) -> None:
    """Oracle: the last layer by hand, where nothing follows that could hide a mistake."""
    from skinedge.network import model

    network = chain()
    (inputs,) = model.inputs(images, RULE)
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        handle = network.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        exact = network(inputs)
        handle.remove()
        weight = channelwise(network.head.weight)
        said = eight_bits(seen[0] @ weight.T + network.head.bias)
        centred = (said - said.mean(1, keepdim=True)) - (exact - exact.mean(1, keepdim=True))
    error = {layer.name: error for layer, error in ranked(network, images, RULE)}["head"]
    assert error == pytest.approx(float(centred.square().mean().sqrt()), rel=1e-3)


def test_the_network_is_not_changed(images: np.ndarray) -> None:
    network = chain(1)
    before = snapshot(network)
    ranked(network, images, RULE)
    check_untouched(network, before)


@pytest.mark.parametrize("fail_at", [1, 2, 4])
def test_the_network_is_not_changed_by_an_error(fail_at: int, images: np.ndarray) -> None:
    network = chain(1, fail_at)
    before = snapshot(network)
    with pytest.raises(RuntimeError, match="out of memory"):
        ranked(network, images, RULE)
    assert network.calls == fail_at
    check_untouched(network, before)


def test_a_layer_is_rounded_inside_the_context_only(images: np.ndarray) -> None:
    network = chain()
    before = snapshot(network)
    layer = next(layer for layer in layers(network) if layer.name == "blocks.2.conv")
    with pytest.raises(ValueError, match="on purpose"), rounded(network, layer):
        weight = network.blocks[2].conv.weight
        assert not torch.equal(weight, before["blocks.2.conv.weight"])
        torch.testing.assert_close(weight, channelwise(before["blocks.2.conv.weight"]), rtol=0, atol=0)
        assert torch.equal(network.blocks[1].conv.weight, before["blocks.1.conv.weight"])
        raise ValueError("on purpose")
    check_untouched(network, before)


def test_eight_bits_are_256_levels_including_zero() -> None:
    values = torch.linspace(-1, 3, 5000)
    found = eight_bits(values)
    assert len(found.unique()) <= 257 and (found == 0).any()
    assert (found - values).abs().max() <= 0.51 * 4 / 255
    torch.testing.assert_close(eight_bits(torch.full((3,), 0.0)), torch.zeros(3))
    torch.testing.assert_close(eight_bits(torch.full((3,), 2.0)), torch.full((3,), 2.0))


def test_each_channel_is_rounded_to_its_own_step() -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    weight *= torch.tensor([1e-3, 1.0, 1e3, 0.0]).view(4, 1, 1, 1)
    found = channelwise(copy.deepcopy(weight))
    step = weight.abs().flatten(1).amax(1).view(4, 1, 1, 1) / 127
    assert ((found - weight).abs() <= 0.501 * step).all() and not found[3].any()
