"""Cache of decoded images: prepared pixels in a memory-mapped uint8 file, so that each JPEG is decoded once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from skinedge.core.files import disk_error
from skinedge.core.preprocess import Pixels, Preprocess, prepare
from skinedge.data.dataset import Sample
from skinedge.data.loading import read_checked
from skinedge.system.cpu import usable_cores
from skinedge.system.progress import bar


def build_cache(root: Path, samples: Sequence[Sample], rule: Preprocess, path: Path) -> Pixels:
    """Map the prepared pixels of all samples, in their order, from `path`: (N, S, S, 3) uint8.

    Writes `path` unless a file of the right length exists: an interrupted session of this training wrote it.
    Raises: DataError for an unreadable or changed image, BundleError when the disk is full.
    """
    shape = (len(samples), rule.size, rule.size, 3)
    if not path.is_file() or path.stat().st_size != int(np.prod(shape)):
        part = path.with_suffix(".part")
        try:
            _reserve(part, int(np.prod(shape)))
            _fill(np.memmap(part, np.uint8, "r+", shape=shape), root, samples, rule)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise disk_error(error, path) from None
    return np.memmap(path, np.uint8, "r", shape=shape)


def _reserve(path: Path, size: int) -> None:
    """Allocate the disk space now: writing to a sparse mapping on a full disk kills the process."""
    with path.open("wb") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)


def _fill(out: np.memmap, root: Path, samples: Sequence[Sample], rule: Preprocess) -> None:
    """Decode and prepare every sample into its row of `out`, one thread per core."""

    def decode(index: int) -> None:
        out[index] = prepare(read_checked(root, samples[index], rule.colour), rule.size)

    with ThreadPoolExecutor(usable_cores()) as pool, bar("decoding", len(samples)) as advance:
        for _ in pool.map(decode, range(len(samples))):
            advance(1)
    out.flush()
