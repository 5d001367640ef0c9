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
BLOCK = 64  # columns whose errors are passed on to the rest in one product
SHOWN = 8  # groups named in a note
LIMIT_SHARE = 16  # how far a bias stays away from the int32 limit
LEAST_SPAN = 1e-9  # of a layer's input: ai-edge-quantizer gives no tensor a smaller range


def round_weights(network: nn.Module, pixels: Pixels, rule: Preprocess) -> nn.Module:
    """A copy of `network` whose convolutions followed by BatchNorm have weights on the int8 grid.

    network: eval mode, CPU, fp32, normalized NCHW input; pixels: (N, S, S, 3) uint8, prepared, whose order
    does not matter.
    Raises: GateError when a layer's input is not finite.
    """
    import torch

    rounded = copy.deepcopy(network)
    norms = {conv: norm for conv, norm in pairs(rounded, rule.size).items() if isinstance(conv, torch.nn.Conv2d)}
    names = {module: name for name, module in rounded.named_modules()}
    inputs = {conv: RunningCovariance(conv, names[conv]) for conv in norms}
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
            roots, plain = inverse_roots(inputs[conv].covariance())
            if plain:
                note(
                    f"{names[conv]}: rounded to the nearest step in {_listed(plain)}, whose inputs cannot be told apart"
                )
            better = round_rows(weight, roots)
            shift = torch.einsum("gok,gk->go", (better - weight).double(), inputs[conv].mean)
            conv.weight.copy_(better.view_as(conv.weight))
            norm.running_mean.add_(shift.flatten().float())
    return rounded


def _listed(groups: Sequence[int]) -> str:
    """Return 'groups 0, 3, 5 and 12 more'."""
    shown = ", ".join(map(str, groups[:SHOWN]))
    return f"groups {shown}" + (f" and {len(groups) - SHOWN} more" if len(groups) > SHOWN else "")


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
    least = LIMIT_SHARE * bias.abs() * STEPS / 2**31 * 255 / max(span, LEAST_SPAN)
    mute = largest * factor.abs() < least
    silent = mute & (largest == 0)  # no weight to raise: one is made
    conv.weight.view(len(largest), -1)[silent, 0] = 1
    largest = torch.where(silent | ~mute, torch.ones_like(largest), largest)
    conv.weight.div_(largest.view(-1, 1, 1, 1))  # of mute channels to 1: a factor raised instead could grow without end
    raised = torch.where(factor < 0, -least, least) * torch.sqrt(norm.running_var + norm.eps)
    norm.weight.copy_(torch.where(mute, raised, norm.weight))
    # the bias stays what it was; without a mean to subtract no large product cancels another
    centre = torch.zeros_like(norm.running_mean) if conv.bias is None else conv.bias
    norm.running_mean.copy_(torch.where(mute, centre, norm.running_mean))
    norm.bias.copy_(torch.where(mute, bias, norm.bias))


def round_rows(weight: torch.Tensor, roots: torch.Tensor) -> torch.Tensor:
    """Return the weights on their grid.

    A row's grid has 127 steps up to its largest weight, which stays where it is: it defines the grid for the
    converter too.

    Args:
        weight: (G, O, K) float32.
        roots: (G, K, K) float32, of the inputs' covariance, from `inverse_roots`.
    """
    import torch

    largest = weight.abs().amax(dim=2)
    step = (largest / STEPS).clamp_min(torch.finfo(torch.float32).tiny)
    anchor = weight.abs().argmax(dim=2)
    left, done = weight.clone(), torch.zeros_like(weight)
    size = weight.shape[2]
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        errors = torch.zeros_like(left[:, :, start:stop])
        for i in range(start, stop):
            near = (left[:, :, i] / step).round().clamp(-STEPS, STEPS) * step
            done[:, :, i] = torch.where(anchor == i, weight[:, :, i], near)
            error = (left[:, :, i] - done[:, :, i]) / roots[:, None, i, i]
            left[:, :, i:stop] -= error[:, :, None] * roots[:, None, i, i:stop]
            errors[:, :, i - start] = error
        left[:, :, stop:] -= errors @ roots[:, start:stop, stop:]
    return done
