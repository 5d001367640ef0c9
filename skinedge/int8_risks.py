"""Parts of a network that are known to cost int8 its accuracy or its speed: said before hours of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

# Class name of a module -> what was found with it. Published: ImageNet top-1 of TensorFlow's EfficientNet-Lite page.
RISKS: Mapping[str, str] = {
    "SiLU": "SiLU (swish): its range has no bound; EfficientNet-B0 fell from 77.0 to 71.7 % in static int8 (published)",
    "Hardswish": "hard-swish: not among XNNPACK's int8 operations; MobileNetV3 ran in 23 pieces, slower than in fp32",
    "SqueezeExcite": "squeeze-excite: one scale for products of channels that differ by orders of magnitude",
}
SAFE = "tf_efficientnet_lite0, mobilenetv2_100, mobilenetv4_conv_small, resnet18"


def int8_risks(network: nn.Module) -> list[str]:
    """What speaks against int8 with this network, a line each; empty where nothing is known."""
    kinds = {type(module).__name__ for module in network.modules()}
    return list(dict.fromkeys(why for kind, why in RISKS.items() if kind in kinds))
