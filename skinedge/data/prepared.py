"""Reading and preparing labelled images: in parallel, in order, never more than two chunks in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from skinedge.data.dataset import Sample, load_pixels
from skinedge.errors import DataError
from skinedge.preprocess import Pixels, load_image, prepare

CHUNK = 64


def prepared(root: Path, samples: Sequence[Sample], size: int) -> Iterator[Pixels]:
    """Chunks (n <= 64, size, size, 3) uint8 of the samples' images, in their order.

    Where a sample has a sha256, the file's bytes must have it.
    Raises: DataError for an image that is missing, unreadable or changed.
    """

    def one(sample: Sample) -> Pixels:
        return prepare(read_checked(root, sample), size)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
        ahead = [pool.submit(one, sample) for sample in chunks[0]] if chunks else []
        for index in range(len(chunks)):
            current, ahead = ahead, []
            if index + 1 < len(chunks):
                ahead = [pool.submit(one, sample) for sample in chunks[index + 1]]
            yield np.stack([future.result() for future in current])


def load_prepared(root: Path, samples: Sequence[Sample], size: int) -> Pixels:
    """All of them at once: (N, size, size, 3) uint8. Raises as `prepared` does."""
    return np.concatenate([np.empty((0, size, size, 3), dtype=np.uint8), *prepared(root, samples, size)])


def read_checked(root: Path, sample: Sample) -> Pixels:
    """Decode one sample, after its hash was compared where it has one. Returns (H, W, 3) uint8."""
    path = root / sample.path
    if "#" in sample.path:
        pixels = load_pixels(root, sample.path)
        _compare(pixels.tobytes(), sample, path)
        return pixels
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the image ({error.strerror})", where=str(path)) from None
    _compare(data, sample, path)
    try:
        return load_image(data)
    except DataError as error:
        raise DataError(error.what, where=str(path)) from None


def _compare(data: bytes, sample: Sample, path: Path) -> None:
    if sample.sha256 and hashlib.sha256(data).hexdigest() != sample.sha256:
        raise DataError(
            "the image is not the one that the run's split recorded (its sha256 differs)",
            where=str(path),
            todo="Give the folder that the run was trained from with --data.",
        )
