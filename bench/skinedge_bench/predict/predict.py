"""`skinedge predict`: run a model on image files."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import BundleError, DataError
from skinedge.core.files import sha256
from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.core.preprocess import prepare
from skinedge.data.folder import list_folder
from skinedge.data.loading import Source
from skinedge.run.plugins import RUNTIMES, Runtime, Session, load
from skinedge.stats.metrics import malignant_score
from skinedge_bench.loaded_model import LoadedModel
from skinedge_bench.runtimes.output_format import OutputFormat
from skinedge_bench.runtimes.session import open_as


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image, or its error.

    probabilities: (C,) float32, in the order of `labels`; malignant_probability: None if the malignant classes are
    unknown; image_sha256: of the image's bytes, None if they could not be read; threshold: malignant probability from
    which the model file flags an image, None if unknown.
    """

    image: str
    probabilities: NDArray[np.float32] | None = None
    malignant_probability: float | None = None
    image_sha256: str | None = None
    error: DataError | None = None
    labels: tuple[str, ...] = ()
    threshold: float | None = None

    @property
    def label(self) -> str | None:
        """The most probable class; None for an error."""
        return None if self.probabilities is None else self.labels[int(self.probabilities.argmax())]

    @property
    def flagged(self) -> bool | None:
        """Whether the malignant probability reaches the threshold; None if either is unknown."""
        if self.malignant_probability is None or self.threshold is None:
            return None
        return self.malignant_probability >= self.threshold

    def document(self) -> dict[str, object]:
        """Return as JSON: `image, label, probability, probabilities, malignant_probability` or `image, error`."""
        if self.probabilities is None:
            return {"image": self.image, "error": self.error and self.error.what}
        return {
            "image": self.image,
            "label": self.label,
            "probability": float(self.probabilities.max()),
            "probabilities": {label: float(p) for label, p in zip(self.labels, self.probabilities, strict=True)},
            "malignant_probability": self.malignant_probability,
        }

    @classmethod
    def from_document(cls, raw: Mapping[str, Any]) -> Prediction:
        """Read back `document` with an added `image_sha256`; the probabilities are restored bit for bit.

        Raises: KeyError, TypeError, ValueError for any other document.
        """
        digest = raw["image_sha256"]
        if "error" in raw:
            return cls(raw["image"], image_sha256=digest, error=DataError(raw["error"], where=raw["image"]))
        row = np.array(list(raw["probabilities"].values()), dtype=np.float32)
        return cls(raw["image"], row, raw["malignant_probability"], digest, labels=tuple(raw["probabilities"]))


@dataclass(frozen=True)
class Predictor:
    """The part of a `LoadedModel` that a worker process needs to predict an image."""

    path: Path
    sha256: str
    runtime: str
    size: int
    colour: str
    labels: tuple[str, ...]
    malignant: tuple[int, ...] | None
    threshold: float | None
    output_format: OutputFormat | None = None

    @classmethod
    def of(cls, model: LoadedModel) -> Predictor:
        """Create the predictor of a loaded model."""
        return cls(
            model.path,
            model.sha256,
            model.runtime,
            model.size,
            model.colour,
            model.labels,
            model.malignant,
            model.threshold,
            model.output_format,
        )

    def open(self) -> Callable[[Source], Prediction]:
        """Return a function that predicts an image with a session of its own. Raises: as `open_session`."""
        return partial(self.predict, self.open_session())

    def open_session(self) -> Session:
        """Load the file, for one thread. Raises: BundleError if the file changed since the model was opened."""
        runtime: Runtime = load(RUNTIMES, self.runtime)
        if sha256(self.path) != self.sha256:
            raise BundleError("the model file changed after it was opened", where=str(self.path), todo="Start again.")
        return open_as(runtime, self.path, 1, self.output_format)

    def predict(self, session: Session, source: Source) -> Prediction:
        """Predict one image, alone in its batch, so that no prediction depends on the other images."""
        digest = None
        try:
            data, digest = source.read()
            row = session.run(prepare(source.decode(data, self.colour), self.size)[None]).probabilities[0]
            if not np.isfinite(row).all():
                raise DataError("the model gave no numbers (NaN or infinite)", where=source.name)
        except DataError as error:
            return Prediction(source.name, image_sha256=digest, error=error)
        score = None if self.malignant is None else float(malignant_score(row[None], self.malignant)[0])
        return Prediction(source.name, row, score, digest, labels=self.labels, threshold=self.threshold)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """List the named files, and the images in and below the named folders (`list_folder`), sorted within each folder.

    Raises: DataError for a folder without images. A named file is not checked: if it cannot be read, its prediction is
    an error.
    """
    images: list[Path] = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        folder = list_folder(path)
        folder.note_left_out()
        inside = sorted(path / name for name in folder.images)
        if not inside:
            raise DataError(
                "no images in this folder", where=str(path), todo=f"Known kinds: {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        images.extend(inside)
    return images


def sources(images: Sequence[Path]) -> Iterator[Source]:
    """Convert image files to the input of `predict`."""
    return (Source(str(image), image) for image in images)


def predict(model: LoadedModel, sources: Iterable[Source], jobs: int = 1) -> Generator[Prediction, None, None]:
    """Yield one prediction per image, in input order. jobs: number of processes, which changes no bit of a result.

    An image that cannot be read gives its error, and the others continue. Raises: SkinedgeError if a process ends.
    """
    predictor = Predictor.of(model)
    if jobs > 1:
        from skinedge.system.process_pool import in_order

        yield from in_order(predictor, sources, jobs)
    else:
        yield from map(partial(predictor.predict, model.session), sources)
