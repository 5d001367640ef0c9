"""One pass over a dataset's images: can each be read, which bytes is it, what does it look like.

The perceptual hash is the sign of the low DCT frequencies of the grey centre square (Zauner, "Implementation and
benchmarking of perceptual image hash functions", 2010, with 16 x 16 coefficients instead of 8 x 8: dermoscopic
photos are smooth and alike, and 63 bits confuse them). The centre square, because public collections show the same
photo in full and cropped to its middle.
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
from skinedge.core.image_file import load_image, read_bytes
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import Dataset, Sample, archive_member, load_pixels
from skinedge.system.cpu import usable_cores
from skinedge.system.process_pool import in_order
from skinedge.system.progress import bar

# Chosen on HAM10000 at 200 x 150 against 5,984 of its images as 224-pixel centre crops: see docs/log.md.
NEAR_BITS = 44
_THUMB, _KEPT = 32, 16
MANY = 200  # images, from which on it pays to start processes
Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Inspection:
    """What one pass over the images found.

    samples: the readable ones, with sha256 and phash; unreadable: (path, reason) of the others.
    """

    samples: tuple[Sample, ...]
    unreadable: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ImageInspector:
    """How to look at an image of a folder: what a worker needs to know."""

    root: Path

    def open(self) -> Callable[[Sample], Sample | str]:
        return partial(_look, self.root)


def inspect_images(dataset: Dataset) -> Inspection:
    """Decode every image fully, once; many of them in several processes, save from an archive, which is in memory."""
    samples, unreadable = [], []
    archived = any(archive_member(sample.path)[1] for sample in dataset.samples)
    jobs = 1 if archived or len(dataset.samples) < MANY else usable_cores()
    looks = in_order(ImageInspector(dataset.root), dataset.samples, jobs)
    with closing(looks), bar("checking", len(dataset.samples)) as advance:
        for sample, look in zip(dataset.samples, looks, strict=True):
            if isinstance(look, str):
                unreadable.append((sample.path, look))
            else:
                samples.append(look)
            advance(1)
    return Inspection(tuple(samples), tuple(unreadable))


def hash_images(dataset: Dataset) -> Dataset:
    """The same dataset with `sha256` and `phash` of every sample filled in.

    Raises: DataError listing the unreadable images (the first five and how many).
    """
    found = inspect_images(dataset)
    if found.unreadable:
        raise DataError(
            f"{len(found.unreadable)} of {len(dataset.samples)} images cannot be used:",
            lines=[f"  {path}: {reason}" for path, reason in found.unreadable[:5]],
            where=str(dataset.root),
            todo="Repair or remove them. `skinedge data check DIR --json` lists them all.",
        )
    return replace(dataset, samples=found.samples)


def content_hash(root: Path, path: str) -> str:
    """sha256 of a sample's bytes: of the file, or of the array inside an archive.

    Raises: DataError when it is not there.
    """
    if archive_member(path)[1]:
        return hashlib.sha256(load_pixels(root, path).tobytes()).hexdigest()
    return hashlib.sha256(read_bytes(root / path)).hexdigest()


def perceptual_hash(pixels: Pixels) -> str:
    """64 hex digits (256 bits) that images of the same look share, but for a few bits.

    pixels: (H, W, 3) uint8, of which the centre square counts.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    grey = Image.fromarray(pixels[top : top + side, left : left + side]).convert("L")
    thumb = np.asarray(grey.resize((_THUMB, _THUMB), Image.Resampling.BILINEAR), dtype=np.float32)
    # Against the mean, so that the sign of a cosine of a flat image is not left to rounding.
    spectrum = _COSINES @ (thumb - thumb.mean()) @ _COSINES.T
    bits = spectrum.ravel() > 1e-3
    bits[0] = False
    return np.packbits(bits).tobytes().hex()


def near_pairs(left: Sequence[str], right: Sequence[str] | None = None) -> list[tuple[int, int, int]]:
    """Pairs (i, j, distance) of hashes at most NEAR_BITS apart; within `left` (i < j) where `right` is None."""
    a = _words(left)
    b = a if right is None else _words(right)
    found: list[tuple[int, int, int]] = []
    for start, rows, columns, distances in _near_blocks(a, b):
        for i, j, distance in zip(rows + start, columns, distances, strict=True):
            if right is not None or i < j:
                found.append((int(i), int(j), int(distance)))
    return found


def _near_blocks(a: Words, b: Words) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp], NDArray[np.uint16]]]:
    step = max(1, 4_000_000 // max(1, len(b)))  # a few MiB at a time
    for start in range(0, len(a), step):
        block = a[start : start + step]
        distance = np.zeros((len(block), len(b)), dtype=np.uint16)
        for word in range(a.shape[1]):
            distance += np.bitwise_count(block[:, word, None] ^ b[None, :, word])
        rows, columns = np.nonzero(distance <= NEAR_BITS)
        yield start, rows, columns, distance[rows, columns]


def _words(hashes: Sequence[str]) -> Words:
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(len(hashes), 4)


def _look(root: Path, sample: Sample) -> Sample | str:
    try:
        if archive_member(sample.path)[1]:
            pixels = load_pixels(root, sample.path)
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        else:
            data = read_bytes(root / sample.path)
            pixels, digest = load_image(data), hashlib.sha256(data).hexdigest()
    except DataError as error:
        return error.what
    return replace(sample, sha256=digest, phash=perceptual_hash(pixels))


def _cosines() -> NDArray[np.float32]:
    """Rows of the DCT-II (Ahmed, Natarajan, Rao 1974), unscaled: (_KEPT, _THUMB)."""
    position = 2 * np.arange(_THUMB) + 1
    return np.asarray(np.cos(np.pi / (2 * _THUMB) * np.arange(_KEPT)[:, None] * position), dtype=np.float32)


_COSINES = _cosines()
