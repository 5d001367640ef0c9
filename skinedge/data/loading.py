"""Reading and preparing labelled images: in parallel, in order, never more than two chunks in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image, read_bytes
from skinedge.core.preprocess import Pixels, prepare
from skinedge.data.dataset import Sample, archive_member, load_pixels
from skinedge.system.cpu import usable_cores

CHUNK = 64


@dataclass(frozen=True)
class Source:
    """One image that is still to be read.

    name: as reports call it; path: its file; sha256: that its bytes must have, '' for any;
    pixels: (H, W, 3) uint8 of an image inside an archive, whose bytes are the array's.
    """

    name: str
    path: Path
    sha256: str = ""
    pixels: Pixels | None = None

    @classmethod
    def of(cls, root: Path, sample: Sample) -> Source:
        """A labelled image; raises DataError for one that its archive does not have."""
        pixels = load_pixels(root, sample.path) if archive_member(sample.path)[1] else None
        return cls(sample.path, root / sample.path, sample.sha256, pixels)

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[bytes, str]:
        """Its bytes and their sha256; raises DataError when they cannot be read, or are not those expected."""
        data = read_bytes(self.path) if self.pixels is None else self.pixels.tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if self.sha256 not in ("", digest):
            raise DataError(
                "the image is not the one that the run's split recorded (its sha256 differs)",
                where=str(self.path),
                todo="Give the folder that the run was trained from with --data.",
            )
        return data, digest

    def decode(self, data: bytes) -> Pixels:
        """(H, W, 3) uint8; raises DataError for bytes that are no image."""
        if self.pixels is not None:
            return self.pixels
        try:
            return load_image(data)
        except DataError as error:
            raise DataError(error.what, where=str(self.path)) from None


def iterate_prepared(root: Path, samples: Sequence[Sample], size: int) -> Iterator[Pixels]:
    """Chunks (n <= 64, size, size, 3) uint8 of the samples' images, in their order.

    Where a sample has a sha256, the file's bytes must have it.
    Raises: DataError for an image that is missing, unreadable or changed.
    """

    def one(sample: Sample) -> Pixels:
        return prepare(read_checked(root, sample), size)

    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:
        chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
        ahead = [pool.submit(one, sample) for sample in chunks[0]] if chunks else []
        for index in range(len(chunks)):
            current, ahead = ahead, []
            if index + 1 < len(chunks):
                ahead = [pool.submit(one, sample) for sample in chunks[index + 1]]
            yield np.stack([future.result() for future in current])


def load_prepared(root: Path, samples: Sequence[Sample], size: int) -> Pixels:
    """All of them at once: (N, size, size, 3) uint8. Raises as `iterate_prepared` does."""
    return np.concatenate([np.empty((0, size, size, 3), dtype=np.uint8), *iterate_prepared(root, samples, size)])


def read_checked(root: Path, sample: Sample) -> Pixels:
    """Decode one sample, after its hash was compared where it has one. Returns (H, W, 3) uint8."""
    source = Source.of(root, sample)
    return source.decode(source.read()[0])
