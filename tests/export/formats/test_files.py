"""The four files of a run, each read with its own library, compared with the network in PyTorch."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.run.embedded_metadata import ModelDescription, describe
from skinedge.run.golden import load as load_golden
from skinedge.run.run_directory import Bundle
from skinedge.training.merge import load_merged
from skinedge_export.converter import ExportJob
from skinedge_export.formats.onnx import convert as onnx_convert
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.int8.equalization import equalize
from skinedge_export.int8.gptq import round_weights

FILES = ("model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite")


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def run_onnx(path: Path, pixels):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})[0]


def run_tflite(path: Path, pixels):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return np.concatenate([runner(pixels=p[None].astype(np.float32))["probabilities"] for p in pixels])


def run_file(path: Path, pixels):
    return (run_onnx if path.suffix == ".onnx" else run_tflite)(path, pixels)


@pytest.mark.parametrize("name", FILES)
def test_probabilities_are_pytorchs(exported_run: Path, name: str) -> None:
    golden = load_golden(exported_run / "golden.npz")
    expected = softmax(golden.logits)
    found = run_file(exported_run / name, golden.pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    if "fp32" in name:
        np.testing.assert_allclose(found, expected, atol=2e-5)
    else:
        assert (
            np.abs(found - expected).mean() < 0.06
        )  # chance is 0.2: synthetic images are unlike those it was fitted on


@pytest.mark.parametrize("name", FILES)
def test_real_validation_images_get_pytorchs_label(exported_run: Path, name: str) -> None:
    bundle = Bundle.open(exported_run)
    val = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == "val"]
    pixels = load_prepared(Path(bundle.manifest.data_root), val, bundle.manifest.preprocess)
    labels = np.array([bundle.manifest.labels.index(sample.label) for sample in val])
    assert (run_file(exported_run / name, pixels).argmax(axis=1) == labels).mean() > 0.97


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_is_one_valid_file_with_a_dynamic_batch(exported_run: Path, precision: str) -> None:
    import onnx

    path = exported_run / f"model.{precision}.onnx"
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 8  # the first with opset 18; ONNX Runtime 1.14, the first with opset 18, refuses 10
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
    assert b"/" + b"site-packages/" not in path.read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3))
    whole = run_onnx(path, pixels)
    assert whole.shape == (5, 7)
    np.testing.assert_allclose(whole[3:4], run_onnx(path, pixels[3:4]), atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_files_contain_their_description(exported_run: Path, precision: str) -> None:
    import onnx

    manifest = Bundle.open(exported_run).manifest
    props = {p.key: p.value for p in onnx.load(exported_run / f"model.{precision}.onnx").metadata_props}
    with zipfile.ZipFile(exported_run / f"model.{precision}.tflite") as archive:
        assert sorted(archive.namelist()) == ["labels.txt", "labels_without_background.txt", "skinedge.json"]
        labels, text = archive.read("labels.txt").decode(), archive.read("skinedge.json").decode()
    assert props["labels"].split("\n") == labels.split() == list(manifest.labels)
    for said in (props["skinedge"], text):
        assert ModelDescription.from_json(said, "test") == describe(manifest, precision)


def test_int8_softmax_is_not_quantized(exported_run: Path) -> None:
    golden = load_golden(exported_run / "golden.npz")
    for name in ("model.int8.onnx", "model.int8.tflite"):
        found = run_file(exported_run / name, golden.pixels)
        assert np.abs(found * 256 - np.round(found * 256)).max() > 0.1


def test_black_and_white_pixels_are_not_clipped(exported_run: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(exported_run / "model.int8.tflite"))
    start = interpreter.get_input_details()[0]["index"]
    tensors = {t["index"]: t for t in interpreter.get_tensor_details()}
    first = next(op for op in interpreter._get_ops_details() if start in op["inputs"])
    assert first["op_name"] == "QUANTIZE"
    assert tensors[first["outputs"][0]]["quantization"] == (1.0, -128)


@pytest.mark.parametrize("module", [onnx_convert, tflite_convert])
def test_the_order_of_the_calibration_images_changes_nothing(exported_run: Path, tmp_path: Path, module) -> None:
    bundle = Bundle.open(exported_run)
    converter = module.converter
    images = np.random.default_rng(1).integers(0, 256, (12, 64, 64, 3)).astype(np.uint8)
    images = (images * np.linspace(0.2, 1, 12)[:, None, None, None]).astype(np.uint8)
    network, rule = load_merged(bundle), bundle.manifest.preprocess

    def quantized(calibration, name: str) -> bytes:
        rounded = round_weights(equalize(network, calibration, rule), calibration, rule)
        job = ExportJob(rounded, describe(bundle.manifest, "int8"), converter.recipe("int8"), calibration=calibration)
        return converter.convert(job, tmp_path / name).path.read_bytes()

    forward = quantized(images, "forward")
    assert quantized(images[::-1], "backward") == forward
    assert quantized(images[:8], "fewer") != forward


@pytest.mark.parametrize("module", [onnx_convert, tflite_convert])
def test_int8_without_calibration_images_is_an_error(exported_run: Path, tmp_path: Path, module) -> None:
    from skinedge.core.errors import ConfigError

    converter = module.converter
    bundle = Bundle.open(exported_run)
    job = ExportJob(load_merged(bundle), describe(bundle.manifest, "int8"), converter.recipe("int8"))
    with pytest.raises(ConfigError, match="calibration images"):
        converter.convert(job, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
