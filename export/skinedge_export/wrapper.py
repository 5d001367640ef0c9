"""The graph that is exported: pixels in, probabilities out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from skinedge.preprocess import Preprocess
from skinedge_export.job import OUTPUT

if TYPE_CHECKING:
    import torch
    from torch import nn


def pixel_model(network: nn.Module, rule: Preprocess) -> nn.Module:
    """`network` with normalization before and softmax after it; a copy, the original is not changed.

    The result maps pixels (N, S, S, 3) float32, RGB 0..255, to {'probabilities': (N, C) float32}.
    Subtracting the mean stays one addition in the graph: folded into the first convolution it would
    be wrong at the borders, whose padding is zero after normalization. The division has no such
    trouble and goes into that convolution's weights where there is a plain one.
    """
    import torch

    class PixelModel(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, network: nn.Module, offset: torch.Tensor, scale: torch.Tensor | None) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("offset", offset)
            self.register_buffer("scale", scale)

        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            centred = pixels + self.offset
            if self.scale is not None:
                centred = centred * self.scale
            return {OUTPUT: torch.softmax(self.network(centred.permute(0, 3, 1, 2)), dim=1)}

    inner = copy.deepcopy(network).eval()
    _plain_pooling(inner)
    std = torch.tensor(rule.std)
    stem = _stem(inner, rule.size)
    if stem is not None:
        with torch.no_grad():
            stem.weight.div_(std.view(1, 3, 1, 1))
    offset = -torch.tensor(rule.mean)
    same = len(set(rule.mean)) == 1  # a scalar adds in one vectorized run, a triple pixel by pixel
    return PixelModel(inner, offset[0] if same else offset, None if stem is not None else 1 / std).eval()


def _stem(network: nn.Module, size: int) -> nn.Conv2d | None:
    """The plain convolution that takes the network's input, None where there is none.

    Plain: no weight standardization or the like, whose result a scaled weight would not scale.
    """
    import torch
    from timm.layers import Conv2dSame

    image = torch.zeros(1, 3, size, size)
    found: list[nn.Conv2d] = []
    users = 0

    def look(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal users
        if args and args[0] is image and not any(module.children()):
            users += 1
            if type(module) in (torch.nn.Conv2d, Conv2dSame):
                found.append(module)

    handles = [module.register_forward_pre_hook(look) for module in network.modules()]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    return found[0] if users == 1 and found else None


def _plain_pooling(network: nn.Module) -> None:
    """Average over the image as a mean: adaptive pooling exports as a gather when the batch is free."""
    import torch
    from timm.layers import SelectAdaptivePool2d

    for name, module in list(network.named_modules()):
        if isinstance(module, SelectAdaptivePool2d) and isinstance(module.pool, torch.nn.AdaptiveAvgPool2d):
            if module.pool.output_size != 1:
                continue
            pool = SelectAdaptivePool2d(pool_type="fast")  # keeps the two image axes, at length 1
            pool.flatten = module.flatten
            network.set_submodule(name, pool)
