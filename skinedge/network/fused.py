"""Fused layers for training with frozen BatchNorm: the same network with fewer passes over memory.

An adapted convolution followed by a frozen BatchNorm is one convolution with the weight W + s B A (Hu et al. 2021,
eq. 3), into which BatchNorm's fixed scale and shift are folded (Jacob et al. 2018, section 3.2). With DoRA, each filter
is scaled to its trained norm (Liu et al. 2024, eq. 5). Gradients reach A and B through the product.
Only the forward methods of module objects in this process are replaced; parameters, their names and saved files stay as
peft defines them.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from skinedge.network.depthwise import clamp, depthwise, same_padding
from skinedge.system.progress import note

if TYPE_CHECKING:
    import torch
    from torch import nn

TOLERANCE = 1e-3  # relative to the largest feature; float32 sums in another order


def fuse(adapted: nn.Module, size: int) -> None:
    """Fuse every adapter without dropout, every convolution with the BatchNorm after it, and ReLU6, in place.

    Undone with a note if the features change: an architecture may use a layer in a way that its module does not show.
    adapted: a PeftModel whose BatchNorm stays frozen; size: side of its input, pixels.
    """
    from peft.tuners.lora import Conv2d as LoraConv2d
    from torch import nn

    with exact_convolutions():
        features = probe(adapted, size)
    norms = pairs(adapted, size)
    for module in adapted.modules():
        if isinstance(module, nn.ReLU6) and module.inplace:
            module.forward = clamp
        if isinstance(module, LoraConv2d):
            fuse_layer(module, module.base_layer, norms.get(module))
        elif module in norms and (type(module) is nn.Conv2d or pads_same(module)):
            fuse_layer(module, module, norms[module])
    with exact_convolutions():
        same = is_close(probe(adapted, size), features)
    if not same:
        for module in adapted.modules():
            vars(module).pop("forward", None)
        note("the layers of this backbone cannot be fused; training runs without fusion")


def probe(adapted: nn.Module, size: int) -> torch.Tensor:
    """Return the classifier's input for a fixed random image: (1, F) float (a fresh classifier's output is zero)."""
    import torch

    captured: list[torch.Tensor] = []
    head = adapted.get_submodule("base_model.model").get_classifier()
    handle = head.register_forward_pre_hook(lambda module, inputs: captured.append(inputs[0]))
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    parameter = next(adapted.parameters())
    adapted.eval()
    try:
        with torch.no_grad():
            adapted(image.to(parameter.device, parameter.dtype))
    finally:
        handle.remove()
    return captured[0]


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Let a GPU compute convolutions in float32 within the context; TF32, its default, may differ beyond TOLERANCE."""
    import torch

    previous, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = previous


def is_close(features: torch.Tensor, expected: torch.Tensor) -> bool:
    """Return True if features differ by no more than float32 sums in another order; False for NaN."""
    return bool((features - expected).abs().max() <= TOLERANCE * (1 + expected.abs().max()))


def fuse_layer(module: Any, base: Any, norm: Any | None) -> None:
    """Replace the forward of `module` (a convolution, or an adapter over `base`) by one that includes `norm`."""
    has_adapter = module is not base
    if has_adapter and any(drop.p > 0 for drop in module.lora_dropout.values() if hasattr(drop, "p")):
        return

    def weight() -> torch.Tensor:
        if not has_adapter:
            return base.weight
        down = module.lora_A["default"].weight.flatten(1)
        up = module.lora_B["default"].weight.flatten(1)
        merged = base.weight + module.scaling["default"] * (up @ down).view_as(base.weight)
        if "default" not in module.lora_magnitude_vector:
            return merged
        return module.lora_magnitude_vector["default"].weight.transpose(0, 1) / filter_norms(merged) * merged

    scale, bias = folded(base, norm)
    module.forward = convolution(base, weight, scale, bias)
    if norm is not None:
        norm.forward = types.MethodType(_after_norm, norm)


def filter_norms(filters: torch.Tensor) -> torch.Tensor:
    """Return the norm of each filter, detached (Liu et al. 2024, section 4.3): (C, I, KH, KW) -> (C, 1, 1, 1)."""
    return filters.detach().flatten(1).norm(dim=1)[:, None, None, None]


