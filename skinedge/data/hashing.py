"""Check and hash a dataset's images in one pass: readability, sha256 and perceptual hash.

The perceptual hash is the sign of the low DCT frequencies of the grey centre square (Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010, with 16 x 16 coefficients instead of 8 x 8: dermoscopic
photos are smooth and similar, and 63 bits confuse them). The centre square is used because public collections contain
the same photo both in full and cropped to its middle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Pixels, stretched
from skinedge.data.dataset import Dataset, Sample, archive_member, load_pixels
from skinedge.data.hdf5_images import image_bytes
from skinedge.system.cpu import usable_cores
from skinedge.system.process_pool import in_order
from skinedge.system.progress import bar

# Chosen on HAM10000 at 200 x 150 against 5,984 of its images as 224-pixel centre crops: see docs/log.md.
NEAR_BITS = 44
_THUMB, _FREQUENCIES = 32, 16  # sides of the thumbnail and of the block of DCT coefficients
PARALLEL_MIN_IMAGES = 200  # images: smallest dataset for which starting processes saves time
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Inspection:
    """Result of one pass over the images.

    samples: readable ones, with sha256 and phash; unreadable: (path, reason) of the others.
    """

    samples: tuple[Sample, ...]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ImageInspector:
    """Opener of the workers that hash the images of a folder."""

    root: Path

    def open(self) -> Callable[[Sample], Sample | str]:
        """Return the function that hashes one sample."""
        return partial(_hash_sample, self.root)


def inspect_images(dataset: Dataset) -> Inspection:
    """Decode and hash every image once.

    Uses several processes for PARALLEL_MIN_IMAGES or more files, but one for an archive, which is already in memory.
    """
    samples, unreadable = [], []
    archived = any(archive_member(sample.path)[1] for sample in dataset.samples)
    jobs = 1 if archived or len(dataset.samples) < PARALLEL_MIN_IMAGES else usable_cores()
    results = in_order(ImageInspector(dataset.root), dataset.samples, jobs)
    with closing(results), bar("checking", len(dataset.samples)) as advance:
        for sample, result in zip(dataset.samples, results, strict=True):
            if isinstance(result, str):
                unreadable.append((sample.path, result))
            else:
                samples.append(result)
            advance(1)
    return Inspection(tuple(samples), tuple(unreadable))


def hash_images(dataset: Dataset) -> Dataset:
    """Return the dataset with `sha256` and `phash` of every sample.

    Raises: DataError with the number of unreadable images and the first five.
    """
    inspection = inspect_images(dataset)
    if inspection.unreadable:
        raise DataError(
            f"{len(inspection.unreadable)} of {len(dataset.samples)} images cannot be used:",
            lines=[f"  {path}: {reason}" for path, reason in inspection.unreadable[:5]],
            where=str(dataset.root),
            todo="Repair them, or leave them out. `skinedge data check DIR` says how.",
        )
    return replace(dataset, samples=inspection.samples)


def content_hash(root: Path, path: str) -> str:
    """Return the sha256 of a sample's bytes: of the file, or of the array inside an archive.

    Raises: DataError when it is missing.
    """
    if archive_member(path)[1]:
        return hashlib.sha256(load_pixels(root, path).tobytes()).hexdigest()
    return hashlib.sha256(image_bytes(root / path)).hexdigest()


def perceptual_hash(pixels: Pixels) -> str:
    """Return 64 hex digits (256 bits); similar images differ in a few bits.

    pixels: (H, W, 3) uint8; only the centre square is used.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    grey = Image.fromarray(pixels[top : top + side, left : left + side]).convert("L")
    thumb = np.asarray(grey.resize((_THUMB, _THUMB), Image.Resampling.BILINEAR), dtype=np.float32)
    # Subtract the mean, so that rounding does not decide the signs for a flat image.
    spectrum = _COSINES @ (thumb - thumb.mean()) @ _COSINES.T
    bits = spectrum.ravel() > 1e-3
    bits[0] = False
    return np.packbits(bits).tobytes().hex()


def near_pairs(left: Sequence[str], right: Sequence[str] | None = None) -> list[tuple[int, int, int]]:
    """Return pairs (i, j, distance) of hashes at most NEAR_BITS apart; within `left` (i < j) if `right` is None."""
    a = _words(left)
    b = a if right is None else _words(right)
    pairs: list[tuple[int, int, int]] = []
    for start, rows, columns, distances in _near_blocks(a, b):
        for i, j, distance in zip(rows + start, columns, distances, strict=True):
            if right is not None or i < j:
                pairs.append((int(i), int(j), int(distance)))
    return pairs


def _near_blocks(a: Words, b: Words) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp], NDArray[np.uint16]]]:
    """Yield (first row, rows, columns, distances) of near hashes, block by block to bound the memory."""
    step = max(1, 4_000_000 // max(1, len(b)))  # a few MiB per block
    for start in range(0, len(a), step):
        block = a[start : start + step]
        distance = np.zeros((len(block), len(b)), dtype=np.uint16)
        for word in range(a.shape[1]):
            distance += np.bitwise_count(block[:, word, None] ^ b[None, :, word])
        rows, columns = np.nonzero(distance <= NEAR_BITS)
        yield start, rows, columns, distance[rows, columns]


def _words(hashes: Sequence[str]) -> Words:
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), 4)


def _hash_sample(root: Path, sample: Sample) -> Sample | str:
    """Return the sample with sha256 and phash, or why it is unreadable."""
    try:
        if archive_member(sample.path)[1]:
            pixels = load_pixels(root, sample.path)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        else:
            data = image_bytes(root / sample.path)
            pixels, digest = load_image(data), hashlib.sha256(data).hexdigest()
    except DataError as error:
        return error.what
    return replace(sample, sha256=digest, phash=perceptual_hash(stretched(pixels, sample.stretch)))


def _cosines() -> NDArray[np.float32]:
    """Return rows of the DCT-II (Ahmed, Natarajan, Rao 1974), unscaled: (_FREQUENCIES, _THUMB)."""
    position = 2 * np.arange(_THUMB) + 1
    return np.asarray(np.cos(np.pi / (2 * _THUMB) * np.arange(_FREQUENCIES)[:, None] * position), dtype=np.float32)


_COSINES = _cosines()
