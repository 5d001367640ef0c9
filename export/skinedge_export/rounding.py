"""Int8 weights rounded for the images they will see, not each to its nearest step.

Plain rounding ignores that a filter's inputs are correlated: in a depthwise filter over smooth skin all
errors that do not cancel add up. Here each filter's weights are rounded one after another, and what one
loses the next ones make up for, weighted by the covariance of the layer's inputs on the calibration images
(GPTQ, Frantar et al. 2023, algorithm 1); what is left of the mean goes into BatchNorm's (bias correction,
Nagel et al. 2019, section 4.2). The result is an ordinary float network whose weights lie on the int8 grid,
so any converter's own per-channel rounding finds them there.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from skinedge import model
from skinedge.fused import pairs
from skinedge.preprocess import Pixels, Preprocess
from skinedge_export.calibrate import in_order

if TYPE_CHECKING:
    import torch
    from torch import nn

STEPS = 127  # symmetric int8: -127..127
DAMPING = 0.01  # share of the mean variance added to each; keeps the covariance invertible
BLOCK = 64  # columns whose errors are passed on to the rest in one product
PATCHES = 64  # places looked at in each image and layer
FEWER = 16  # the same for small filters, whose covariance has few entries
SMALL = 64  # inputs of a small filter
LIMIT_SHARE = 16  # how far a bias stays away from the int32 limit


def round_weights(network: nn.Module, pixels: Pixels, rule: Preprocess) -> nn.Module:
    """A copy of `network` whose convolutions followed by BatchNorm have weights on the int8 grid.

    network: eval mode, CPU, fp32, normalized NCHW input; pixels: (N, S, S, 3) uint8, prepared, whose order
    does not matter.
    """
    import torch

    rounded = copy.deepcopy(network)
    norms = {conv: norm for conv, norm in pairs(rounded, rule.size).items() if isinstance(conv, torch.nn.Conv2d)}
    inputs = {conv: Moments(conv) for conv in norms}
    handles = [conv.register_forward_pre_hook(seen.add) for conv, seen in inputs.items()]
    with torch.inference_mode():
        for images in model.inputs(in_order(pixels), rule, batch=16):
            rounded(images)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        for conv, norm in norms.items():
            _speak_up(conv, norm, inputs[conv].span)
            weight = grouped(conv)
            better = round_rows(weight, inputs[conv].covariance())
            shift = torch.einsum("gok,gk->go", better - weight, inputs[conv].mean)
            conv.weight.copy_(better.view_as(conv.weight))
            norm.running_mean.add_(shift.flatten())
    return rounded


def _speak_up(conv: nn.Conv2d, norm: Any, span: float) -> None:
    """Raise the factor of channels that hardly depend on their input, so that their bias fits into int32.

    A bias is stored in steps of (input step) x (weight step of its channel); where the weights are next to nothing,
    so is the step, and the bias overflows: the channel then says something else, even of another sign. What is raised
    stays below a thousandth of the bias for each input. span: of the layer's input, its largest value minus its
    smallest.
    """
    import torch

    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        bias = bias + conv.bias * factor
    largest = conv.weight.flatten(1).abs().amax(dim=1)
    least = LIMIT_SHARE * bias.abs() * STEPS / 2**31 * 255 / max(span, torch.finfo(torch.float32).tiny)
    mute = largest * factor.abs() < least
    silent = mute & (largest == 0)  # no weight to raise: one is made
    conv.weight.view(len(largest), -1)[silent, 0] = 1
    largest = torch.where(silent | ~mute, torch.ones_like(largest), largest)
    conv.weight.div_(largest.view(-1, 1, 1, 1))  # of mute channels to 1: a factor raised instead could grow without end
    raised = torch.where(factor < 0, -least, least)
    change = torch.where(mute, raised - factor, torch.zeros_like(factor))
    norm.weight.add_(change * torch.sqrt(norm.running_var + norm.eps))
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    norm.bias.add_(mean * change)  # the bias stays what it was


def grouped(conv: nn.Conv2d) -> torch.Tensor:
    """The weight as (G, O / G, K): K inputs to each of the O / G filters of G groups."""
    weight: torch.Tensor = conv.weight.detach()
    return weight.reshape(conv.groups, weight.shape[0] // conv.groups, -1)


def round_rows(weight: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """weight: (G, O, K) float32; covariance: (G, K, K), positive definite; returns weight on the grid.

    A row's grid has 127 steps up to its largest weight, which stays where it is: it defines the grid for
    the converter too.
    """
    import torch

    largest = weight.abs().amax(dim=2)
    step = (largest / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    anchor = weight.abs().argmax(dim=2)
    inverse = torch.linalg.cholesky(torch.linalg.inv(covariance.double()), upper=True).float()
    left, done = weight.clone(), torch.zeros_like(weight)
    size = weight.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = torch.zeros_like(left[:, :, start:stop])
        for i in range(start, stop):
            near = (left[:, :, i] / step).round().clamp(-STEPS, STEPS) * step
            done[:, :, i] = torch.where(anchor == i, weight[:, :, i], near)
            error = (left[:, :, i] - done[:, :, i]) / inverse[:, None, i, i]
            left[:, :, i:stop] -= error[:, :, None] * inverse[:, None, i, i:stop]
            errors[:, :, i - start] = error
        left[:, :, stop:] -= errors @ inverse[:, start:stop, stop:]
    return done


class Moments:
    """Sums of a convolution's inputs and of their products, over patches drawn from every image."""

    def __init__(self, conv: nn.Conv2d) -> None:
        import torch

        groups, _, size = grouped(conv).shape
        self._conv = conv
        self._places = FEWER if size <= SMALL else PATCHES
        self._count = 0
        self._sum = torch.zeros(groups, size)
        self._products = torch.zeros(groups, size, size)
        self._generator = torch.Generator().manual_seed(0)
        self._low, self._high = 0.0, 0.0

    def add(self, module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        """A forward hook: args[0] is (N, C, H, W) float32."""
        self._low, self._high = min(self._low, float(args[0].amin())), max(self._high, float(args[0].amax()))
        columns = self._patches(args[0])
        self._count += columns.shape[2]
        self._sum += columns.sum(dim=2)
        self._products += columns @ columns.transpose(1, 2)

    def _patches(self, images: torch.Tensor) -> torch.Tensor:
        """(G, K, patches) of places that lie inside the image."""
        import torch

        conv = self._conv
        (high, wide), (reach_y, reach_x) = conv.kernel_size, conv.dilation
        span_y, span_x = (high - 1) * reach_y + 1, (wide - 1) * reach_x + 1
        height, width = images.shape[2:]
        top = torch.randint(max(1, height - span_y + 1), (self._places,), generator=self._generator)
        left = torch.randint(max(1, width - span_x + 1), (self._places,), generator=self._generator)
        ys = (top[:, None, None] + torch.arange(high)[:, None] * reach_y).clamp(max=height - 1)
        xs = (left[:, None, None] + torch.arange(wide) * reach_x).clamp(max=width - 1)
        places = (ys * width + xs).flatten()
        pixels = images.permute(0, 2, 3, 1).reshape(len(images), height * width, -1)  # a view of channels-last images
        found = pixels.index_select(1, places).view(len(images) * self._places, -1).t()
        if conv.groups > 1:  # many small products, which are slow over a transposed view
            found = found.contiguous()
        return found.view(high * wide, conv.groups, -1, found.shape[1]).permute(1, 2, 0, 3).flatten(1, 2)

    @property
    def span(self) -> float:
        """Largest minus smallest input, zero among them."""
        return self._high - self._low

    @property
    def mean(self) -> torch.Tensor:
        """(G, K) float32."""
        return self._sum / self._count

    def covariance(self) -> torch.Tensor:
        """(G, K, K) float32, damped so that it can be inverted."""
        import torch

        mean = self.mean
        centred = self._products / self._count - mean[:, :, None] * mean[:, None, :]
        size = centred.shape[1]
        variance = centred.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-8)
        return centred + DAMPING * variance[:, None, None] * torch.eye(size)
