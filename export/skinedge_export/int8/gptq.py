"""GPTQ: rounding of weights to int8 that minimizes the error of each layer's output on the calibration images.

Rounding to the nearest step ignores that a filter's inputs are correlated: in a depthwise filter over smooth skin,
errors that do not cancel add up. Here each filter's weights are rounded one after another, and the following ones
compensate for each error, weighted by the covariance of the layer's inputs on the calibration images (GPTQ, Frantar et
al. 2023, algorithm 1); the remaining error of the mean is corrected in the BatchNorm's mean (bias correction, Nagel et
al. 2019, section 4.2). The result is an ordinary float network whose weights are on the int8 grid, so that any
converter's per-channel rounding leaves them unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.network import model
from skinedge.network.fused import pairs
from skinedge.system.progress import note
from skinedge_export.int8.calibration_images import in_order
from skinedge_export.int8.covariance import RunningCovariance, grouped, inverse_roots

if TYPE_CHECKING:
    import torch
    from torch import nn

STEPS = 127  # symmetric int8: -127..127
BLOCK = 64  # columns whose errors are added to the remaining columns in one product
SHOWN = 8  # groups listed in a note
LIMIT_SHARE = 16  # a bias stays below 1 / 16 of the int32 limit
LEAST_SPAN = 1e-9  # of a layer's input: ai-edge-quantizer's smallest range


def round_weights(network: nn.Module, pixels: Pixels, rule: Preprocess) -> nn.Module:
    """Return a copy of `network` in which convolutions followed by BatchNorm have weights on the int8 grid.

    network: eval mode, CPU, fp32, normalized NCHW input; pixels: (N, S, S, 3) uint8, prepared, in any order.
    Raises: GateError if a layer's input is not finite.
    """
    import torch

    rounded = copy.deepcopy(network)
    norms = {conv: norm for conv, norm in pairs(rounded, rule.size).items() if isinstance(conv, torch.nn.Conv2d)}
    names = {module: name for name, module in rounded.named_modules()}
    inputs = {conv: RunningCovariance(conv, names[conv]) for conv in norms}
    handles = [conv.register_forward_pre_hook(statistics.add) for conv, statistics in inputs.items()]
    with torch.inference_mode():
        for images in model.inputs(in_order(pixels), rule, batch=16):
            rounded(images)
    for handle in handles:
        handle.remove()
    with torch.no_grad():
        for conv, norm in norms.items():
            _raise_tiny_scales(conv, norm, inputs[conv].span)
            weight = grouped(conv)
            roots, singular = inverse_roots(inputs[conv].covariance())
            if singular:
                note(f"{names[conv]}: rounded to the nearest step in {_listed(singular)}: input covariance is singular")
            on_grid = round_rows(weight, roots)
            shift = torch.einsum("gok,gk->go", (on_grid - weight).double(), inputs[conv].mean)
            conv.weight.copy_(on_grid.view_as(conv.weight))
            norm.running_mean.add_(shift.flatten().float())
    return rounded


def _listed(groups: Sequence[int]) -> str:
    """Return 'groups 0, 3, 5 and 12 more'."""
    shown = ", ".join(map(str, groups[:SHOWN]))
    return f"groups {shown}" + (f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else "")


def _raise_tiny_scales(conv: nn.Conv2d, norm: Any, span: float) -> None:
    """Raise the scale of channels that hardly depend on their input, in place, so that their bias fits into int32.

    A bias is stored in steps of (input step) x (weight step of its channel). With tiny weights the step is tiny too,
    and the bias overflows: the channel's output is wrong, even in sign. The raised part stays below a thousandth of the
    bias for each input.
    span: largest minus smallest value of the layer's input.
    """
    import torch

    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        bias = bias + conv.bias * factor
    largest = conv.weight.flatten(1).abs().amax(dim=1)
    least = LIMIT_SHARE * bias.abs() * STEPS / 2**31 * 255 / max(span, LEAST_SPAN)
    tiny = largest * factor.abs() < least
    zero = tiny & (largest == 0)  # no weight to raise: set one
    conv.weight.view(len(largest), -1)[zero, 0] = 1
    largest = torch.where(zero | ~tiny, torch.ones_like(largest), largest)
    conv.weight.div_(largest.view(-1, 1, 1, 1))  # tiny channels' largest weight to 1: raising the factor has no bound
    raised = torch.where(factor < 0, -least, least) * torch.sqrt(norm.running_var + norm.eps)
    norm.weight.copy_(torch.where(tiny, raised, norm.weight))
    # same bias; with no mean to subtract, no large products cancel
    centre = torch.zeros_like(norm.running_mean) if conv.bias is None else conv.bias
    norm.running_mean.copy_(torch.where(tiny, centre, norm.running_mean))
    norm.bias.copy_(torch.where(tiny, bias, norm.bias))


def round_rows(weight: torch.Tensor, roots: torch.Tensor) -> torch.Tensor:
    """Round each row of weights to its int8 grid.

    A row's grid has 127 steps up to its largest weight, which stays as it is: it defines the converter's grid too.

    Args:
        weight: (G, O, K) float32.
        roots: (G, K, K) float32, of the inputs' covariance, from `inverse_roots`.
    """
    import torch

    largest = weight.abs().amax(dim=2)
    step = (largest / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    anchor = weight.abs().argmax(dim=2)
    remaining, rounded = weight.clone(), torch.zeros_like(weight)
    size = weight.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = torch.zeros_like(remaining[:, :, start:stop])
        for i in range(start, stop):
            nearest = (remaining[:, :, i] / step).round().clamp(-STEPS, STEPS) * step
            rounded[:, :, i] = torch.where(anchor == i, weight[:, :, i], nearest)
            error = (remaining[:, :, i] - rounded[:, :, i]) / roots[:, None, i, i]
            remaining[:, :, i:stop] -= error[:, :, None] * roots[:, None, i, i:stop]
            errors[:, :, i - start] = error
        remaining[:, :, stop:] -= errors @ roots[:, start:stop, stop:]
    return rounded
