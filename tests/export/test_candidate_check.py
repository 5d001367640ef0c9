"""Gates on candidate files: real files in their runtimes, compared with right and wrong references."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import GateError
from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.run import golden, plugins
from skinedge.run.embedded_metadata import describe
from skinedge.run.run_directory import Bundle
from skinedge.training import merge
from skinedge_export.candidate_check import Reference, check_candidate, check_network, heatmap_gate


@pytest.fixture(scope="module")
def bundle(exported_run: Path) -> Bundle:
    return Bundle.open(exported_run)


@pytest.fixture(scope="module")
def drawn(bundle: Bundle) -> Reference:
    known = golden.load(bundle.file("golden.npz"))
    return Reference(known.pixels, known.logits)


@pytest.fixture(scope="module")
def val(bundle: Bundle) -> Reference:
    chosen = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == "val"]
    pixels = load_prepared(Path(bundle.manifest.data_root), chosen, bundle.manifest.preprocess)
    logits = merge.eager_logits(merge.load_merged(bundle), pixels, bundle.manifest.preprocess)
    labels = np.array([bundle.manifest.labels.index(sample.label) for sample in chosen])
    return Reference(pixels, logits, labels)


def check(bundle: Bundle, name: str, drawn: Reference, val: Reference | None, **changes):
    _, precision, suffix = name.split(".")
    runtime = plugins.load(plugins.RUNTIMES, {"onnx": "onnxruntime", "tflite": "litert"}[suffix])
    description = replace(describe(bundle.manifest, precision), **changes)
    return check_candidate(bundle.root / name, description, runtime, drawn, val, 0.5).gates


def failed(bundle: Bundle, name: str, drawn: Reference, val: Reference | None, **changes) -> set[str]:
    return {gate.name for gate in check(bundle, name, drawn, val, **changes) if gate.verdict == "fail"}


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_right_file_passes(bundle: Bundle, drawn: Reference, val: Reference, precision: str, suffix: str) -> None:
    gates = check(bundle, f"model.{precision}.{suffix}", drawn, val)
    assert {gate.verdict for gate in gates} <= {"pass", "inconclusive"}


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_another_label_order_fails(bundle: Bundle, drawn: Reference, val: Reference, suffix: str) -> None:
    assert failed(bundle, f"model.fp32.{suffix}", drawn, val, labels=bundle.manifest.labels[::-1]) == {"description"}


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_int8_that_contradicts_the_reference_fails(
    bundle: Bundle, drawn: Reference, val: Reference, suffix: str
) -> None:
    rolled = replace(val, logits=np.roll(val.logits, 1, axis=1))
    assert {"agreement", "malignant_score_change"} <= failed(bundle, f"model.int8.{suffix}", drawn, rolled)


def test_fp32_off_by_more_than_the_limit_on_one_validation_image_fails(
    bundle: Bundle, drawn: Reference, val: Reference
) -> None:
    logits = val.logits.copy()
    ordered = np.sort(logits, axis=1)
    closest = (ordered[:, -1] - ordered[:, -2]).argmin()  # a saturated softmax would hide it
    logits[closest, logits[closest].argmax()] += 0.01
    assert failed(bundle, "model.fp32.tflite", drawn, replace(val, logits=logits)) == {"max_difference"}


def test_int8_without_validation_images_is_inconclusive(bundle: Bundle, drawn: Reference) -> None:
    gates = {gate.name: gate.verdict for gate in check(bundle, "model.int8.onnx", drawn, None)}
    assert gates["agreement"] == "inconclusive"


MAPS = np.random.default_rng(0).normal(size=(3, 4, 4, 7)).astype(np.float32)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [0, 1])
def test_no_heatmap_that_is_not_finite_passes(poison: float, side: int) -> None:
    maps = [MAPS.copy(), MAPS.copy()]
    assert heatmap_gate(*maps, 0.2).verdict == "pass"
    maps[side][1, 2, 3, 4] = poison
    assert heatmap_gate(*maps, 0.2).verdict == "fail"


@pytest.mark.parametrize("other", [MAPS[:0], MAPS[:, :1, :1], MAPS[:1], None])
def test_no_heatmap_of_another_shape_passes(other: np.ndarray | None) -> None:
    """NumPy would stretch a map of one pixel, or of one image, to the other's shape."""
    assert heatmap_gate(MAPS, other, 1e9).verdict == heatmap_gate(other, MAPS, 1e9).verdict == "fail"


def test_no_heatmaps_are_no_pass() -> None:
    assert heatmap_gate(MAPS[:0], MAPS[:0], 1e9).verdict == "fail"


def test_a_network_with_other_outputs_than_labels_is_refused(bundle: Bundle) -> None:
    network = merge.load_merged(bundle)
    check_network(network, bundle.manifest.labels, 64)
    with pytest.raises(GateError, match="7 outputs, the manifest 6 labels"):
        check_network(network, bundle.manifest.labels[:6], 64)
