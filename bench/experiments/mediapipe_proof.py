"""Compare the predictions of MediaPipe's ImageClassifier with those of `skinedge predict` on the same model files.

    python -m experiments.mediapipe_proof FILE.tflite [FILE.tflite ...] --images FOLDER [--count 200]

Three rows per file: images at the model's input size (prepared by skinedge, stored without loss), where both see the
same pixels; the original images, which MediaPipe stretches to the input size and skinedge crops to the centre; and the
original images with the middle square as region of interest. Needs `make mediapipe`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skinedge.core.errors import SkinedgeError
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import prepare
from skinedge_bench.loaded_model import LoadedModel, open_file
from skinedge_bench.predict.predict import find_images, predict, sources

HERE = Path(__file__).resolve().parent
PYTHON = Path(os.environ.get("SKINEDGE_MEDIAPIPE") or HERE.parents[1] / ".cache" / "mediapipe" / "bin" / "python")
CLIENT = HERE / "mediapipe_client.py"

View = tuple[Path, bool]  # an image; whether MediaPipe gets its middle square only


@dataclass(frozen=True)
class Agreement:
    """MediaPipe against skinedge on n images.

    same: images with the same top class; classes: number of distinct top classes; largest, mean: absolute difference
    over the scores of all classes; malignant: mean absolute difference of the malignant score, NaN if the model has
    none.
    """

    n: int
    same: int
    classes: int
    largest: float
    mean: float
    malignant: float

    @classmethod
    def of(cls, model: LoadedModel, ours: NDArray[np.float32], theirs: NDArray[np.float64]) -> Agreement:
        """Compare two arrays of probabilities, (N, C) in the order of the model's labels."""
        difference = np.abs(ours - theirs)
        malignant = (ours - theirs)[:, list(model.malignant)].sum(axis=1) if model.malignant else np.array([np.nan])
        return cls(
            n=len(ours),
            same=int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum()),
            classes=len(set(ours.argmax(axis=1).tolist())),
            largest=float(difference.max()),
            mean=float(difference.mean()),
            malignant=float(np.abs(malignant).mean()),
        )


def ask(files: Sequence[Path], views: Sequence[View]) -> Mapping[str, Any]:
    """Run `mediapipe_client.py` and return its response; without views, the files' metadata only.

    Raises: SkinedgeError without MediaPipe's environment, or when the client fails.
    """
    if not PYTHON.is_file():
        raise SkinedgeError("MediaPipe's environment is missing", where=str(PYTHON), todo="Run: make mediapipe")
    request = {"files": [str(file) for file in files], "views": [(str(image), centre) for image, centre in views]}
    done = subprocess.run(
        [str(PYTHON), str(CLIENT)], input=json.dumps(request), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SkinedgeError(f"MediaPipe failed ({done.stderr.strip().splitlines()[-1]})")
    response: dict[str, Any] = json.loads(done.stdout)
    return response


def compare(file: Path, *sets: Sequence[View]) -> list[Agreement]:
    """Compare both programs on one file, for each set of images."""
    model, views = open_file(file), [view for one in sets for view in one]
    ours = np.stack([prediction.probabilities for prediction in predict(model, sources([image for image, _ in views]))])
    scores = ask([file], views)["files"][str(file)]["scores"]
    theirs = np.array([[row[label] for label in model.labels] for row in scores])
    ends = np.cumsum([len(one) for one in sets])[:-1]
    pairs = zip(np.split(ours, ends), np.split(theirs, ends), strict=True)
    return [Agreement.of(model, own, other) for own, other in pairs]


def whole(images: Sequence[Path]) -> list[View]:
    return [(image, False) for image in images]


def prepared(images: Sequence[Path], size: int, folder: Path) -> list[Path]:
    """Write the images at a model's input size as PNG files; return their paths."""
    paths = [folder / f"{index:05}.png" for index in range(len(images))]
    for source, path in zip(images, paths, strict=True):
        Image.fromarray(prepare(load_image(source), size)).save(path)
    return paths


def spread(images: Sequence[Path], count: int) -> list[Path]:
    """Return `count` evenly spaced images, since a folder is sorted by class. Raises: SkinedgeError if too few."""
    if len(images) < count:
        raise SkinedgeError(f"{len(images)} images found, {count} requested")
    return [images[index * len(images) // count] for index in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.mediapipe_proof",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    try:
        report(options.files, spread(find_images([options.images]), options.count))
    except SkinedgeError as error:
        sys.exit(f"error: {error}")


def report(files: Sequence[Path], images: Sequence[Path]) -> None:
    """Print the table: three sets of images for each file."""
    height, width = load_image(images[0]).shape[:2]
    print(f"{'file':24} {'images':28} {'n':>4} {'same class':>10} {'mean':>7} {'largest':>8} {'malignant':>10}")
    for file in files:
        size = open_file(file).size
        sets = {
            f"{width}x{height}, whole": whole(images),
            f"{width}x{height}, middle square": [(i, True) for i in images],
        }
        with tempfile.TemporaryDirectory() as folder:
            sets = {f"{size}x{size}, prepared": whole(prepared(images, size, Path(folder))), **sets}
            agreements = compare(file, *sets.values())
        for name, a in zip(sets, agreements, strict=True):
            figures = f"{a.same / a.n:>10.1%} {a.mean:>7.4f} {a.largest:>8.4f} {a.malignant:>10.4f}"
            print(f"{file.name:24} {name:28} {a.n:>4} {figures}")


if __name__ == "__main__":
    main()
