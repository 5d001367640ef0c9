"""LoRA adapters: target layers, fused layers against peft's own, merging, DoRA, training mode, loading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import timm
import torch
from peft.tuners.lora import Conv2d as LoraConv2d
from torch import nn

from skinedge.core.errors import ConfigError
from skinedge.network import depthwise, fused, lora, model
from skinedge.run.config import LoraSettings, OptimizerSettings, TrainConfig
from skinedge.training import train_loop
from skinedge.training.job import build_network


def adapted(seed: int = 0, settings: LoraSettings | None = None, backbone: str = "test_efficientnet") -> peft.PeftModel:
    """Build a tiny network with nonzero adapters; DoRA's magnitudes stay near the norms of the base filters."""
    net, _ = model.load(backbone, 5, "random", seed=1)
    network = lora.attach(net, settings or LoraSettings(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "lora_magnitude_vector" in name:
                parameter.mul_(1 + 0.3 * noise)
            elif parameter.requires_grad:
                parameter.copy_(0.1 * noise)
    return network


def test_only_mergeable_layers_get_adapters() -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=7)
    names = lora.target_layers(net)
    modules = dict(net.named_modules())
    assert len(names) == 32
    assert all(modules[name].groups == 1 for name in names)
    assert "conv_stem" not in names and "classifier" not in names


def test_patterns_select_layers_and_a_pattern_without_match_is_an_error() -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=7)
    assert all("conv_pwl" in name for name in lora.targets(net, LoraSettings(targets=("*conv_pwl",))))
    with pytest.raises(ConfigError, match="matches no layer"):
        lora.targets(net, LoraSettings(targets=("transformer.*",)))


def test_a_name_that_is_the_suffix_of_another_selects_only_itself() -> None:
    net = timm.create_model("resnet18", num_classes=3)
    assert {"conv1", "layer1.0.conv1"} <= set(lora.target_layers(net))
    network = lora.attach(net, LoraSettings(rank=2, targets=("conv1",)))
    adapted_names = {name for name, module in network.named_modules() if isinstance(module, LoraConv2d)}
    assert adapted_names == {"base_model.model.conv1"}


DORA = LoraSettings(rank=4, alpha=8, dora=True)


@pytest.mark.parametrize(
    ("backbone", "height", "width", "settings"),
    [
        ("test_efficientnet", 64, 64, None),
        ("test_resnet", 64, 64, None),
        ("mobilenetv2_100", 64, 64, None),
        ("tf_efficientnet_lite0", 64, 64, None),  # TensorFlow's padding depends on the size:
        ("tf_efficientnet_lite0", 37, 50, None),
        ("tf_efficientnet_lite0", 37, 50, DORA),
        ("test_efficientnet", 64, 64, replace(DORA, rank_stabilized=True)),
        ("test_resnet", 64, 64, replace(DORA, dropout=0.2)),  # dropout: peft's own forward
        ("test_vit", 160, 160, DORA),  # linear layers, and a stem with a bias
    ],
)
def test_fused_layers_give_pefts_logits_and_gradients(
    backbone: str, height: int, width: int, settings: LoraSettings | None
) -> None:
    """Oracle: peft's forward, in float64 so that only the mathematics is compared."""
    plain, fast = (adapted(settings=settings, backbone=backbone).double() for _ in range(2))
    fused.fuse(fast, max(height, 64))
    fusible = [m for m in fast.modules() if isinstance(m, LoraConv2d)] if not (settings and settings.dropout) else []
    assert all("forward" in vars(module) for module in fusible)
    images = torch.rand(2, 3, height, width, dtype=torch.float64)
    for network in (plain, fast):
        lora.train_mode(network)
        torch.manual_seed(0)  # for dropout
        network(images).square().sum().backward()
        network.eval()
    torch.testing.assert_close(fast(images), plain(images), rtol=1e-9, atol=1e-9)
    compared = 0
    for parameter, expected in zip(fast.parameters(), plain.parameters(), strict=True):
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-7, atol=1e-7)
            compared += float(expected.grad.abs().max()) > 1e-4
    assert compared > 10
    assert list(fast.state_dict()) == list(plain.state_dict())


