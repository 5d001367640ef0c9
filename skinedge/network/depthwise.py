"""Depthwise convolution and ReLU6 with backward passes that are faster on a CPU than torch's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def same_padding(
    kernel: torch.Tensor, shape: Sequence[int], stride: Sequence[int]
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Return a kernel and a symmetric padding equivalent to TensorFlow's 'same' padding.

    'same' may pad one row (column) more after the image than before it; a row of zeros before the kernel then replaces
    a padded copy of the image. kernel: (O, I, KH, KW), not dilated; shape: of the input, (N, C, H, W).
    """
    from torch.nn import functional

    padding, zeros = [], []
    for side, taps, step in zip(shape[2:], kernel.shape[2:], stride, strict=True):
        total = max((math.ceil(side / step) - 1) * step + taps - side, 0)
        padding.append(total - total // 2)
        zeros.append(total % 2)
    if any(zeros):
        kernel = functional.pad(kernel, (zeros[1], 0, zeros[0], 0))
    return kernel, (padding[0], padding[1])


def depthwise(x: torch.Tensor, kernel: torch.Tensor, bias: Any, stride: Any, padding: Any) -> torch.Tensor:
    """Convolve each channel of `x`, (N, C, H, W), with its own frozen kernel, (C, 1, KH, KW).

    Only `x` gets a gradient. padding: per axis, smaller than the kernel.
    """
    return _depthwise_function().apply(x, kernel, bias, stride, padding)


@cache
def _depthwise_function() -> Any:
    import torch
    from torch.nn import functional

    class Depthwise(torch.autograd.Function):  # type: ignore[misc]
        """Depthwise convolution whose backward convolves the gradient, spread by the stride, with the flipped kernel.

        oneDNN's own backward is many times slower in bfloat16 for strides above 1.
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
    """Apply ReLU6 in place; the backward first converts the gradient to the memory format of the values.

    With two memory formats, torch's elementwise backward leaves its fast path.
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
            aligned = gradient.contiguous(memory_format=layout)
            return torch.ops.aten.hardtanh_backward(aligned, values, 0.0, 6.0)

    return Clamp
