"""The model description inside a file: see `skinedge.description` for where each format keeps it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from skinedge.description import KEY, ModelDescription

LABELS_FILE = "labels.txt"
DESCRIPTION_FILE = "skinedge.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment: the same model gives the same bytes


def describe_onnx(model: Any, description: ModelDescription) -> None:
    """Put the description and the labels (one a line) into an onnx.ModelProto's metadata_props."""
    import onnx

    onnx.helper.set_model_props(model, {KEY: description.to_json(), "labels": "\n".join(description.labels)})


def append_zip(path: Path, description: ModelDescription) -> None:
    """Append the description and the labels to a .tflite file, as TFLite Metadata packs its files.

    A flatbuffer is read from its start and a zip archive from its end, so both readers are content.
    """
    texts = {LABELS_FILE: "\n".join(description.labels) + "\n", DESCRIPTION_FILE: description.to_json()}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
