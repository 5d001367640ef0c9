"""Operations of a CNN whose backward torch computes slowly on a CPU, with a backward that is fast there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def widened(kernel: torch.Tensor, shape: Sequence[int], stride: Sequence[int]) -> tuple[torch.Tensor, tuple[int, int]]:
    """The kernel and the symmetric padding that give what TensorFlow's 'same' padding gives.

    Where one row (column) more is padded after the image than before it, a row of zeros before the kernel takes the
    place of a padded copy of the image. kernel: (O, I, KH, KW), not dilated; shape: of the input, (N, C, H, W).
    """
    from torch.nn import functional

    padding, zeros = [], []
    for side, taps, step in zip(shape[2:], kernel.shape[2:], stride, strict=True):
        whole = max((math.ceil(side / step) - 1) * step + taps - side, 0)
        padding.append(whole - whole // 2)
        zeros.append(whole % 2)
    if any(zeros):
        kernel = functional.pad(kernel, (zeros[1], 0, zeros[0], 0))
    return kernel, (padding[0], padding[1])


def depthwise(x: torch.Tensor, kernel: torch.Tensor, bias: Any, stride: Any, padding: Any) -> torch.Tensor:
    """A frozen convolution of each channel with its own kernel, (C, 1, KH, KW); the gradient goes to `x` alone.

    padding: of each side, less than the kernel's.
    """
    return _depthwise_function().apply(x, kernel, bias, stride, padding)


@cache
def _depthwise_function() -> Any:
    import torch
    from torch.nn import functional

    class Depthwise(torch.autograd.Function):  # type: ignore[misc]
        """Its backward is a convolution with the flipped kernel over the gradient, spread out by the stride.

        oneDNN's own backward is many times slower in bfloat16 where the stride is above 1.
        """

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, kernel: Any, bias: Any, stride: Any, padding: Any) -> torch.Tensor:
            ctx.save_for_backward(kernel)
            ctx.sides, ctx.stride, ctx.padding = x.shape[2:], stride, padding
            return functional.conv2d(x, kernel, bias, stride, padding, 1, x.shape[1])

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> Any:
            (kernel,) = ctx.saved_tensors
            flipped = kernel.to(gradient.dtype).flip(2, 3).contiguous(memory_format=torch.channels_last)
            taps = kernel.shape[2:]
            count, channels = gradient.shape[:2]
            if tuple(ctx.stride) == (1, 1):
                padding = [t - 1 - p for t, p in zip(taps, ctx.padding, strict=True)]
                spread = gradient.contiguous(memory_format=torch.channels_last)
            else:
                padding = [0, 0]
                sides = [side + t - 1 for side, t in zip(ctx.sides, taps, strict=True)]
                spread = torch.empty(
                    (count, channels, *sides),
                    dtype=gradient.dtype,
                    device=gradient.device,
                    memory_format=torch.channels_last,
                ).zero_()
                rows, columns = (
                    slice(t - 1 - p, t - p + step * (size - 1), step)
                    for t, p, step, size in zip(taps, ctx.padding, ctx.stride, gradient.shape[2:], strict=True)
                )
                spread[:, :, rows, columns] = gradient
            return functional.conv2d(spread, flipped, None, 1, padding, 1, channels), None, None, None, None

    return Depthwise


def clamp(x: torch.Tensor) -> torch.Tensor:
    """ReLU6 in place, whose backward first lays the gradient out as the values are.

    Left alone, torch's elementwise backward meets two memory formats and falls off its fast path.
    """
    return _clamp_function().apply(x)


@cache
def _clamp_function() -> Any:
    import torch

    class Clamp(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
            values.clamp_(0, 6)
            ctx.mark_dirty(values)
            ctx.save_for_backward(values)
            return values

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            (values,) = ctx.saved_tensors
            channels_last = values.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if channels_last else torch.contiguous_format
            same = gradient.contiguous(memory_format=layout)
            return torch.ops.aten.hardtanh_backward(same, values, 0.0, 6.0)

    return Clamp
