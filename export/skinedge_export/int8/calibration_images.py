"""Calibration images for int8: training images of every class, chosen reproducibly."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.files import encode
from skinedge.core.input_format import Contract
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.data.dataset import Sample
from skinedge.data.loading import load_prepared
from skinedge_export.recipe import CalibrationSettings

LEAST = 8


@dataclass(frozen=True)
class CalibrationSet:
    """Calibration images.

    pixels: (N, S, S, 3) uint8 prepared; ids: of the images, sorted; ids_sha256: hash of the ids, one per line.
    """

    pixels: Pixels
    ids: tuple[str, ...]
    ids_sha256: str


def choose(samples: Sequence[Sample], settings: CalibrationSettings) -> list[Sample]:
    """Choose at most `settings.images` training images, spread over the classes as evenly as their sizes allow.

    A range must cover the rare classes too. The choice depends on the seed and the ids, not on the order of `samples`.
    Raises: DataError for fewer than 8 training images.
    """
    train = sorted((s for s in samples if s.split == "train"), key=lambda s: s.image_id)
    if len(train) < LEAST:
        raise DataError(
            f"int8 needs at least {LEAST} training images to calibrate on; this run has {len(train)}",
            todo="Train on more images, or export without --int8.",
        )
    generator = random.Random(settings.seed)
    queues = [[s for s in train if s.label == label] for label in sorted({s.label for s in train})]
    for queue in queues:
        generator.shuffle(queue)
    longest = max(len(queue) for queue in queues)
    turns = (queue[turn] for turn in range(longest) for queue in queues if turn < len(queue))
    return [sample for sample, _ in zip(turns, range(settings.images), strict=False)]


def load_calibration(root: Path, chosen: Sequence[Sample], rule: Preprocess) -> CalibrationSet:
    """Decode and prepare the chosen images.

    Raises: DataError if one is missing, unreadable or not the image of the run's split, or if fewer than 8 are
        different and not blank (an image of one colour has no range).
    """
    pixels = load_prepared(root, chosen, rule)
    blank = [bool((image == image[0, 0]).all()) for image in pixels]
    if len(pixels) - sum(blank) < LEAST:
        raise DataError(
            f"{sum(blank)} of {len(pixels)} calibration images are blank (one colour)",
            where=str(root),
            todo="Look at the images: skinedge data check DIR",
        )
    different = len({hashlib.sha256(image.tobytes()).digest() for image in pixels})
    if different < LEAST:
        raise DataError(
            f"the {len(pixels)} calibration images are {different} different pictures; ranges need at least {LEAST}",
            where=str(root),
            todo="Look at the images: skinedge data check DIR",
        )
    ids = tuple(sorted(sample.image_id for sample in chosen))
    return CalibrationSet(pixels, ids, hashlib.sha256(encode("\n".join(ids))).hexdigest())


def in_order(pixels: Pixels) -> Pixels:
    """Sort the images by hash, so that sums over batches do not depend on their order."""
    return pixels[sorted(range(len(pixels)), key=lambda i: hashlib.sha256(pixels[i].tobytes()).digest())]


def centred_range(rule: Preprocess, contract: Contract) -> tuple[float, float]:
    """Return the range of (pixel - mean) / scale for pixels 0..255, extended to contain zero."""
    low, high = (0 - max(rule.mean)) / contract.scale, (255 - min(rule.mean)) / contract.scale
    return min(0.0, low), max(0.0, high)
