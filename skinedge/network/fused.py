"""The same network, computed with fewer passes over memory while training with frozen BatchNorm.

An adapted convolution followed by a frozen BatchNorm is one convolution: with W + s B A for the weight
(Hu et al. 2021, eq. 3) and BatchNorm's fixed scale and shift folded in (Jacob et al. 2018, section 3.2). With DoRA
each filter of it is scaled to the norm that is trained for it (Liu et al. 2024, eq. 5).
Gradients reach A and B through the product. Only forward methods of this process' module objects are
replaced; parameters, their names and what is saved stay as peft made them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skinedge.network.depthwise import clamp, depthwise, widened
from skinedge.system.progress import note

if TYPE_CHECKING:
    import torch
    from torch import nn

TOLERANCE = 1e-3  # float32 sums in another order, relative to the largest feature


def fuse(adapted: nn.Module, size: int) -> None:
    """Fuse every adapter without dropout, every convolution with the BatchNorm after it, and ReLU6.

    Undone, with a note, should the fused network's features differ: an architecture may use a layer in a
    way that its module does not show.
    adapted: a PeftModel whose BatchNorm will stay frozen; size: side of its input, pixels.
    """
    from peft.tuners.lora import Conv2d as LoraConv2d
    from torch import nn

    plain = probe(adapted, size)
    norms = pairs(adapted, size)
    for module in adapted.modules():
        if isinstance(module, nn.ReLU6) and module.inplace:
            module.forward = clamp
        if isinstance(module, LoraConv2d):
            fuse_one(module, module.base_layer, norms.get(module))
        elif module in norms and (type(module) is nn.Conv2d or same(module)):
            fuse_one(module, module, norms[module])
    difference = (probe(adapted, size) - plain).abs().max()
    if not difference <= TOLERANCE * (1 + plain.abs().max()):
        for module in adapted.modules():
            vars(module).pop("forward", None)
        note("this backbone's layers cannot be fused; training runs in its plain form")


def probe(adapted: nn.Module, size: int) -> torch.Tensor:
    """What the classifier is given for one fixed random image: (1, F), float (a fresh classifier gives zeros)."""
    import torch

    seen: list[torch.Tensor] = []
    head = adapted.get_submodule("base_model.model").get_classifier()
    handle = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    parameter = next(adapted.parameters())
    adapted.eval()
    try:
        with torch.no_grad():
            adapted(image.to(parameter.device, parameter.dtype))
    finally:
        handle.remove()
    return seen[0]


def fuse_one(module: Any, base: Any, norm: Any | None) -> None:
    """Let `module` (a convolution, or an adapter over `base`) do the work of `norm` too."""
    has_adapter = module is not base
    if has_adapter and any(drop.p > 0 for drop in module.lora_dropout.values() if hasattr(drop, "p")):
        return

    def weight() -> torch.Tensor:
        if not has_adapter:
            return base.weight
        down = module.lora_A["default"].weight.flatten(1)
        up = module.lora_B["default"].weight.flatten(1)
        whole = base.weight + module.scaling["default"] * (up @ down).view_as(base.weight)
        if "default" not in module.lora_magnitude_vector:
            return whole
        return module.lora_magnitude_vector["default"].weight.transpose(0, 1) / norms_of(whole) * whole

    scale, bias = folded(base, norm)
    module.forward = convolution(base, weight, scale, bias)
    if norm is not None:
        norm.forward = types.MethodType(_after_norm, norm)


def norms_of(filters: torch.Tensor) -> torch.Tensor:
    """The norm of each filter, (C, I, KH, KW) -> (C, 1, 1, 1): a constant to the gradient (Liu et al. 2024, 4.3)."""
    return filters.detach().flatten(1).norm(dim=1)[:, None, None, None]


def folded(base: Any, norm: Any | None) -> tuple[Any, Any]:
    """BatchNorm as a scale per output channel, (C, 1, 1, 1), and a bias, (C,); None where there is none."""
    import torch

    if norm is None:
        return None, base.bias
    with torch.no_grad():
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        start = base.bias if base.bias is not None else torch.zeros_like(norm.running_mean)
        return gain[:, None, None, None].clone(), norm.bias + gain * (start - norm.running_mean)


def same(module: nn.Module) -> bool:
    """Whether it pads by itself, as TensorFlow's 'same' does, in a way that `kernels.widened` stands in for."""
    from timm.layers import Conv2dSame

    return isinstance(module, Conv2dSame) and module.dilation == (1, 1)


def fits_depthwise(base: Any) -> bool:
    """Whether `kernels.depthwise` computes what this convolution does."""
    if base.weight.requires_grad or not base.groups == base.in_channels == base.out_channels:
        return False
    padded = isinstance(base.padding, tuple) and all(p < t for p, t in zip(base.padding, base.kernel_size, strict=True))
    return padded and base.dilation == (1, 1)


def convolution(base: Any, weight: Callable[[], Any], scale: Any, bias: Any) -> Callable[[Any], Any]:
    from torch.nn import functional

    pads_itself, frozen = same(base), fits_depthwise(base)

    def forward(x: torch.Tensor) -> torch.Tensor:
        kernel = weight() if scale is None else scale * weight()
        padding = base.padding
        if pads_itself:
            kernel, padding = widened(kernel, x.shape, base.stride)
        if frozen and x.device.type == "cpu":  # cuDNN needs no help
            return depthwise(x, kernel, bias, base.stride, padding)
        return functional.conv2d(x, kernel, bias, base.stride, padding, base.dilation, base.groups)

    return forward


def _after_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """What is left of timm's BatchNormAct2d: its drop layer and its activation."""
    return self.act(self.drop(x)) if hasattr(self, "act") else x


def pairs(adapted: nn.Module, size: int) -> dict[nn.Module, nn.Module]:
    """Convolution (or the adapter around it) -> the BatchNorm that takes its output, and nothing else does.

    Found by running one image through the network and seeing which tensor goes where.
    """
    import torch

    made: dict[int, nn.Module] = {}
    uses: dict[int, list[nn.Module]] = {}
    kept = []  # tensors stay alive, so that an id names one tensor only

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for tensor in inputs:
            uses.setdefault(id(tensor), []).append(module)
        made[id(output)] = module
        kept.append((inputs, output))

    with torch.no_grad(), hooked(adapted, after):
        adapted(next(adapted.parameters()).new_zeros(1, 3, size, size))
    found = {}
    for key, module in made.items():
        readers = uses.get(key, [])
        if len(readers) == 1 and isinstance(readers[0], torch.nn.BatchNorm2d):
            found[module] = readers[0]
    return found


@contextmanager
def hooked(adapted: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Watch the convolutions (adapters as a whole) and every layer that has no layers inside."""
    from torch import nn

    adapters = {module for module in adapted.modules() if _is_adapter(module)}
    inside = {part for module in adapters for part in module.modules()} - adapters
    watched = [
        module
        for module in adapted.modules()
        if module not in inside
        and (module in adapters or isinstance(module, nn.BatchNorm2d) or not list(module.children()))
    ]
    handles = [module.register_forward_hook(hook) for module in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_adapter(module: nn.Module) -> bool:
    """Whether it is peft's; where peft was never imported, which takes seconds, nothing is."""
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.Conv2d)
