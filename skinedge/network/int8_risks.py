"""Layers known to lose accuracy or speed in int8, reported before hours of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Class name of a module -> its risk. Published: ImageNet top-1 on TensorFlow's EfficientNet-Lite page; measured here:
# `make collapse`, in docs/log.md.
SQUEEZE_EXCITE = "squeeze-excite"
RISKS: Mapping[str, str] = {
    "SiLU": "SiLU (swish): unbounded range; EfficientNet-B0 dropped from 77.0 to 71.7 % in static int8 (published)",
    "Hardswish": "hard-swish: no int8 operation in XNNPACK; MobileNetV3 ran in 23 partitions, slower than in fp32",
    SQUEEZE_EXCITE: "squeeze-excite: one scale for products of channels that differ by orders of magnitude; static "
    "int8 changed 4 to 8 % of MobileNetV3-small's predictions on skin images (measured here)",
}
SAFE = "tf_efficientnet_lite0, mobilenetv2_100, mobilenetv4_conv_small, resnet18"


def int8_risks(network: nn.Module) -> list[str]:
    """List the known int8 risks of a network, one line each; empty without any."""
    kinds = {type(module).__name__ for module in network.modules()}
    kinds |= {SQUEEZE_EXCITE for name, module in network.named_modules() if is_gate(name, module)}
    return list(dict.fromkeys(risk for kind, risk in RISKS.items() if kind in kinds))


def is_gate(name: str, module: nn.Module) -> bool:
    """Return True for a squeeze-excite module: one of timm's several classes, or a module named 'se'."""
    kind = type(module).__name__
    matches = "SqueezeExcite" in kind or "SEModule" in kind or name.rpartition(".")[2] == "se"
    return matches and any(True for _ in module.parameters())
