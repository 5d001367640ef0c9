"""End-to-end latency: from an encoded image in memory to its label, and the time of each part."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core.colour import SRGB
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import archive_member
from skinedge.data.hdf5_images import image_bytes
from skinedge.data.synthetic import draw
from skinedge.run.plugins import Session
from skinedge.stats.bootstrap import Interval
from skinedge.stats.metrics import malignant_score
from skinedge_bench.latency.block_stats import summarize
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.targets import Target
from skinedge_bench.latency.timer import SETTLE, interleave
from skinedge_bench.predict.predict import Prediction
from skinedge_bench.split_images import Located

COUNT = 16
SYNTHETIC_SHAPE = (450, 600)  # height, width: of HAM10000's photos
QUALITY = 90  # of the synthetic JPEGs
LEAST_BLOCKS, SHARE = 5, 4  # a quarter of the protocol's samples suffices for p50 and p90
PARTS = ("decode", "resize", "infer", "label")


@dataclass(frozen=True)
class PhotoSource:
    """Description of the n timed images. width, height, size_bytes: medians. Reports hold no image."""

    source: str
    n: int
    width: int
    height: int
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.n} {self.source}, median {self.width} x {self.height} px and {self.size_bytes:,} bytes"


@dataclass(frozen=True)
class Photos:
    """Images to time. encoded: file contents, in memory, so that no disk access is timed; malignant: indices of the
    run's labels that count towards the malignant score, None if unknown; colour: the run's rule for colour profiles.
    """

    encoded: tuple[bytes, ...]
    source: PhotoSource
    malignant: tuple[int, ...] | None = None
    colour: str = SRGB


@dataclass(frozen=True)
class EndToEnd:
    """Milliseconds from encoded image to label, for n images one by one. p50_interval_ms: 95 %, over blocks;
    parts_ms: median of each part: decode (to RGB), resize (and crop), infer (with the file's own input format),
    label (most probable class, malignant score, the document that `predict` prints).
    """

    p50_ms: float
    p50_interval_ms: Interval | None
    p90_ms: float
    n: int
    parts_ms: Mapping[str, float]

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of each part in their sum."""
        total = sum(self.parts_ms.values())
        return {part: value / total for part, value in self.parts_ms.items()}


class Chain:
    """The pipeline from bytes to label, in one session. parts_ms: times of the parts of each call so far."""

    def __init__(self, session: Session, side: int, photos: Photos, target: Target) -> None:
        self._session, self._side, self._photos, self._colour = session, side, photos.encoded, photos.colour
        self._labels = target.labels
        self._malignant = photos.malignant if target.in_run else None
        self.parts_ms: list[tuple[float, ...]] = []

    def __call__(self, index: int) -> dict[str, Any]:
        clock = [time.perf_counter_ns()]
        pixels = load_image(self._photos[index % len(self._photos)], self._colour)
        clock.append(time.perf_counter_ns())
        prepared = prepare(pixels, self._side)
        clock.append(time.perf_counter_ns())
        row = self._session.run(prepared[None]).probabilities[0]
        clock.append(time.perf_counter_ns())
        document = self._document(row)
        clock.append(time.perf_counter_ns())
        self.parts_ms.append(tuple((end - start) / 1e6 for start, end in pairwise(clock)))
        return document

    def _document(self, row: NDArray[np.float32]) -> dict[str, Any]:
        score = None if self._malignant is None else float(malignant_score(row[None], self._malignant)[0])
        labels = self._labels or tuple(map(str, range(len(row))))
        return Prediction("", row, score, labels=labels).document()


def time_chains(chains: Mapping[str, Chain], protocol: Protocol, seed: int) -> dict[str, EndToEnd]:
    """Time new chains in interleaved blocks: a quarter of the protocol's, at least 5."""
    least = max(LEAST_BLOCKS, protocol.blocks // SHARE)
    shorter = replace(protocol, blocks=least, min_seconds=protocol.min_seconds / SHARE)
    samples = interleave(chains, shorter, seed)
    results = {}
    for key, chain in chains.items():
        summary, counted = summarize(samples[key]), np.array(chain.parts_ms[shorter.warmup :])
        parts = counted.reshape(-1, SETTLE + shorter.block, len(PARTS))[:, SETTLE:].reshape(-1, len(PARTS))
        medians = dict(zip(PARTS, np.median(parts, axis=0).tolist(), strict=True))
        results[key] = EndToEnd(summary.p50_ms, summary.p50_interval_ms, summary.p90_ms, summary.n, medians)
    return results


def synthetic_photos() -> Photos:
    """Return synthetic JPEGs in the size of HAM10000's photos, the same on every device."""
    encoded = []
    for index in range(COUNT):
        stream = io.BytesIO()
        Image.fromarray(draw(index, index % 7, *SYNTHETIC_SHAPE)).save(stream, "JPEG", quality=QUALITY)
        encoded.append(stream.getvalue())
    return _describe(encoded, f"synthetic images as JPEG of quality {QUALITY}")


def photos_of_run(images: Located) -> Photos | None:
    """Return test images of the run, spaced evenly over the split; None for an archive (MedMNIST) without image files.

    Raises: DataError for an image that cannot be read or decoded.
    """
    files = [sample.path for sample in images.samples if not archive_member(sample.path)[1]]
    if not files:
        return None
    chosen = [files[index] for index in np.linspace(0, len(files) - 1, min(COUNT, len(files))).astype(int)]
    return _describe([image_bytes(images.root / path) for path in chosen], "test images of the run")


def _describe(encoded: Sequence[bytes], source: str) -> Photos:
    shapes = [load_image(data).shape for data in encoded]
    height, width = (int(np.median([shape[axis] for shape in shapes])) for axis in (0, 1))
    size = int(np.median([len(data) for data in encoded]))
    return Photos(tuple(encoded), PhotoSource(source, len(encoded), width, height, size))
