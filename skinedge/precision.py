"""Where and in what arithmetic to train: found out, never assumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from skinedge import model
from skinedge.errors import ConfigError, one_of
from skinedge.progress import note

if TYPE_CHECKING:
    from torch import nn

DEVICES = ("auto", "cpu", "cuda")


def choose_device(asked: str) -> str:
    """'cuda' when there is a usable GPU, else 'cpu'.

    Raises: ConfigError for an unknown device, or for 'cuda' without a GPU (no silent fall-back).
    """
    import torch

    one_of("device", asked, DEVICES)
    usable = torch.cuda.is_available()
    if asked == "cuda" and not usable:
        raise ConfigError("--device cuda, but PyTorch sees no usable GPU", todo="Use --device cpu or auto.")
    return "cuda" if usable and asked != "cpu" else "cpu"


def choose_precision(asked: str, device: str, backbone: str, size: int) -> str:
    """'fp32' or 'bf16': as asked, else the faster one of a short trial.

    A trial, since bf16 is 2 times faster on a CPU that has it and 7 times slower on one that
    emulates it, and no feature flag tells how good the kernels are.
    """
    import torch

    if asked != "auto":
        return asked
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    net = model.build(backbone, 2)
    seconds = {name: _step_seconds(net, size, name) for name in ("fp32", "bf16")}
    chosen = min(seconds, key=lambda name: seconds[name])
    note(f"precision: {chosen} (a trial step took {seconds['fp32']:.2f} s in fp32, {seconds['bf16']:.2f} s in bf16)")
    return chosen


def _step_seconds(net: nn.Module, size: int, precision: str) -> float:
    """Best of two forward and backward passes over 8 random images, after one to warm up."""
    import torch

    images = torch.zeros(8, 3, size, size).contiguous(memory_format=torch.channels_last)
    best = float("inf")
    for attempt in range(3):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = net(images).float().square().mean()
        loss.backward()
        if attempt:
            best = min(best, time.perf_counter() - start)
    return best