@pytest.mark.parametrize("side", [11, 12])
@pytest.mark.parametrize(("taps", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2), (4, 3)])
def test_the_depthwise_backward_matches_torch(side: int, taps: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(6, 1, taps, taps, dtype=torch.float64, generator=generator)
    for padding in range(taps // 2 + 1):
        x = torch.randn(2, 6, side, side + 3, dtype=torch.float64, generator=generator).requires_grad_()
        expected = torch.nn.functional.conv2d(x, kernel, None, stride, padding, 1, 6)
        output = depthwise.depthwise(x, kernel, None, (stride, stride), (padding, padding))
        torch.testing.assert_close(output, expected)
        upstream = torch.randn(expected.shape, dtype=torch.float64, generator=generator)
        gradient, expected_gradient = (torch.autograd.grad(y, x, upstream)[0] for y in (output, expected))
        torch.testing.assert_close(gradient, expected_gradient)


def test_every_batchnorm_is_paired_and_adapters_with_dropout_are_not_fused() -> None:
    network = adapted()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert set(fused.pairs(network, 64).values()) == set(norms)
    with_dropout = adapted(settings=LoraSettings(rank=4, dropout=0.5))
    fused.fuse(with_dropout, 64)
    lora.train_mode(with_dropout)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.equal(with_dropout(images), with_dropout(images))


@pytest.mark.parametrize("settings", [None, DORA])
def test_merging_keeps_the_logits_and_gives_a_plain_network(settings: LoraSettings | None) -> None:
    network, images = adapted(settings=settings), torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        before = network(images)
        merged = network.merge_and_unload()
        torch.testing.assert_close(merged(images), before, rtol=0, atol=1e-5)
    assert list(merged.state_dict()) == list(timm.create_model("test_efficientnet", num_classes=5).state_dict())
    assert float(before.abs().max()) > 0.05


def test_dora_magnitudes_are_trained_without_weight_decay() -> None:
    network = adapted(settings=DORA)
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    magnitudes = {id(p) for name, p in trainable.items() if "magnitude" in name}
    assert len(magnitudes) == sum(isinstance(module, LoraConv2d) for module in network.modules())
    groups = train_loop.make_optimizer(trainable, OptimizerSettings(weight_decay=0.1)).param_groups
    assert {id(p) for group in groups if group["weight_decay"] == 0 for p in group["params"]} == magnitudes
    assert sum(len(group["params"]) for group in groups) == len(trainable)


def test_dora_with_an_all_zero_filter_is_refused() -> None:
    net, _ = model.load("test_efficientnet", 5, "random", seed=1)
    name = lora.target_layers(net)[2]
    with torch.no_grad():
        net.get_submodule(name).weight[3] = 0
    with pytest.raises(ConfigError, match=f"layer '{name}' has a filter of zeros"):
        lora.attach(net, DORA)
    lora.attach(net, LoraSettings())


@pytest.mark.parametrize("dropout", [0.0, 0.2])  # fused, and peft's own forward
def test_dora_trains_kernels_in_channels_last_format(dropout: float) -> None:
    net, _ = model.load("test_efficientnet", 5, "random", seed=1)
    settings = replace(DORA, dropout=dropout)
    config = TrainConfig(backbone="test_efficientnet", image_size=32, lora=settings)
    network = build_network(net, config, "cpu")
    with torch.no_grad():
        net.get_classifier().weight.fill_(0.1)
    kernels = [m.lora_A["default"].weight for m in network.modules() if isinstance(m, LoraConv2d)]
    assert any(kernel.shape[2:] == (3, 3) for kernel in kernels)
    lora.train_mode(network)
    network(torch.rand(2, 3, 32, 32)).square().sum().backward()
    magnitudes = [p for name, p in network.named_parameters() if "magnitude" in name]
    assert magnitudes and all(float(p.grad.abs().max()) > 0 for p in magnitudes)


def test_training_mode_leaves_batchnorm_frozen() -> None:
    network = adapted(settings=LoraSettings(rank=4, dropout=0.5))
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    lora.train_mode(network)
    network(torch.rand(4, 3, 64, 64))
    assert all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout) and m.p == 0.5]
    assert dropouts and all(m.training for m in dropouts)


@pytest.mark.parametrize("settings", [None, DORA])
def test_a_plain_peft_load_gives_the_same_logits(tmp_path: Path, settings: LoraSettings | None) -> None:
    """Oracle: PeftModel.from_pretrained over a network built by timm alone."""
    network = adapted(settings=settings)
    network.save_pretrained(str(tmp_path))
    fresh = timm.create_model("test_efficientnet", num_classes=5)
    base, _ = model.load("test_efficientnet", 5, "random", seed=1)
    fresh.load_state_dict(base.state_dict())
    loaded = peft.PeftModel.from_pretrained(fresh, str(tmp_path)).eval()
    images = torch.rand(4, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)
