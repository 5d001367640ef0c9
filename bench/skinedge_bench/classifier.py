"""A classifier for use from Python: one model file that predicts and explains images.

It may be shared by threads, used in a forked process, and pickled for another process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core.errors import BundleError, DataError
from skinedge.core.image_file import image_pixels, load_image
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels, refuse_large
from skinedge.data.loading import Source
from skinedge.run.plugins import Session
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import LoadedModel, open_model
from skinedge_bench.predict.predict import Prediction, Predictor, find_images, sources
from skinedge_bench.predict.resumable import Work, predictions

if TYPE_CHECKING:
    from skinedge_bench.explain.explain import Explanation
    from skinedge_bench.explain.saliency import Explainer

# A file's path, an image opened with Pillow, the bytes of an image file, or pixels: (H, W, 3) uint8, RGB.
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | bytes | NDArray[np.uint8]
Images: TypeAlias = list[Any] | tuple[Any, ...]  # of ImageLike
R = TypeVar("R")


def open_classifier(source: Bundle | Path, file: str | None = None, output: str | None = None) -> Classifier:
    """Open a file of a run (default: the manifest's default file), or a model file. Raises: as `open_model`."""
    return Classifier(open_model(source, file, output), source, file, output)


class Classifier:
    """A model file, ready to predict and explain images.

    model: the open file, with its path, input size, malignant classes and the assumptions made about it.
    Threads may share it; they take turns at the model, so only decoding and resizing run in parallel. A forked process
    opens the file again.
    """

    def __init__(
        self, model: LoadedModel, source: Bundle | Path, file: str | None = None, output: str | None = None
    ) -> None:
        self._predictor = Predictor.of(model)
        self._session = SharedSession(model.session, self._predictor.open_session)
        self.model = replace(model, session=self._session)
        self._source, self._file, self._output = source, file, output
        self._explainers: dict[tuple[int, str | None], tuple[Explainer, threading.Lock]] = {}

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.model.labels

    @property
    def threshold(self) -> float | None:
        """Malignant probability (0..1) from which an image is flagged; None if neither run nor card states it."""
        return self.model.threshold

    def __repr__(self) -> str:
        return f"Classifier({str(self.model.path)!r}, {len(self.labels)} classes, {self.model.runtime})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place of the file; unpickling opens it again, if it is still the same file."""
        place = self._source.root if isinstance(self._source, Bundle) else self._source
        return _reopened, (place.absolute(), self._file, self._output, self.model.sha256)

    @overload
    def predict(self, images: ImageLike) -> Prediction: ...

    @overload
    def predict(self, images: Images) -> list[Prediction]: ...

    def predict(self, images: ImageLike | Images) -> Prediction | list[Prediction]:
        """Predict an image, or each image of a list, in this process.

        Raises: DataError for the first image that cannot be read or predicted.
        """
        return _each(images, self._predict, self.model.colour)

    def _predict(self, source: Source) -> Prediction:
        prediction = self._predictor.predict(self._session, source)
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def predict_files(self, images: Sequence[Path], work: Work | None = None) -> Generator[Prediction, None, None]:
        """Yield one prediction per image of files and folders, in order, with one process per core.

        An image that cannot be read gives a prediction with its error. work: number of processes, and the file that
        keeps the predictions to resume from.
        Raises: DataError for a folder without images; as `resumable.predictions`.
        """
        paths = find_images(images)
        return predictions(self.model, sources(paths), len(paths), work or Work())

    @overload
    def explain(self, images: ImageLike, label: str | None = ..., method: str | None = ...) -> Explanation: ...

    @overload
    def explain(self, images: Images, label: str | None = ..., method: str | None = ...) -> list[Explanation]: ...

    def explain(
        self, images: ImageLike | Images, label: str | None = None, method: str | None = None
    ) -> Explanation | list[Explanation]:
        """Show where in an image, or in each image of a list, the model finds evidence for a class, as a heatmap.

        label: the class; None: the most probable class of each image. method: 'gradcam' or 'gradcam++' (of the run's
        merged network, needs torch), or 'cam' (the heatmap that an exported file outputs); None: 'gradcam' where
        available, else 'cam'. The file of the heatmap may be another one of the run than that of `predict`.
        Raises: ConfigError for an unknown class or method, or if no heatmap can be made; DataError for an image that
        cannot be read; MissingDependencyError.
        """
        from skinedge_bench.explain.explain import Failure, explain

        explainer, lock = self._explainer(method)

        def explain_one(source: Source) -> Explanation:
            with lock:
                (result,) = explain(explainer, [source], label)
            if isinstance(result, Failure):
                raise DataError(result.error, where=result.image)
            return result

        return _each(images, explain_one, self.model.colour)

    def _explainer(self, method: str | None) -> tuple[Explainer, threading.Lock]:
        """Return this process's explainer for a method, opened once, and the lock of its network."""
        from skinedge_bench.explain.saliency import open_explainer

        key = (os.getpid(), method)
        if key not in self._explainers:
            self._explainers.setdefault(key, (open_explainer(self._source, self._file, method), threading.Lock()))
        return self._explainers[key]


@dataclass
class Slot:
    """A process's session, None until its first use, and the lock of the threads that share it."""

    session: Session | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class SharedSession:
    """A session that threads may share, and that a forked process opens again.

    A fork copies neither the other threads, which may hold the lock, nor the runtime's own threads.
    """

    def __init__(self, session: Session, reopen: Callable[[], Session]) -> None:
        self.inputs, self.outputs, self.metadata = session.inputs, session.outputs, session.metadata
        self.partitions, self.outside = session.partitions, session.outside
        self._reopen = reopen
        self._slots = {os.getpid(): Slot(session)}  # by process id

    def run(self, pixels: Pixels) -> Outputs:
        """Run the model on prepared images. pixels: (N, S, S, 3) uint8."""
        slot = self._slots.setdefault(os.getpid(), Slot())
        with slot.lock:
            if slot.session is None:
                slot.session = self._reopen()
            return slot.session.run(pixels)


def _reopened(place: Path, file: str | None, output: str | None, sha256: str) -> Classifier:
    """Open a pickled classifier. Raises: BundleError if its file has changed."""
    classifier = open_classifier(place if place.is_file() else Bundle.open(place), file, output)
    if classifier.model.sha256 != sha256:
        raise BundleError("the model file changed after this classifier was pickled", where=str(classifier.model.path))
    return classifier


def _each(images: ImageLike | Images, work: Callable[[Source], R], colour: str) -> R | list[R]:
    """Apply `work` to one image, or to each image of a list or tuple."""
    if isinstance(images, (list, tuple)):
        return [work(_source(image, f"image {index}", colour)) for index, image in enumerate(images)]
    return work(_source(images, "image", colour))


def _source(image: Any, name: str, colour: str) -> Source:
    """Return an image to predict. name: of one without a path; colour: the model's rule for colour profiles.

    Raises: DataError for anything that is not an image.
    """
    if isinstance(image, str | os.PathLike):
        return Source(os.fspath(image), Path(image))
    if isinstance(image, Image.Image):
        pixels = image_pixels(image, name, colour)
    elif isinstance(image, bytes):
        pixels = load_image(image, colour)
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        pixels = image
        refuse_large(*image.shape[:2])
    else:
        shape = f" of {image.dtype} {image.shape}" if isinstance(image, np.ndarray) else ""
        raise DataError(
            f"not an image: {type(image).__name__}{shape}",
            where=name,
            todo="Give a path, a Pillow image, the bytes of an image file, or an RGB array (H, W, 3) of uint8; "
            "several of them as a list.",
        )
    if not pixels.size:
        raise DataError("image without pixels", where=name)
    return Source(name, Path(), pixels=pixels)
