"""Grad-CAM and Grad-CAM++ of a network in PyTorch: where in an image the evidence for a class is."""

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
PACKAGES = {"torch": "train", "timm": "train", "pytorch_grad_cam": "explain"}  # import name -> the extra that has it


def missing() -> str | None:
    """The first package that gradients need and the installation lacks; None when all are there."""
    return next((name for name in PACKAGES if find_spec(name) is None), None)


def mapper(network: nn.Module, rule: Preprocess, method: str) -> Mapper:
    """How to ask `network` (which it keeps, with hooks on it) for maps.

    The result takes pixels (N, S, S, 3) uint8 and N class indices, and gives (N, H, W) float32, before any clipping:
    positive where the last features speak for the class. The class's score is its logit, not its probability, which
    also depends on all other classes.

    'gradcam' (Selvaraju et al. 2017, eq. 1 and 2, before its ReLU) is multiplied by H * W: then, for a network that
    ends in a global average and one linear layer, its mean plus the classifier's bias is the logit, and it is the
    class activation map that an exported file can carry. 'gradcam++' (Chattopadhay et al. 2018) has no unit.
    Raises: ConfigError for an unknown method, or a network whose last features are no image;
        MissingDependencyError without the package grad-cam.
    """
    one_of("method", method, METHODS)
    _require()
    from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    layer = last_features(network, rule.size)
    network.requires_grad_(True)  # where all is frozen, there is no gradient to ask for
    engine = (GradCAM if method == "gradcam" else GradCAMPlusPlus)(network, [layer])

    def look(pixels: Pixels, classes: Sequence[int]) -> NDArray[np.float32]:
        images = inputs(pixels, rule)
        targets = [ClassifierOutputTarget(index) for index in classes]
        engine(images, targets)  # what it returns is stretched to 0..1: whether there was any evidence is lost
        seen = engine.activations_and_grads
        features, gradients = seen.activations[0].numpy(), seen.gradients[0].numpy()
        found = engine.get_cam_image(images, layer, targets, features, gradients)
        cells = features.shape[2] * features.shape[3] if method == "gradcam" else 1
        return np.asarray(found * cells, dtype=np.float32)

    return look


def inputs(pixels: Pixels, rule: Preprocess) -> Tensor:
    """Normalize (N, S, S, 3) uint8 pixels to the network's input, (N, 3, S, S) float32."""
    import torch

    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()  # a copy: torch takes no read-only array
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (rule.mean, rule.std))
    return (images - mean) / std


def last_features(network: nn.Module, size: int) -> nn.Module:
    """The module that gives the last features (N, K, H, W): what the network pools and classifies.

    Raises: ConfigError where they are no image (a transformer's tokens, channels last), or a single cell.
    """
    import torch

    given: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _: Any, output: Any) -> None:
        given.append((module, output))

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.no_grad():
            features = network.forward_features(torch.zeros(1, 3, size, size))
    finally:
        for handle in handles:
            handle.remove()
    found = [module for module, output in given if output is features]
    if not found or features.dim() != 4 or features.shape[1] != network.num_features:
        raise ConfigError(
            f"Grad-CAM needs a convolutional network: the last features of this one ({type(network).__name__}, "
            f"{tuple(features.shape)}) are no image of {network.num_features} channels"
        )
    if features.shape[2] * features.shape[3] == 1:
        raise ConfigError(f"at {size} pixels the last features are a single cell: it cannot say where anything is")
    return found[-1]


def _require() -> None:
    package = missing()
    if package is not None:
        raise MissingDependencyError("grad-cam" if package == "pytorch_grad_cam" else package, PACKAGES[package])
