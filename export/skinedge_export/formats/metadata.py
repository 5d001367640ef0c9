"""Metadata embedded in model files; `skinedge.run.embedded_metadata` describes its place in each format."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from skinedge.core.input_format import CONTRACTS
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import formula, resize_text
from skinedge.run.model_card import intended_use

LABELS_FILE = "labels.txt"
GOOGLES_LABELS_FILE = "labels_without_background.txt"  # the only name that Google's Android sample looks for
DESCRIPTION_FILE = "skinedge.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's earliest time: equal models give equal bytes


def describe_onnx(model: Any, description: ModelDescription) -> None:
    """Set an onnx.ModelProto's metadata_props, in place: see `onnx_texts`."""
    import onnx

    onnx.helper.set_model_props(model, onnx_texts(description))


def onnx_texts(description: ModelDescription) -> dict[str, str]:
    """Return the metadata of an ONNX file: JSON and labels, one per line, for programs, the rest for people in Netron.

    The keys model_author and model_license are those of ONNX's IR.md.
    """
    contract, size = CONTRACTS[description.input], description.preprocess.size
    low, high = contract.range
    texts = {
        KEY: description.to_json(),
        "labels": "\n".join(description.labels),
        "input": f"{contract.dtype} NHWC, RGB, {size} x {size}, {low:g} (black) to {high:g} (white)",
        "input_contract": f"{contract.name}: {formula(contract)} ({contract.used_by})",
        "resize": resize_text(description.preprocess),
        "domain": description.domain,
        "intended_use": intended_use(description.domain),
        "notice": description.notice,
        "model_author": "skinedge",
        "model_license": description.license,
        "attribution": description.attribution,
    }
    return {key: text for key, text in texts.items() if text}


def append_zip(path: Path, description: ModelDescription) -> None:
    """Append a zip archive with the description and the labels to a .tflite file, as TFLite Metadata specifies.

    Both formats stay readable: a flatbuffer is read from its start, a zip archive from its end.
    """
    labels = "\n".join(description.labels) + "\n"
    texts = {LABELS_FILE: labels, GOOGLES_LABELS_FILE: labels, DESCRIPTION_FILE: description.to_json()}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
