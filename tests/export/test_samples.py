"""Our .tflite files in third-party apps: how two sample apps use a model and its labels, step by step.

Google's LiteRT image-classification sample takes the labels out of the model file; Qualcomm AI Hub's has them in a text
file of its assets, which is taken out of the model file here. Neither step uses a line of ours.
"""

from __future__ import annotations

import heapq
import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skinedge.run import golden
from skinedge.run.run_directory import Bundle
from skinedge_export.export import export
from skinedge_export.signature import IOSignature
from skinedge_export.target import ExportTarget

GOOGLE = "model.fp32.google.tflite"
QUALCOMM = "model.fp32.qualcomm.tflite"
SHOWN = 3  # classes, by both


@pytest.fixture(scope="module")
def run(merged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("samples") / "run"
    shutil.copytree(merged_run, root)
    return export(
        Bundle.open(root), [ExportTarget("tflite", "fp32", IOSignature(name)) for name in ("google", "qualcomm")]
    )


@pytest.fixture(scope="module")
def known(run: Bundle) -> golden.Golden:
    return golden.load(run.file("golden.npz"))


@pytest.fixture(scope="module")
def wanted(run: Bundle, known: golden.Golden) -> list[list[tuple[str, float]]]:
    """PyTorch's labels and probabilities of each golden image, the most probable first."""
    powers = np.exp(known.logits.astype(np.float64))
    rows = powers / powers.sum(axis=1, keepdims=True)
    return [sorted(zip(run.manifest.labels, row, strict=True), key=lambda pair: -pair[1]) for row in rows]


def metadata_labels(model: bytes) -> list[str]:
    """Read the labels as TensorFlow Lite Support's MetadataExtractor: from the zip, if the flatbuffer has the entry."""
    from ai_edge_litert import schema_py_generated as schema

    found = schema.ModelT.InitFromPackedBuf(model)
    entries = [entry for entry in found.metadata if entry.name == b"TFLITE_METADATA"]
    if not entries or bytes(found.buffers[entries[0].buffer].data)[4:8] != b"M001":
        return []
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        return archive.read("labels_without_background.txt").decode().splitlines()


def googles(file: Path, image: np.ndarray) -> list[tuple[str, float]]:
    """Return the classes that the sample shows for an image (S, S, 3) uint8; those below 30 % count as 0."""
    from ai_edge_litert.compiled_model import CompiledModel

    model, labels = CompiledModel.from_file(str(file)), metadata_labels(file.read_bytes())
    inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
    inputs[0].write(((image.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)).ravel())
    model.run_by_index(0, inputs, outputs)
    scores = outputs[0].read(len(labels), np.float32)
    kept = [(label, float(score) if score >= 0.3 else 0.0) for label, score in zip(labels, scores, strict=False)]
    return sorted(kept, key=lambda pair: -pair[1])[:SHOWN]


def qualcomms(file: Path, labels: Path, image: np.ndarray) -> set[str]:
    """Return the classes that the app shows for an image (S, S, 3) uint8; their order means nothing."""
    from ai_edge_litert.interpreter import Interpreter

    lines = labels.read_text().splitlines()
    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert taken["dtype"] == given["dtype"] == np.float32
    assert list(taken["shape"]) == [1, *image.shape] and list(given["shape"]) == [1, len(lines)]
    interpreter.set_tensor(taken["index"], (image.astype(np.float32) / np.float32(255))[None])
    interpreter.invoke()
    heap: list[tuple[float, int]] = []
    for index, score in enumerate(interpreter.get_tensor(given["index"])[0]):
        heapq.heappush(heap, (float(score), index))
        if len(heap) > SHOWN:
            heapq.heappop(heap)
    return {lines[index] for _, index in heap}


def test_googles_sample_shows_our_classes(
    run: Bundle, known: golden.Golden, wanted: list[list[tuple[str, float]]]
) -> None:
    seen = set()
    for image, right in zip(known.pixels, wanted, strict=True):
        shown = [pair for pair in googles(run.file(GOOGLE), image) if pair[1] > 0]
        likely = [pair for pair in right if pair[1] >= 0.3]
        assert [label for label, _ in shown] == [label for label, _ in likely]
        np.testing.assert_allclose([score for _, score in shown], [score for _, score in likely], atol=2e-5)
        seen.update(label for label, _ in shown)
    assert len(seen) > 2, "labels in another order would not be noticed"


def test_qualcomms_app_shows_our_classes(
    run: Bundle, known: golden.Golden, wanted: list[list[tuple[str, float]]], tmp_path: Path
) -> None:
    with zipfile.ZipFile(run.file(QUALCOMM)) as archive:
        labels = Path(archive.extract("labels.txt", tmp_path))
    found = [qualcomms(run.file(QUALCOMM), labels, image) for image in known.pixels]
    assert found == [{label for label, _ in right[:SHOWN]} for right in wanted]
    assert len(set(map(frozenset, found))) > 2


def test_neither_app_works_with_the_others_file(
    run: Bundle, known: golden.Golden, wanted: list[list[tuple[str, float]]], tmp_path: Path
) -> None:
    """Else the tests above could not fail."""
    (labels := tmp_path / "labels.txt").write_text("\n".join(run.manifest.labels))
    found = [qualcomms(run.file(GOOGLE), labels, image) for image in known.pixels]
    assert found != [{label for label, _ in right[:SHOWN]} for right in wanted]
    shown = [googles(run.file(QUALCOMM), image)[0][0] for image in known.pixels]
    assert shown != [right[0][0] for right in wanted]
