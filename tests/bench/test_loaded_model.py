"""Opening a run's file, a file outside a run, and files that contradict their run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from class_edits import edit_json, with_right_hashes

from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.files import sha256
from skinedge.run.run_directory import Bundle
from skinedge_bench.loaded_model import open_file, open_listed, run_of

Foreign = Callable[..., Path]


def relabel(bundle: Bundle, name: str, change: Callable[[dict[str, object]], None]) -> Bundle:
    """Change the embedded description of an ONNX file, and update its hash in the manifest and the card."""
    import onnx

    path = bundle.root / name
    model = onnx.load(path)
    for prop in model.metadata_props:
        if prop.key == "skinedge":
            description = json.loads(prop.value)
            change(description)
            prop.value = json.dumps(description)
    onnx.save(model, path)
    with_right_hashes(bundle.root)
    return bundle.reload()


def test_the_default_file_of_a_run_is_opened(tiny_run: Path) -> None:
    bundle = Bundle.open(tiny_run)
    model = open_listed(bundle)
    assert model.name == bundle.manifest.default_file
    assert model.labels == bundle.manifest.labels
    assert model.malignant == bundle.manifest.malignant
    assert model.sha256 == sha256(model.path)
    assert model.labels[model.melanoma or 0] == "mel"
    assert model.size == bundle.manifest.preprocess.size and model.synthetic


def test_a_files_own_threshold_takes_precedence(run: Bundle) -> None:
    with run.stage("thresholds", "test", {}) as stage:
        stage.set(thresholds={"default": 0.4, "model.int8.onnx": 0.3})
    bundle = run.reload()
    assert open_listed(bundle, "model.int8.onnx").threshold == 0.3
    assert open_listed(bundle, "model.fp32.onnx").threshold == 0.4


def test_a_changed_file_is_refused(run: Bundle) -> None:
    with (run.root / "model.fp32.onnx").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleError, match="does not match the hash"):
        open_listed(run, "model.fp32.onnx")
    with pytest.raises(BundleError, match="does not match the hash"):
        open_file(run.root / "model.fp32.onnx")


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.fp32.tflite"])
def test_a_card_of_other_bytes_is_refused(run: Bundle, name: str) -> None:
    """The hashes of the manifest are right: the file was replaced, and its hash in the manifest with it."""
    edit_json(run.root / f"{name}.skinedge.json", lambda card: card.update(sha256="0" * 64))
    with_right_hashes(run.root)
    with pytest.raises(BundleError, match=f"the card is of other bytes than {name} has"):
        open_listed(run.reload(), name)


def test_an_unlisted_file_is_refused_with_a_list_of_files(run: Bundle) -> None:
    with pytest.raises(BundleError, match=r"model\.int8\.tflite"):
        open_listed(run, "model.int4.tflite")


def test_a_run_without_exported_files_gives_an_error_with_advice(run: Bundle) -> None:
    with run.stage("none", "test", {}) as stage:
        stage.set(default_file=None)
    with pytest.raises(BundleError, match="skinedge export"):
        open_listed(run.reload())


def test_labels_in_another_order_are_refused(run: Bundle) -> None:
    def swap(description: dict[str, object]) -> None:
        labels = description["labels"]
        assert isinstance(labels, list)
        labels[0], labels[1] = labels[1], labels[0]

    with pytest.raises(BundleError, match="labels"):
        open_listed(relabel(run, "model.fp32.onnx", swap), "model.fp32.onnx")


def test_other_preprocessing_is_refused(run: Bundle) -> None:
    def shift(description: dict[str, object]) -> None:
        rule = description["preprocess"]
        assert isinstance(rule, dict)
        rule["mean"] = [123.0, 117.0, 104.0]

    with pytest.raises(BundleError, match="preprocessing"):
        open_listed(relabel(run, "model.fp32.onnx", shift), "model.fp32.onnx")


def test_a_file_of_another_run_is_refused(run: Bundle) -> None:
    changed = relabel(run, "model.fp32.onnx", lambda description: description.update(run_id="another"))
    with pytest.raises(BundleError, match="another"):
        open_listed(changed, "model.fp32.onnx")


def test_the_melanoma_class_is_the_one_in_the_manifest(run: Bundle) -> None:
    """Not a class with a similar name: the user's [taxonomy] may define another."""
    text = (run.root / "manifest.json").read_text()
    assert text.count('"melanoma": "mel"') == 1
    (run.root / "manifest.json").write_text(text.replace('"melanoma": "mel"', '"melanoma": "vasc"'))
    with pytest.raises(BundleError, match="melanoma class is mel, the run's is vasc"):
        open_listed(run.reload(), "model.fp32.onnx")
    changed = relabel(run.reload(), "model.fp32.onnx", lambda description: description.update(melanoma="vasc"))
    model = open_listed(changed, "model.fp32.onnx")
    assert model.melanoma is not None and model.labels[model.melanoma] == "vasc"
    copy = open_file(Path(shutil.copy(model.path, run.root.parent / "copy.onnx")))
    assert copy.melanoma == model.melanoma


@pytest.mark.parametrize("name", ["model.int8.tflite", "model.fp32.onnx", "model.safetensors"])
def test_a_skinedge_file_outside_a_run_only_lacks_a_threshold(tiny_run: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(tiny_run / name, tmp_path / name)
    manifest = Bundle.open(tiny_run).manifest
    model = open_file(tmp_path / name)
    assert (model.labels, model.model_id, model.malignant) == (manifest.labels, manifest.id, manifest.malignant)
    assert model.threshold is None and "threshold" in model.assumptions[0]
    assert run_of(model.path) is None
    inside = open_file(tiny_run / name)
    assert inside.threshold is not None and run_of(inside.path) is not None


def test_assumptions_about_a_third_party_file_are_listed(foreign: Foreign) -> None:
    model = open_file(foreign())
    assert model.labels == ("class 0", "class 1", "class 2") and model.size == 8
    assert model.malignant is None and model.melanoma is None and model.model_id is None
    assert any("0..255" in text for text in model.assumptions)
    assert any("numbered" in text for text in model.assumptions)


def test_third_party_labels_are_looked_up_in_the_taxonomy(foreign: Foreign) -> None:
    model = open_file(foreign(labels="nevus\nmelanoma\nbcc\n"))
    assert model.labels == ("nevus", "melanoma", "bcc")
    assert model.malignant == (1, 2) and model.melanoma == 1
    pixels = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    pixels[..., 1] = 200
    assert model.run(pixels).probabilities.argmax() == 1


def test_a_label_list_in_python_syntax_is_read(foreign: Foreign) -> None:
    assert open_file(foreign(labels="['nevus', 'melanoma', 'bcc']")).labels == ("nevus", "melanoma", "bcc")
    assert open_file(foreign(labels='["nevus", "melanoma", "bcc"]')).labels == ("nevus", "melanoma", "bcc")
    with pytest.raises(ConfigError, match="label list cannot be read"):
        open_file(foreign(labels="['nevus', melanoma, bcc"))


def test_labels_that_do_not_match_the_outputs_are_refused(foreign: Foreign) -> None:
    with pytest.raises(ConfigError, match="2 labels but has 3 outputs"):
        open_file(foreign(labels="nevus\nmelanoma"))


@pytest.mark.parametrize("field", ["license", "attribution"])
def test_another_licence_or_attribution_than_the_runs_is_refused(run: Bundle, field: str) -> None:
    bundle = relabel(run, "model.fp32.onnx", lambda description: description.update({field: "Someone else"}))
    with pytest.raises(BundleError, match="Someone else"):
        open_listed(bundle, "model.fp32.onnx")
