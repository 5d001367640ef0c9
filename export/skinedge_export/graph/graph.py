"""The exported model: the network with normalization before it and softmax after it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError
from skinedge.core.input_format import HEATMAP, LOGITS, PROBABILITIES
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.network import model
from skinedge.network.fused import folded, pairs
from skinedge_export.signature import IOSignature

if TYPE_CHECKING:
    import torch
    from torch import nn


FOLDING = 1e-3  # relative difference of logits that rounding may make when a BatchNorm is folded
EVIDENCE = "evidence"  # name of the module that computes the heatmap


def pixel_model(network: nn.Module, rule: Preprocess, form: IOSignature) -> nn.Module:
    """Return a copy of `network` with normalization before and softmax after it.

    The result maps pixels (N, S, S, 3), RGB in the range of `form.contract`, to a dict of `form.outputs`:
    'probabilities' (N, C), 'logits' (N, C), 'heatmap' (N, H, W, C), all float32.
    With x = (pixel - o) / s the network's input is (x + (o - mean) / s) * s / std. The addition stays in the graph:
    folded into the first convolution it would be wrong at the borders, whose padding is zero after normalization. The
    factor is folded into that convolution's weights, if it is a plain one.
    Raises: ConfigError for a heatmap of a network that has none.
    """
    import torch

    class PixelModel(torch.nn.Module):  # type: ignore[misc]
        # Part of the tensor names of TFLite files: the module's former name, so that the same run gives the same bytes.
        __module__ = "skinedge_export.wrapper"

        def __init__(self, network: nn.Module, offset: torch.Tensor, scale: torch.Tensor | None) -> None:
            super().__init__()
            self.network = network
            self.evidence = _evidence(network, rule.size) if form.heatmap else None
            self.register_buffer("offset", offset)
            self.register_buffer("scale", scale)

        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            centred = pixels.float() + self.offset
            if self.scale is not None:
                centred = centred * self.scale
            features = self.network.forward_features(centred.permute(0, 3, 1, 2))
            logits = self.network.forward_head(features)
            outputs = {PROBABILITIES: torch.softmax(logits, dim=1)}
            if form.logits:
                outputs[LOGITS] = logits
            if self.evidence is not None:
                outputs[HEATMAP] = self.evidence(features).permute(0, 2, 3, 1)
            return outputs

    inner = copy.deepcopy(network).eval()
    _plain_pooling(inner)
    inner = _without_norms(inner, rule.size)
    std = torch.tensor(rule.std) / form.input.scale
    stem = _stem(inner, rule.size)
    if stem is not None:
        with torch.no_grad():
            stem.weight.div_(std.view(1, 3, 1, 1))
    offset = (form.input.offset - torch.tensor(rule.mean)) / form.input.scale
    same = len(set(rule.mean)) == 1  # a scalar adds in one vectorized run, a triple pixel by pixel
    return PixelModel(inner, offset[0] if same else offset, None if stem is not None else 1 / std).eval()


def heatmaps(network: nn.Module, pixels: Pixels, rule: Preprocess) -> NDArray[np.float32]:
    """Return the network's class activation maps, (N, H, W, C) float32, for pixels (N, S, S, 3) uint8."""
    import torch

    evidence = _evidence(network, rule.size)
    with torch.inference_mode():
        parts = [evidence(network.forward_features(images)) for images in model.inputs(pixels, rule)]
    return np.asarray(torch.cat(parts).permute(0, 2, 3, 1).numpy())


def _evidence(network: nn.Module, size: int) -> nn.Module:
    """Return the classifier as a 1 x 1 convolution over the last features, without its bias (Zhou et al. 2016, eq. 2).

    Exact if the head is a global average pooling and one linear layer. This is tested: the map's mean plus the bias
    must be the logits.
    Raises: ConfigError for any other head.
    """
    import torch

    head = network.get_classifier()
    with torch.no_grad():  # not inference_mode: the converter traces these weights with autograd on
        features = network.forward_features(torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)))
        if isinstance(head, torch.nn.Linear) and features.shape[1] == head.in_features and features.dim() == 4:
            layer = torch.nn.Conv2d(head.in_features, head.out_features, 1, bias=False).requires_grad_(False)
            layer.weight.copy_(head.weight[:, :, None, None])
            logits = layer(features).mean(dim=(2, 3))
            if head.bias is not None:
                logits = logits + head.bias
            if torch.allclose(logits, network.forward_head(features), rtol=1e-3, atol=1e-3):
                return layer.eval()
    raise ConfigError(
        "no class activation map: this network does not end in a global average and one linear layer",
        todo="Export without --heatmap; skinedge explain shows Grad-CAM from the run itself.",
    )


def _stem(network: nn.Module, size: int) -> nn.Conv2d | None:
    """Return the plain convolution that takes the network's input, None if there is none.

    Plain: without weight standardization or the like, which would undo a scaling of the weights.
    """
    import torch
    from timm.layers import Conv2dSame

    image = torch.zeros(1, 3, size, size)
    convolutions: list[nn.Conv2d] = []
    users = 0

    def record(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal users
        if args and args[0] is image and not any(module.children()):
            users += 1
            if type(module) in (torch.nn.Conv2d, Conv2dSame):
                convolutions.append(module)

    handles = [module.register_forward_pre_hook(record) for module in network.modules()]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return convolutions[0] if users == 1 and convolutions else None


def _without_norms(network: nn.Module, size: int) -> nn.Module:
    """Return a copy with each BatchNorm folded into the convolution before it (Jacob et al. 2018, section 3.2).

    Activations inside a BatchNorm stay. Converters fold too; folding here makes the graph's constants the network's
    tensors, and tracing faster. Returns the network itself if the copy does not compute the same, as with a layer that
    is used in several places.
    """
    import torch

    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    folded_network = copy.deepcopy(network)
    with torch.no_grad():
        _fold(folded_network, size)
        expected, logits = network(image), folded_network(image)
    close = torch.allclose(logits, expected, rtol=FOLDING, atol=FOLDING * float(expected.abs().max()))
    return folded_network if close else network


def _fold(network: nn.Module, size: int) -> None:
    """Fold each BatchNorm into the convolution before it, in place."""
    import torch
    from timm.layers import Conv2dSame

    names = {module: name for name, module in network.named_modules()}
    for conv, norm in pairs(network, size).items():
        if type(conv) not in (torch.nn.Conv2d, Conv2dSame) or not (norm.affine and norm.track_running_stats):
            continue
        scale, bias = folded(conv, norm)
        conv.weight.mul_(scale)
        conv.bias = torch.nn.Parameter(bias, requires_grad=False)
        rest = [(name, getattr(norm, name)) for name in ("drop", "act") if hasattr(norm, name)]
        network.set_submodule(names[norm], torch.nn.Sequential(OrderedDict(rest)))


def _plain_pooling(network: nn.Module) -> None:
    """Replace adaptive average pooling by a mean, in place: with a dynamic batch it would export as a gather."""
    import torch
    from timm.layers import SelectAdaptivePool2d

    for name, module in list(network.named_modules()):
        if isinstance(module, SelectAdaptivePool2d) and isinstance(module.pool, torch.nn.AdaptiveAvgPool2d):
            if module.pool.output_size != 1:
                continue
            pool = SelectAdaptivePool2d(pool_type="fast")  # keeps the two image axes, at length 1
            pool.flatten = module.flatten
            network.set_submodule(name, pool)
