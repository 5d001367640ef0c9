"""What runtimes share: the layout of a file's input, and what its output numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.errors import ConfigError
from skinedge.metrics import softmax
from skinedge.plugins import Outputs, TensorSpec
from skinedge.preprocess import Pixels

BATCH = 16  # images a call where the file's batch dimension is free: bounds memory, costs no speed on a CPU
SUM_TOLERANCE = 0.03  # a softmax quantized to 1/256 misses 1 by so much


@dataclass(frozen=True)
class Layout:
    """How a file wants its images. size: side in pixels, -1 if free; batch: images a call, -1 if free."""

    size: int
    batch: int
    channels_first: bool
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, spec: TensorSpec, where: str) -> Layout:
        """Raises: ConfigError when the input is no batch of square RGB images."""
        shape = spec.shape
        if len(shape) == 4 and shape[3] == 3 and shape[1] == shape[2]:
            return cls(shape[1], shape[0], False, np.dtype(spec.dtype))
        if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]:
            return cls(shape[2], shape[0], True, np.dtype(spec.dtype))
        raise ConfigError(
            f"input '{spec.name}' has shape {list(shape)}; this needs square RGB images, NHWC or NCHW", where=where
        )

    def arrange(self, pixels: Pixels) -> NDArray[Any]:
        """(n, S, S, 3) uint8 -> the file's layout, contiguous, in its dtype; values stay 0..255.

        Raises: ConfigError when the images have another size than the file's input.
        """
        if self.size not in (-1, pixels.shape[1]):
            raise ConfigError(f"the model takes images of {self.size} pixels, these have {pixels.shape[1]}")
        moved = pixels.transpose(0, 3, 1, 2) if self.channels_first else pixels
        return np.ascontiguousarray(moved, dtype=self.dtype)

    def batches(self, pixels: Pixels) -> Iterator[tuple[Pixels, int]]:
        """Cut into calls: (images, how many of them count); a fixed batch is filled with the last image."""
        step = BATCH if self.batch == -1 else self.batch
        for start in range(0, len(pixels), step):
            part = pixels[start : start + step]
            count = len(part)
            if self.batch != -1 and count < step:
                part = np.concatenate([part, np.repeat(part[-1:], step - count, axis=0)])
            yield part, count


def run_batches(layout: Layout, pixels: Pixels, call: Callable[[Pixels], NDArray[Any]], classes: int) -> NDArray[Any]:
    """Scores (N, C) float32 of (N, S, S, 3) uint8, call by call."""
    parts = [call(part)[:count] for part, count in layout.batches(pixels)]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, max(classes, 0)), np.float32)


def gives_logits(layout: Layout, scores: Callable[[Pixels], NDArray[Any]]) -> bool:
    """Whether a stranger's file ends in logits, asked with four images.

    Logits do not all come out non-negative with a sum of 1.
    """
    side = layout.size if layout.size > 0 else 224
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, side, side, 3)).astype(np.uint8)
    images[0], images[1] = 0, 255
    rows = scores(images)
    return not bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE).all())


def as_outputs(scores: NDArray[Any], logits: bool) -> Outputs:
    """Outputs from raw scores (N, C)."""
    if logits:
        return Outputs(softmax(scores), scores)
    return Outputs(scores)


def check_scores(spec: TensorSpec, where: str) -> int:
    """Number of classes of an output (N, C); raises ConfigError for any other shape."""
    if len(spec.shape) != 2:
        raise ConfigError(f"output '{spec.name}' has shape {list(spec.shape)}; a classifier gives (N, C)", where=where)
    return spec.shape[1]
