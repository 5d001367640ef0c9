"""Forgeries of a packaged model: swap two classes, and update every hash."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.run.embedded_metadata import KEY

Json = dict[str, Any]


def swapped(names: list[Any], i: int, j: int) -> list[Any]:
    order = list(range(len(names)))
    order[i], order[j] = j, i
    return [names[index] for index in order]


def edit_json(path: Path, change: Callable[[Json], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=2))


def in_manifest(root: Path, i: int, j: int) -> None:
    edit_json(root / "manifest.json", lambda raw: raw.update(labels=swapped(raw["labels"], i, j)))


def in_files(root: Path, i: int, j: int) -> None:
    """Swap the classes in both places of the metadata of .tflite and .onnx files."""
    for path in sorted(root.glob("model.*.tflite")):
        _edit_tflite(path, i, j)
    for path in sorted(root.glob("model.*.onnx")):
        _edit_onnx(path, i, j)


def _swapped_description(text: str, i: int, j: int) -> str:
    raw = json.loads(text)
    raw["labels"] = swapped(raw["labels"], i, j)
    return json.dumps(raw)


def _edit_tflite(path: Path, i: int, j: int) -> None:
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = min(info.header_offset for info in archive.infolist())
        members = {info.filename: archive.read(info).decode() for info in archive.infolist()}
    for name, text in members.items():
        lines = text.splitlines()
        is_description = name == f"{KEY}.json"
        members[name] = _swapped_description(text, i, j) if is_description else "\n".join(swapped(lines, i, j))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    path.write_bytes(content[:start] + buffer.getvalue())


def _edit_onnx(path: Path, i: int, j: int) -> None:
    import onnx

    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == KEY:
            prop.value = _swapped_description(prop.value, i, j)
        elif prop.key == "labels":
            prop.value = "\n".join(swapped(prop.value.splitlines(), i, j))
    onnx.save(model, path)


def in_cards(root: Path, i: int, j: int) -> None:
    def change(raw: Json) -> None:
        rows = swapped(raw["classes"], i, j)
        raw["classes"] = [{**row, "index": index} for index, row in enumerate(rows)]

    for path in sorted(root.glob("*.skinedge.json")):
        edit_json(path, change)


def in_reference(root: Path, i: int, j: int) -> None:
    """Swap labels and logits consistently, as if the network had been trained this way."""
    _edit_reference(root, i, j, labels=True, columns=True)


def in_reference_labels(root: Path, i: int, j: int) -> None:
    _edit_reference(root, i, j, labels=True, columns=False)


def in_reference_logits(root: Path, i: int, j: int) -> None:
    _edit_reference(root, i, j, labels=False, columns=True)


def _edit_reference(root: Path, i: int, j: int, *, labels: bool, columns: bool) -> None:
    with np.load(root / "reference.npz") as archive:
        parts = dict(archive)
    order = np.array(swapped(list(range(parts["logits"].shape[1])), i, j))
    if labels:
        parts["label"] = order[parts["label"]]
    if columns:
        parts["logits"] = parts["logits"][:, order]
    with (root / "reference.npz").open("wb") as stream:
        np.savez(stream, **parts)


def in_thresholds(root: Path, i: int, j: int) -> None:
    """Swap the thresholds of two files that have different ones."""

    def change(raw: Json) -> None:
        values = raw["thresholds"]
        first, second = "model.int8.onnx", "model.int8.tflite"
        values[first], values[second] = values[second], values[first]

    edit_json(root / "manifest.json", change)


def with_right_hashes(root: Path) -> None:
    """Update every hash of a changed file in the manifest, the cards and the reports."""
    raw = json.loads((root / "manifest.json").read_text())
    entries = [entry for stage in raw["stages"].values() for entry in stage["files"]]
    for entry in sorted(entries, key=lambda entry: entry["path"].endswith(".json")):
        path, old = root / entry["path"], entry["sha256"]
        new = hashlib.sha256(path.read_bytes()).hexdigest()
        for document in [path for path in root.rglob("*.json") if old != new]:
            document.write_text(document.read_text().replace(old, new))
    edit_json(root / "manifest.json", lambda raw: _update_entries(root, raw))


def _update_entries(root: Path, raw: Json) -> None:
    for stage in raw["stages"].values():
        for entry in stage["files"]:
            content = (root / entry["path"]).read_bytes()
            entry.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))


PLACES = (in_manifest, in_files, in_cards, in_reference, in_thresholds)
