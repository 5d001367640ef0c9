"""Read and prepare labelled images: in parallel, in order, with at most two chunks in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skinedge.core.errors import DataError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Pixels, Preprocess, prepare, stretched
from skinedge.data.dataset import Sample, archive_member, load_pixels
from skinedge.data.hdf5_images import image_bytes
from skinedge.system.cpu import usable_cores

CHUNK = 64


@dataclass(frozen=True)
class Source:
    """One image to read.

    name: name in reports; path: file, or image in an HDF5 file; sha256: expected hash of its bytes, '' for any;
    pixels: (H, W, 3) uint8 of an image inside an archive, whose bytes are the array's; stretch: as of a `Sample`.
    """

    name: str
    path: Path
    sha256: str = ""
    pixels: Pixels | None = None
    stretch: str = ""

    @classmethod
    def of(cls, root: Path, sample: Sample) -> Source:
        """Create the source of a labelled image; raises DataError for an image missing from its archive."""
        pixels = load_pixels(root, sample.path) if archive_member(sample.path)[1] else None
        return cls(sample.path, root / sample.path, sample.sha256, pixels, sample.stretch)

    def __str__(self) -> str:
        return self.name

    def read(self) -> tuple[bytes, str]:
        """Return the bytes and their sha256; raises DataError when they are unreadable or differ from `sha256`."""
        data = image_bytes(self.path) if self.pixels is None else self.pixels.tobytes()
        digest = hashlib.sha256(data).hexdigest()
        if self.sha256 not in ("", digest):
            raise DataError(
                "the image is not the one recorded in the run's split (its sha256 differs)",
                where=str(self.path),
                todo="Give the folder that the run was trained on with --data.",
            )
        return data, digest

    def decode(self, data: bytes, colour: str) -> Pixels:
        """Decode to (H, W, 3) uint8, by the rule `colour`, and stretch; raises DataError for bytes of no image."""
        if self.pixels is not None:
            return stretched(self.pixels, self.stretch)
        try:
            return stretched(load_image(data, colour), self.stretch)
        except DataError as error:
            raise DataError(error.what, where=str(self.path)) from None


def iterate_prepared(root: Path, samples: Sequence[Sample], rule: Preprocess) -> Iterator[Pixels]:
    """Yield the samples' prepared images in order, in chunks: (n <= 64, size, size, 3) uint8.

    Raises: DataError for an image that is missing, unreadable or changed (sha256, for samples that have one).
    """

    def load_one(sample: Sample) -> Pixels:
        return prepare(read_checked(root, sample, rule.colour), rule.size)

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=min(8, usable_cores())) as pool:
        chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
        ahead = [pool.submit(load_one, sample) for sample in chunks[0]] if chunks else []
        for index in range(len(chunks)):
            current, ahead = ahead, []
            if index + 1 < len(chunks):
                ahead = [pool.submit(load_one, sample) for sample in chunks[index + 1]]
            yield np.stack([future.result() for future in current])


def load_prepared(root: Path, samples: Sequence[Sample], rule: Preprocess) -> Pixels:
    """Load all prepared images: (N, size, size, 3) uint8. Raises: DataError as `iterate_prepared`."""
    empty = np.empty((0, rule.size, rule.size, 3), dtype=np.uint8)
    return np.concatenate([empty, *iterate_prepared(root, samples, rule)])


def read_checked(root: Path, sample: Sample, colour: str) -> Pixels:
    """Check one sample's sha256, if it has one, and decode it by the rule `colour`. Returns (H, W, 3) uint8."""
    source = Source.of(root, sample)
    return source.decode(source.read()[0], colour)
