"""A packed model rebuilds its omitted files from adapter, base weights and calibration, without images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skinedge.core.errors import DataError, GateError
from skinedge.core.files import sha256
from skinedge.network import lora, model
from skinedge.publish.package import ship
from skinedge.run import golden
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import Reading
from skinedge.training import merge
from skinedge_bench.verify.verify import verify
from skinedge_export.export import export
from skinedge_export.target import export_targets


@pytest.fixture(scope="module")
def verified(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("verified") / "run")))
    verify(bundle)
    return bundle.reload()


@pytest.fixture
def packed(verified: Bundle, tmp_path: Path) -> Bundle:
    return ship(verified, tmp_path / "packed")


def test_fp32_is_exported_again_without_images(
    verified: Bundle, packed: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: packed.file(name).read_bytes() for name in ("golden.npz", "reference.npz", "model.int8.onnx")}
    bundle = export(packed, export_targets(("onnx",)))
    assert {entry.path for entry in bundle.model_files()} == {"model.fp32.onnx", "model.int8.onnx", "model.int8.tflite"}
    assert all(bundle.fits_model(entry) for entry in bundle.model_files())
    assert {name: bundle.file(name).read_bytes() for name in before} == before
    original, rebuilt = (model.read_state(b.file(MODEL)) for b in (verified, bundle))
    assert original.keys() == rebuilt.keys()
    for name, tensor in original.items():
        np.testing.assert_allclose(rebuilt[name].numpy(), tensor.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)
    assert bundle.manifest.calibration == verified.manifest.calibration
    assert bundle.manifest.thresholds == packed.manifest.thresholds
    assert verify(bundle).passed
    assert merge.merge(bundle).root == bundle.root and "without images" in capsys.readouterr().err
    assert merge.merge(bundle).entries()[MODEL] == bundle.entries()[MODEL]  # nothing to do


def test_rounding_differences_of_another_cpu_make_an_equivalent_model(packed: Bundle) -> None:
    """As when BLAS sums in another order: different bytes, the same network."""
    text = (packed.root / "manifest.json").read_text()
    (packed.root / "manifest.json").write_text(text.replace(str(packed.model_sha256), "0" * 64))
    bundle = merge.merge(packed.reload())
    assert bundle.entries()[MODEL].info["same_as"] == "0" * 64 != bundle.entries()[MODEL].sha256
    assert all(bundle.fits_model(entry) for entry in bundle.model_files())
    assert verify(bundle).passed


def test_another_reading_or_int8_needs_images(packed: Bundle) -> None:
    before = {path: path.read_bytes() for path in packed.root.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match="needs the images of the cal and test splits"):
        export(packed, export_targets(("onnx",)), reading=Reading("training"))
    assert {path: path.read_bytes() for path in packed.root.rglob("*") if path.is_file()} == before
    merged = merge.merge(packed)
    with pytest.raises(DataError, match="int8 needs the training images"):
        export(merged, export_targets(("onnx",), int8=True), force=True)
    assert merged.reload().manifest == merged.manifest


def test_with_images_another_reading_can_be_merged(packed: Bundle, synthetic_images: Path) -> None:
    bundle = merge.merge(packed, synthetic_images, Reading("training"))
    assert bundle.manifest.class_prior == bundle.manifest.training["data"]["training_prior"]
    assert not any(bundle.fits_model(entry) for entry in bundle.model_files())


def with_golden_logits(packed: Bundle, logits: NDArray[np.float32], **changes: object) -> Bundle:
    """Return the packed run with other golden logits, and changes to its manifest."""
    vectors = golden.load(packed.file("golden.npz"))
    path = packed.root / "golden.npz"
    golden.save(path, golden.Golden(vectors.pixels, vectors.sources, logits.astype(np.float32)))
    raw = json.loads((packed.root / "manifest.json").read_text())
    for entry in raw["stages"]["merge"]["files"]:
        entry["sha256"] = sha256(path) if entry["path"] == "golden.npz" else entry["sha256"]
    (packed.root / "manifest.json").write_text(json.dumps({**raw, **changes}))
    return packed.reload()


def test_a_network_with_other_golden_logits_is_refused(packed: Bundle) -> None:
    changed = with_golden_logits(packed, golden.load(packed.file("golden.npz")).logits + 0.01)
    with pytest.raises(GateError, match="differ from the golden logits"):
        merge.merge(changed)
    assert not (packed.root / MODEL).exists()


def test_a_packed_run_without_calibration_merges_again(packed: Bundle) -> None:
    """As packed by versions before calibration: the golden logits are the network's own, and nothing is folded."""
    fitted, vectors = packed.manifest.calibration, golden.load(packed.file("golden.npz"))
    raw = (vectors.logits - np.array(fitted["bias"])) * fitted["temperature"]
    assert merge.merge(with_golden_logits(packed, raw, calibration={})).has(MODEL)


def test_plain_peft_loads_the_adapter_of_a_packed_run(verified: Bundle, packed: Bundle) -> None:
    """None of our code is between timm's network, peft and the packed logits."""
    import torch

    config = packed.manifest.training["config"]
    net, _ = model.load(config["backbone"], len(packed.manifest.labels), config["weights"], config["seed"])
    adapted = lora.load_adapter(net, packed.root / "adapter")
    vectors, rule = golden.load(packed.file("golden.npz")), packed.manifest.preprocess
    with torch.inference_mode():
        raw = torch.cat([adapted(images) for images in model.inputs(vectors.pixels, rule)]).numpy()
    fitted = packed.manifest.calibration
    np.testing.assert_allclose(raw / fitted["temperature"] + np.array(fitted["bias"]), vectors.logits, atol=1e-4)
