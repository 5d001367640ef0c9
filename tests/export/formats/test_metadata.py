"""Metadata for other programs: TFLite Metadata and its place in the file, ONNX metadata_props, and the card beside it.

What MediaPipe's own reader makes of the TFLite Metadata is under test in tests/pipeline/test_mediapipe.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.input_format import CONTRACTS
from skinedge.run.embedded_metadata import KEY, ModelDescription, describe
from skinedge.run.file_card import card_name, disagreement, formula, read_card
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import open_file
from skinedge_export.cards import write_cards
from skinedge_export.formats.tflite.metadata import with_metadata

TFLITE = ("model.fp32.tflite", "model.int8.tflite")
FILES = ("model.fp32.onnx", *TFLITE, "model.int8.onnx")


def flatbuffer(content: bytes) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content)


def packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_weights_outside(content: bytes) -> bytes:
    """Store larger buffers behind the flatbuffer, at offsets from its start, as ai-edge-quantizer 0.10 does."""
    model = flatbuffer(content)
    moved = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) >= 1024]
    assert moved
    weights = [bytes(buffer.data) for buffer in moved]
    for buffer, data in zip(moved, weights, strict=True):
        buffer.data, buffer.offset, buffer.size = None, 2, len(data)
    end = len(packed(model))
    whole = bytearray(end)
    for buffer, data in zip(moved, weights, strict=True):
        whole += bytes(-len(whole) % 16)
        buffer.offset = len(whole)
        whole += data
    whole[:end] = packed(model)
    return bytes(whole)


def run_tflite(content: bytes, pixels: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner("serving_default")
    return np.concatenate([runner(pixels=image[None].astype(np.float32))["probabilities"] for image in pixels])


def images() -> Any:
    return np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", TFLITE)
def test_weights_are_aligned_inside_the_flatbuffer(exported_run: Path, name: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = (exported_run / name).read_bytes()
    assert content[4:8] == b"TFL3"
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    held = [buffer for buffer in buffers if not buffer.DataIsNone()]
    assert len(held) > 10 and all((buffer.Offset(), buffer.Size()) == (0, 0) for buffer in buffers)
    assert {buffer._tab.Vector(buffer._tab.Offset(4)) % 16 for buffer in held} == {0}
    names = [model.Metadata(index).Name() for index in range(model.MetadataLength())]
    assert names.count(b"TFLITE_METADATA") == 1 and b"min_runtime_version" in names


def test_weights_outside_the_flatbuffer_are_moved_inside(exported_run: Path) -> None:
    said = describe(Bundle.open(exported_run).manifest)
    plain = (exported_run / "model.fp32.tflite").read_bytes()
    outside = with_weights_outside(plain)
    answers = run_tflite(plain, images())
    np.testing.assert_array_equal(run_tflite(outside, images()), answers)
    taken = with_metadata(outside, said, ["probabilities"])
    np.testing.assert_array_equal(run_tflite(taken, images()), answers)
    assert taken == with_metadata(plain, said, ["probabilities"])


def test_output_is_deterministic_and_metadata_is_replaced(exported_run: Path) -> None:
    said = describe(Bundle.open(exported_run).manifest)
    first = with_metadata((exported_run / "model.fp32.tflite").read_bytes(), said, ["probabilities"])
    assert with_metadata(first, said, ["probabilities"]).count(b"TFLITE_METADATA") == 1
    renamed = with_metadata(first, replace(said, name="another"), ["probabilities"])
    entry = flatbuffer(renamed).metadata[-1]
    assert entry.name == b"TFLITE_METADATA"
    assert b"another" in bytes(flatbuffer(renamed).buffers[entry.buffer].data)


def test_unexpected_outputs_are_refused(exported_run: Path) -> None:
    said = describe(Bundle.open(exported_run).manifest)
    content = (exported_run / "model.fp32.tflite").read_bytes()
    with pytest.raises(SkinedgeError, match="outputs are probabilities, expected probabilities, logits"):
        with_metadata(content, said, ["probabilities", "logits"])


@pytest.mark.parametrize("name", TFLITE)
def test_labels_are_in_every_place_where_clients_look(exported_run: Path, name: str) -> None:
    labels = Bundle.open(exported_run).manifest.labels
    with zipfile.ZipFile(exported_run / name) as archive:
        for file in ("labels.txt", "labels_without_background.txt"):
            assert archive.read(file).decode() == "".join(f"{label}\n" for label in labels)
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_metadata_is_readable(exported_run: Path, precision: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(exported_run / f"model.{precision}.onnx"), providers=["CPUExecutionProvider"]
    )
    said = session.get_modelmeta().custom_metadata_map
    manifest = Bundle.open(exported_run).manifest
    assert ModelDescription.from_json(said.pop(KEY), "test").labels == manifest.labels
    assert said.pop("resize").endswith("cut out the centre 64 x 64.")
    assert "Not for diagnosis" in said.pop("intended_use")
    assert said == {
        "labels": "\n".join(manifest.labels),
        "input": "float32 NHWC, RGB, 64 x 64, 0 (black) to 255 (white)",
        "input_contract": "pixels: the pixel itself (skinedge: RGB 0..255 as it is)",
        "domain": "synthetic",
        "notice": "Research tool, not a medical device.",
        "model_author": "skinedge",
        "model_license": manifest.license,
        "attribution": manifest.attribution,
    }


def test_a_contracts_formula_matches_its_encoding() -> None:
    pixels = np.array([0, 1, 127, 255], dtype=np.uint8)
    for contract in CONTRACTS.values():
        text = formula(contract).replace("the pixel itself", "pixel")
        expected = eval(text, {"pixel": pixels.astype(np.float64)})
        np.testing.assert_allclose(contract.encode(pixels), expected, atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_the_card_of_a_file(exported_run: Path, name: str) -> None:
    """Compare with the manifest's JSON and the file's bytes, not with the code that wrote it."""
    manifest = json.loads((exported_run / "manifest.json").read_text())
    content = (exported_run / name).read_bytes()
    found = json.loads((exported_run / f"{name}.skinedge.json").read_text())
    assert (found["file"], found["size_bytes"], found["run_id"]) == (name, len(content), manifest["id"])
    assert found["sha256"] == hashlib.sha256(content).hexdigest()
    assert found["precision"] == name.split(".")[1] and found["versions"]
    batch = -1 if name.endswith("onnx") else 1
    assert found["input"] == {
        "name": "pixels",
        "shape": [batch, 64, 64, 3],
        "dtype": "float32",
        "layout": "NHWC",
        "colour": "RGB",
        "contract": "pixels",
        "formula": "the pixel itself",
        "black": 0.0,
        "white": 255.0,
    }
    (output,) = found["outputs"]
    assert (output["name"], output["shape"], output["dtype"]) == ("probabilities", [batch, 7], "float32")
    assert found.get("oldest_runtime") == ("1.14" if name.endswith("onnx") else None)
    assert found["resize"]["size"] == 64 and found["resize"]["crop"] == "centre"
    assert [(row["index"], row["label"]) for row in found["classes"]] == list(enumerate(manifest["labels"]))
    assert {row["label"]: row["group"] for row in found["classes"]} == manifest["taxonomy"]
    assert {row["label"]: row["prior"] for row in found["classes"]} == manifest["class_prior"]
    score = found["malignant_score"]
    assert score["sum_of"] == [label for label in manifest["labels"] if manifest["taxonomy"][label] != "benign"]
    assert score["flag_from"] == manifest["thresholds"][name] and score["fitted_to_this_file"] is True
    assert found["melanoma"] == "mel" and found["synthetic"] is True
    for key in ("domain", "license", "attribution"):
        assert found[key] == manifest[key] != ""
    assert "not a medical device" in found["notice"] and "Not for diagnosis" in found["intended_use"]


def embedded_description(bundle: Bundle, name: str) -> ModelDescription:
    return ModelDescription.from_json(open_file(bundle.root / name).session.metadata[KEY], name)


def test_a_card_that_disagrees_with_its_file_is_reported(run_copy: Bundle) -> None:
    name = "model.int8.onnx"
    entry, said = run_copy.entries()[name], embedded_description(run_copy, name)
    found = read_card(run_copy.root / card_name(name))
    assert disagreement(found, run_copy.manifest, entry, said) is None
    found["malignant_score"]["flag_from"] = 0.9
    found["surprise"] = 1
    del found["license"]
    problem = disagreement(found, run_copy.manifest, entry, said)
    assert problem == "its card has other values for: license, malignant_score, surprise"


def test_cards_follow_thresholds_and_files(run_copy: Bundle) -> None:
    assert write_cards(run_copy).manifest == run_copy.manifest  # nothing to do
    gone = "model.fp32.onnx"
    with run_copy.stage("thresholds", "test", {}) as stage:
        stage.set(thresholds={"default": 0.4, "model.int8.tflite": 0.3})
        stage.remove(gone)
    bundle = write_cards(run_copy.reload())
    scores = {name: read_card(bundle.file(card_name(name)))["malignant_score"] for name in FILES if name != gone}
    assert scores["model.int8.tflite"]["flag_from"] == 0.3
    assert (scores["model.int8.onnx"]["flag_from"], scores["model.int8.onnx"]["fitted_to_this_file"]) == (0.4, False)
    assert not bundle.has(card_name(gone)) and not (bundle.root / card_name(gone)).exists()
    assert len(bundle.model_files()) == 3


@pytest.fixture
def alone(run_copy: Bundle, tmp_path: Path) -> Path:
    """Copy a file and its card without their run."""
    (tmp_path / "alone").mkdir()
    for name in ("model.int8.tflite", card_name("model.int8.tflite")):
        shutil.copy(run_copy.root / name, tmp_path / "alone" / name)
    return tmp_path / "alone" / "model.int8.tflite"


def test_a_file_without_its_run_uses_its_cards_threshold(run_copy: Bundle, alone: Path) -> None:
    model = open_file(alone)
    assert model.threshold == run_copy.manifest.thresholds[alone.name] and model.assumptions == ()
    alone.with_name(card_name(alone.name)).unlink()
    assert open_file(alone).threshold is None and "no run or card" in open_file(alone).assumptions[0]


def test_the_merged_networks_threshold_is_reported_as_assumed(alone: Path) -> None:
    change_card(alone, lambda said: said["malignant_score"].update(fitted_to_this_file=False))
    assert "no threshold was fitted for this file" in open_file(alone).assumptions[0]


def change_card(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = file.with_name(card_name(file.name))
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda said: said.update(sha256="0" * 64), "belongs to another file"),
        (lambda said: said["classes"].reverse(), "contradicts"),
        (lambda said: said["classes"][4].update(group="benign"), "contradicts"),
        (lambda said: said.update(run_id="another"), "contradicts"),
        (lambda said: said.pop("classes"), "contradicts"),
        (lambda said: said["malignant_score"].update(flag_from=None), "no valid threshold"),
        (lambda said: said["malignant_score"].update(flag_from=-0.1), "no valid threshold"),
        (lambda said: said.update(malignant_score=0.3), "no valid threshold"),
        (lambda said: said.update(schema="another/1"), "not a model file's card"),
    ],
)
def test_a_card_that_does_not_belong_to_the_file_is_an_error(
    alone: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    change_card(alone, change)
    with pytest.raises(BundleError, match=problem):
        open_file(alone)


def test_a_card_that_is_not_json_is_an_error(alone: Path) -> None:
    alone.with_name(card_name(alone.name)).write_text("{")
    with pytest.raises(BundleError, match="not a model file's card"):
        open_file(alone)


def test_a_file_that_was_changed_after_its_card_was_written_is_refused(alone: Path) -> None:
    said = ModelDescription.from_json(open_file(alone).session.metadata[KEY], "test")
    alone.write_bytes(with_metadata(alone.read_bytes(), replace(said, name="another"), ["probabilities"]))
    from skinedge_export.formats.metadata import append_zip

    append_zip(alone, said)
    with pytest.raises(BundleError, match="or the file was changed"):
        open_file(alone)
