"""What a file says of itself besides its graph: see `skinedge.run.embedded_metadata` for where each format keeps it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from skinedge.core.input_format import CONTRACTS
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import formula, resize_text
from skinedge.run.model_card import intended_use

LABELS_FILE = "labels.txt"
GOOGLES_LABELS_FILE = "labels_without_background.txt"  # the one name that Google's Android sample looks for
DESCRIPTION_FILE = "skinedge.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the zip format's first moment: the same model gives the same bytes


def describe_onnx(model: Any, description: ModelDescription) -> None:
    """Fill an onnx.ModelProto's metadata_props: see `onnx_texts`."""
    import onnx

    onnx.helper.set_model_props(model, onnx_texts(description))


def onnx_texts(said: ModelDescription) -> dict[str, str]:
    """The description as JSON and the labels, one a line, for programs; the rest for a person in Netron.

    model_author, model_license: the names that ONNX's IR.md gives them.
    """
    contract, size = CONTRACTS[said.input], said.preprocess.size
    low, high = contract.range
    texts = {
        KEY: said.to_json(),
        "labels": "\n".join(said.labels),
        "input": f"{contract.dtype} NHWC, RGB, {size} x {size}, {low:g} (black) to {high:g} (white)",
        "input_contract": f"{contract.name}: {formula(contract)} ({contract.used_by})",
        "resize": resize_text(size),
        "domain": said.domain,
        "intended_use": intended_use(said.domain),
        "notice": said.notice,
        "model_author": "skinedge",
        "model_license": said.license,
        "attribution": said.attribution,
    }
    return {key: text for key, text in texts.items() if text}


def append_zip(path: Path, description: ModelDescription) -> None:
    """Append the description and the labels to a .tflite file, as TFLite Metadata packs its files.

    A flatbuffer is read from its start and a zip archive from its end, so both readers are content.
    """
    labels = "\n".join(description.labels) + "\n"
    texts = {LABELS_FILE: labels, GOOGLES_LABELS_FILE: labels, DESCRIPTION_FILE: description.to_json()}
    with zipfile.ZipFile(path, "a", zipfile.ZIP_STORED) as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