def folded(base: Any, norm: Any | None) -> tuple[Any, Any]:
    """Return BatchNorm as a scale per output channel, (C, 1, 1, 1), and a bias, (C,); None for an absent one."""
    import torch

    if norm is None:
        return None, base.bias
    with torch.no_grad():
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        bias = base.bias if base.bias is not None else torch.zeros_like(norm.running_mean)
        return gain[:, None, None, None].clone(), norm.bias + gain * (bias - norm.running_mean)


def pads_same(module: nn.Module) -> bool:
    """Return True for a convolution with TensorFlow's 'same' padding that `depthwise.same_padding` can replace."""
    from timm.layers import Conv2dSame

    return isinstance(module, Conv2dSame) and module.dilation == (1, 1)


def fits_depthwise(base: Any) -> bool:
    """Return True for a frozen depthwise convolution that `depthwise.depthwise` can compute."""
    if base.weight.requires_grad or not base.groups == base.in_channels == base.out_channels:
        return False
    if not isinstance(base.padding, tuple) or base.dilation != (1, 1):
        return False
    return all(padding < taps for padding, taps in zip(base.padding, base.kernel_size, strict=True))


def convolution(base: Any, weight: Callable[[], Any], scale: Any, bias: Any) -> Callable[[Any], Any]:
    """Return a forward function: convolution with `scale` times `weight()`, plus `bias`."""
    from torch.nn import functional

    same_padded, is_depthwise = pads_same(base), fits_depthwise(base)

    def forward(x: torch.Tensor) -> torch.Tensor:
        kernel = weight() if scale is None else scale * weight()
        padding = base.padding
        if same_padded:
            kernel, padding = same_padding(kernel, x.shape, base.stride)
        if is_depthwise and x.device.type == "cpu":  # cuDNN is fast already
            return depthwise(x, kernel, bias, base.stride, padding)
        return functional.conv2d(x, kernel, bias, base.stride, padding, base.dilation, base.groups)

    return forward


def _after_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    """Run the rest of timm's BatchNormAct2d: its drop layer and its activation."""
    return self.act(self.drop(x)) if hasattr(self, "act") else x


def pairs(adapted: nn.Module, size: int) -> dict[nn.Module, nn.Module]:
    """Map each convolution (or its adapter) to the BatchNorm that is the only consumer of its output.

    Traces one image through the network.
    """
    import torch

    producers: dict[int, nn.Module] = {}
    consumers: dict[int, list[nn.Module]] = {}
    alive = []  # keeps the tensors alive, so that each id belongs to one tensor

    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for tensor in inputs:
            consumers.setdefault(id(tensor), []).append(module)
        producers[id(output)] = module
        alive.append((inputs, output))

    with torch.no_grad(), forward_hooks(adapted, record):
        adapted(next(adapted.parameters()).new_zeros(1, 3, size, size))
    norms = {}
    for key, module in producers.items():
        readers = consumers.get(key, [])
        if len(readers) == 1 and isinstance(readers[0], torch.nn.BatchNorm2d):
            norms[module] = readers[0]
    return norms


@contextmanager
def forward_hooks(adapted: nn.Module, hook: Callable[..., None]) -> Iterator[None]:
    """Call `hook` after each layer without sublayers, each BatchNorm, and each adapter as one layer."""
    from torch import nn

    adapters = {module for module in adapted.modules() if _is_adapter(module)}
    adapter_parts = {part for module in adapters for part in module.modules()} - adapters
    layers = [
        module
        for module in adapted.modules()
        if module not in adapter_parts
        and (module in adapters or isinstance(module, nn.BatchNorm2d) or not list(module.children()))
    ]
    handles = [module.register_forward_hook(hook) for module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_adapter(module: nn.Module) -> bool:
    """Return True for a peft LoRA layer; never imports peft, which takes seconds."""
    lora = sys.modules.get("peft.tuners.lora")
    return lora is not None and isinstance(module, lora.Conv2d)
