"""Parts of a network that are known to cost int8 its accuracy or its speed: said before hours of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Class name of a module -> what was found with it. Published: ImageNet top-1 of TensorFlow's EfficientNet-Lite page;
# measured here: `make collapse`, in docs/log.md.
GATES = "squeeze-excite"
RISKS: Mapping[str, str] = {
    "SiLU": "SiLU (swish): its range has no bound; EfficientNet-B0 fell from 77.0 to 71.7 % in static int8 (published)",
    "Hardswish": "hard-swish: not among XNNPACK's int8 operations; MobileNetV3 ran in 23 pieces, slower than in fp32",
    GATES: "squeeze-excite: one scale for products of channels that differ by orders of magnitude; static int8 changed "
    "4 to 8 % of MobileNetV3-small's answers on skin images (measured here)",
}
SAFE = "tf_efficientnet_lite0, mobilenetv2_100, mobilenetv4_conv_small, resnet18"


def int8_risks(network: nn.Module) -> list[str]:
    """What speaks against int8 with this network, a line each; empty where nothing is known."""
    kinds = {type(module).__name__ for module in network.modules()}
    kinds |= {GATES for name, module in network.named_modules() if is_gate(name, module)}
    return list(dict.fromkeys(why for kind, why in RISKS.items() if kind in kinds))


def is_gate(name: str, module: nn.Module) -> bool:
    """Whether a module is squeeze-excite: timm has several classes for it, and calls it 'se' where it is one."""
    kind = type(module).__name__
    named = "SqueezeExcite" in kind or "SEModule" in kind or name.rpartition(".")[2] == "se"
    return named and any(True for _ in module.parameters())
