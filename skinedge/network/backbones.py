"""Backbones that are known to work, with their size and int8 risk, without importing timm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backbone:
    """One backbone. parameters: with 7 classes; image_size: of its ImageNet weights, in pixels; risk: '' for none."""

    name: str
    parameters: int
    image_size: int
    risk: str = ""


_SE = "squeeze-excite"
BACKBONES = (
    Backbone("tf_efficientnet_lite0", 3_379_975, 224),
    Backbone("tf_efficientnet_lite1", 4_144_647, 240),
    Backbone("tf_efficientnet_lite2", 4_820_039, 260),
    Backbone("mobilenetv2_100", 2_232_839, 224),
    Backbone("mobilenetv4_conv_small", 2_501_991, 224),
    Backbone("mobilenetv3_large_100", 4_210_999, 224, f"hard-swish, {_SE}"),
    Backbone("efficientnet_b0", 4_016_515, 224, f"SiLU, {_SE}"),
    Backbone("resnet18", 11_180_103, 224),
    Backbone("resnet50", 23_522_375, 224),
)
NAMES = tuple(backbone.name for backbone in BACKBONES)
