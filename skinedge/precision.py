"""Where and in what arithmetic to train: found out, never assumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

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


def choose_precision(asked: str, network: nn.Module, size: int) -> str:
    """'fp32' or 'bf16': as asked, else the faster one of a short trial of the network to be trained.

    A trial, since bf16 is 2 times faster on a CPU that has it and 7 times slower on one that
    emulates it, and no feature flag tells how good the kernels are.
    """
    import torch

    if asked != "auto":
        return asked
    if next(network.parameters()).is_cuda:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    seconds = trial(network, size)
    chosen = min(seconds, key=lambda name: seconds[name])
    note(f"precision: {chosen} (a trial step took {seconds['fp32']:.2f} s in fp32, {seconds['bf16']:.2f} s in bf16)")
    return chosen


def trial(network: nn.Module, size: int) -> dict[str, float]:
    """precision -> seconds of a training step of 16 blank images: the best of five, in turns, after one to warm up.

    In turns and the best, so that what else runs on the machine does not choose the precision of hours of training.
    """
    import torch

    images = torch.zeros(16, 3, size, size).contiguous(memory_format=torch.channels_last)
    best = {"fp32": float("inf"), "bf16": float("inf")}
    for attempt in range(6):
        for precision in best:
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = network(images).float().square().mean()
            loss.backward()
            if attempt:
                best[precision] = min(best[precision], time.perf_counter() - start)
    network.zero_grad(set_to_none=True)
    return best
