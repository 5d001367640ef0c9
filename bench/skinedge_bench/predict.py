"""`skinedge predict`: what a model says of images on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.data.readers import IMAGE_SUFFIXES
from skinedge.errors import DataError
from skinedge.metrics import malignant_score
from skinedge.preprocess import load_image, prepare
from skinedge_bench.model import LoadedModel


@dataclass(frozen=True)
class Prediction:
    """What was said of one image; error: why nothing was.

    probabilities: (C,) float32; malignant_probability: None where the classes are unknown.
    """

    image: str
    probabilities: NDArray[np.float32] | None = None
    malignant_probability: float | None = None
    error: str | None = None

    def document(self, labels: Sequence[str]) -> dict[str, object]:
        """The JSON form: `image, label, probability, probabilities, malignant_probability` or `image, error`."""
        if self.probabilities is None:
            return {"image": self.image, "error": self.error}
        best = int(self.probabilities.argmax())
        return {
            "image": self.image,
            "label": labels[best],
            "probability": float(self.probabilities[best]),
            "probabilities": {label: float(p) for label, p in zip(labels, self.probabilities, strict=True)},
            "malignant_probability": self.malignant_probability,
        }


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The named files, and the images in and below the named folders, sorted within each.

    Raises: DataError for a folder without images. A named file is taken as it is: if it cannot be
    read, its prediction says so.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not inside:
            raise DataError(
                "no images in this folder", where=str(path), todo=f"Known kinds: {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        found.extend(inside)
    return found


def predict(model: LoadedModel, images: Sequence[Path]) -> Iterator[Prediction]:
    """One prediction per image, in their order; a bad image gives its error and the others go on."""
    for image in images:
        try:
            pixels = prepare(load_image(image), model.size)
        except DataError as error:
            yield Prediction(str(image), error=error.what)
            continue
        row = model.run(pixels[None]).probabilities[0]
        if not np.isfinite(row).all():
            yield Prediction(str(image), error="the model gave no numbers (NaN or infinite)")
            continue
        score = None if model.malignant is None else float(malignant_score(row[None], model.malignant)[0])
        yield Prediction(str(image), row, score)
