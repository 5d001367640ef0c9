"""Grad-CAM and Grad-CAM++ of a network in PyTorch: maps of the evidence for a class in an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, MissingDependencyError, one_of
from skinedge.core.preprocess import Pixels, Preprocess

if TYPE_CHECKING:
    from torch import Tensor, nn

Mapper = Callable[[Pixels, Sequence[int]], NDArray[np.float32]]  # see `mapper`
METHODS = ("gradcam", "gradcam++")
PACKAGES = {"torch": "train", "timm": "train", "pytorch_grad_cam": "explain"}  # import name -> extra that installs it


def missing() -> str | None:
    """Return the first required package that is not installed, None if all are."""
    return next((name for name in PACKAGES if find_spec(name) is None), None)


def mapper(network: nn.Module, rule: Preprocess, method: str) -> Mapper:
    """Build a function that computes maps with `network`, which it keeps, with hooks.

    The function takes pixels (N, S, S, 3) uint8 and N class indices, and returns (N, H, W) float32 without clipping:
    positive where the last features are evidence for the class. The score of a class is its logit: its probability
    would also depend on all other classes.

    'gradcam' (Selvaraju et al. 2017, eq. 1 and 2, before the ReLU) is multiplied by H * W. For a network that ends in a
    global average and one linear layer, its mean plus the classifier's bias is then the logit, and it equals the class
    activation map of an exported file. 'gradcam++' (Chattopadhay et al. 2018) has no unit.
    Raises: ConfigError for an unknown method, or a network whose last features are not an image;
        MissingDependencyError without the package grad-cam.
    """
    one_of("method", method, METHODS)
    _require()
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer = last_features(network, rule.size)
    network.requires_grad_(True)  # a frozen network has no gradients
    engine = (GradCAM if method == "gradcam" else GradCAMPlusPlus)(network, [layer])

    def compute_maps(pixels: Pixels, classes: Sequence[int]) -> NDArray[np.float32]:
        images = inputs(pixels, rule)
        targets = [ClassifierOutputTarget(index) for index in classes]
        engine(images, targets)  # its result is rescaled to 0..1 and loses the amount of evidence
        recorded = engine.activations_and_grads
        features, gradients = recorded.activations[0].numpy(), recorded.gradients[0].numpy()
        maps = engine.get_cam_image(images, layer, targets, features, gradients)
        cells = features.shape[2] * features.shape[3] if method == "gradcam" else 1
        return np.asarray(maps * cells, dtype=np.float32)

    return compute_maps


def inputs(pixels: Pixels, rule: Preprocess) -> Tensor:
    """Normalize (N, S, S, 3) uint8 pixels to the network's input, (N, 3, S, S) float32."""
    import torch

    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()  # copy: torch warns about read-only arrays
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (rule.mean, rule.std))
    return (images - mean) / std


def last_features(network: nn.Module, size: int) -> nn.Module:
    """Return the module whose output is the last features (N, K, H, W), which the network pools and classifies.

    Raises: ConfigError for features that are not an image (a transformer's tokens, channels last) or a single cell.
    """
    import torch

    outputs: list[tuple[nn.Module, Tensor]] = []

    def record(module: nn.Module, _: Any, output: Any) -> None:
        outputs.append((module, output))

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            features = network.forward_features(torch.zeros(1, 3, size, size))
    finally:
        for handle in handles:
            handle.remove()
    producers = [module for module, output in outputs if output is features]
    if not producers or features.dim() != 4 or features.shape[1] != network.num_features:
        raise ConfigError(
            f"Grad-CAM needs a convolutional network: the last features of this one ({type(network).__name__}, "
            f"{tuple(features.shape)}) are not an image with {network.num_features} channels"
        )
    if features.shape[2] * features.shape[3] == 1:
        raise ConfigError(f"at {size} pixels the last features are a single cell, without spatial resolution")
    return producers[-1]


def _require() -> None:
    """Raises: MissingDependencyError for the first missing package."""
    package = missing()
    if package is not None:
        raise MissingDependencyError("grad-cam" if package == "pytorch_grad_cam" else package, PACKAGES[package])
