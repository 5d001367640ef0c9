"""A client without skinedge: MediaPipe's ImageClassifier and its TFLite Metadata reader.

It runs in MediaPipe's own environment (`make mediapipe`), because MediaPipe and grad-cam depend on two OpenCV packages
that install the same files.

Standard input, JSON: {"files": [...], "views": [[IMAGE, CENTRE], ...]}; CENTRE: pass the middle square of the image as
region of interest; otherwise MediaPipe stretches the whole image.
Standard output, JSON: {"version": ..., "files": {FILE: {"metadata": {...}, "scores": [{label: score}, ...]}}}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import mediapipe
from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
from mediapipe.tasks.metadata import schema_py_generated as model_schema
from mediapipe.tasks.python import BaseOptions, vision
from mediapipe.tasks.python.components.containers.rect import RectF
from mediapipe.tasks.python.vision.core.image_processing_options import ImageProcessingOptions


def metadata(file: str) -> dict[str, Any]:
    """Return the TFLite Metadata of a file, {} if it has none."""
    with open(file, "rb") as stream:  # noqa: PTH123 (written as a third-party app would be)
        model = model_schema.ModelT.InitFromPackedBuf(stream.read())
    for entry in model.metadata or []:
        if entry.name == b"TFLITE_METADATA":
            return plain(schema.ModelMetadataT.InitFromPackedBuf(bytes(model.buffers[entry.buffer].data)))
    return {}


def plain(value: Any) -> Any:
    """Convert an object of the generated reader to JSON, without absent fields."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__dict__"):
        return {key: plain(item) for key, item in vars(value).items() if item is not None}
    return value


def classify(file: str, views: list[tuple[str, bool]]) -> list[dict[str, float]]:
    """Return class name -> score for every view."""
    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=file), max_results=-1)
    scores: list[dict[str, float]] = []
    if not views:
        return scores
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for path, centre in views:
            image = mediapipe.Image.create_from_file(path)
            result = classifier.classify(image, region(image) if centre else None)
            scores.append({item.category_name: item.score for item in result.classifications[0].categories})
    return scores


def region(image: Any) -> ImageProcessingOptions:
    """Return the middle square as region of interest."""
    side = min(image.width, image.height)
    across, down = (1 - side / image.width) / 2, (1 - side / image.height) / 2
    return ImageProcessingOptions(region_of_interest=RectF(left=across, top=down, right=1 - across, bottom=1 - down))


def main() -> None:
    request = json.load(sys.stdin)
    stdout = sys.stdout.fileno()
    response_stream = os.dup(stdout)
    os.dup2(sys.stderr.fileno(), stdout)  # the library prints to standard output
    files = {
        file: {"metadata": metadata(file), "scores": classify(file, request["views"])} for file in request["files"]
    }
    with os.fdopen(response_stream, "w") as out:
        json.dump({"version": mediapipe.__version__, "files": files}, out)


if __name__ == "__main__":
    main()
