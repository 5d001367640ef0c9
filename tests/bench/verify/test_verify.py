"""skinedge verify: correct files pass, wrong files are named, missing images are reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_edits import with_right_hashes

from skinedge.core.errors import BundleError
from skinedge.core.files import sha256
from skinedge.core.outputs import Outputs
from skinedge.data.dataset import read_split
from skinedge.data.read_options import DEFAULT
from skinedge.run import golden
from skinedge.run.class_order import Reference
from skinedge.run.manifest import FileEntry
from skinedge.run.plugins import Session
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate
from skinedge.system.cpu_features import cpu_features, instruction_set
from skinedge_bench.verify import verify as subject

Cli = Callable[..., tuple[int, str, str]]
FILES = ["golden.npz", "model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"]


def replace_file(bundle: Bundle, stage_name: str, name: str, data: bytes, **info: object) -> Bundle:
    """Put other content under a listed name, as a faulty stage would."""
    stages = bundle.manifest.stages
    owner = next(key for key, stage in stages.items() if any(f.path == name for f in stage.files))
    others = [f for f in stages[owner].files if f.path != name]
    entry = bundle.entries()[name]
    with bundle.stage(owner, stage_name, entry.made_from) as stage:
        stage.path(name, **{**entry.info, **info}).write_bytes(data)
        for other in others:
            stage.path(other.path, **other.info).write_bytes((bundle.root / other.path).read_bytes())
    return bundle.reload()


def test_every_file_is_verified_and_the_report_is_written(cli: Cli, run: Bundle) -> None:
    code, out, _ = cli("verify", run.root, "--json")
    document = json.loads(out)
    assert document["schema"] == "skinedge.verify/2" and list(document["files"]) == FILES
    assert document["passed"] == (code == 0)
    for name in ("model.fp32.onnx", "model.fp32.tflite"):
        said = document["files"][name]
        assert said["passed"] and said["metrics"]["max_difference"] <= 1e-3
        assert {gate["name"] for gate in said["gates"]} >= {"description", "max_difference", "argmax_flips", "finite"}
    for name in ("model.int8.onnx", "model.int8.tflite"):
        verdicts = {gate["name"]: gate["verdict"] for gate in document["files"][name]["gates"]}
        assert {"agreement", "balanced_accuracy_fall", "golden_agreement"} <= set(verdicts)
    bundle = run.reload()
    kept = json.loads(bundle.file("reports/parity.json").read_text())
    assert kept == document and document["model_id"] == run.manifest.id
    assert document["model_sha256"] == run.entries()["model.safetensors"].sha256
    assert sorted(f.path for f in bundle.manifest.stages["verify"].files) == ["reports/parity.json"]


def test_the_metrics_are_those_of_the_test_split(run: Bundle) -> None:
    report = subject.verify(run)
    reference = subject.read_reference(run)
    test = [sample for sample in read_split(run.root / "split.csv") if sample.split == "test"]
    assert report.reference is not None and report.reference.n == len(test) == len(reference.labels)
    share = float(np.mean(reference.logits.argmax(axis=1) == reference.labels))
    assert report.reference.accuracy == pytest.approx(share)
    by_name = {file.name: file.figures for file in report.files}
    exact = by_name["model.fp32.onnx"]
    assert exact is not None and exact.agreement == 1.0 and exact.fall == 0.0
    assert exact.accuracy == pytest.approx(share)


def test_each_changed_diagnosis_is_in_the_report_and_the_first_ten_on_screen(
    cli: Cli, run: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An int8 file whose predictions are those of other classes."""
    test = [sample for sample in read_split(run.root / "split.csv") if sample.split == "test"]
    whole = subject.run_all

    def rotated(sessions: dict[str, Session], *rest: Any) -> dict[str, Outputs]:
        outputs = whole(sessions, *rest)
        said = outputs["model.int8.tflite"]
        return {**outputs, "model.int8.tflite": Outputs(np.roll(said.probabilities, 1, axis=1), said.logits)}

    monkeypatch.setattr(subject, "run_all", rotated)
    code, out, _ = cli("verify", run.root, "--json")
    document = json.loads(out)
    said = document["files"]["model.int8.tflite"]
    reference = subject.read_reference(run)
    by_id = {sample.image_id: place for place, sample in enumerate(test)}
    assert code == 1 and len(said["changed"]) == len(test) > 10
    for change in said["changed"]:
        place = by_id[change["image"]]
        assert change["label"] == run.manifest.labels[reference.labels[place]]
        assert change["reference"] == run.manifest.labels[reference.logits[place].argmax()]
    table = said["comparison"]["mcnemar"]
    assert sum(table[name] for name in ("both", "only_reference", "only_file", "neither")) == len(test)
    assert said["comparison"]["melanoma_sensitivity_fall"]["n"] == sum(s.label == run.manifest.melanoma for s in test)
    assert document["files"]["model.fp32.onnx"]["comparison"] is None
    assert document["instruction_set"] == list(instruction_set(cpu_features()))
    _, out, _ = cli("verify", run.root)
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if "model.int8.tflite: diagnosis changed" in line)
    assert f"{len(test)} of {len(test)} images, 10 shown" in " ".join(lines[start : start + 2])
    shown = [change["image"] for change in said["changed"] if any(change["image"] in line for line in lines[start:])]
    assert shown == [change["image"] for change in said["changed"][:10]]


def test_a_cpu_that_saturates_gives_a_warning(cli: Cli, run: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "cpu_features", lambda: frozenset({"sse4_1", "avx2", "fma"}))
    _, out, err = cli("verify", run.root / "model.int8.onnx")
    assert "warning: model.int8.onnx: this x86 CPU has no VNNI" in err
    _, out, err = cli("verify", run.root / "model.int8.onnx", "--json")
    document = json.loads(out)
    assert document["instruction_set"] == ["sse4_1", "avx2", "fma"] and "saturate" in document["warnings"][0]
    _, _, err = cli("verify", run.root / "model.int8.tflite")
    assert "warning" not in err


def test_the_table_in_the_terminal(cli: Cli, run: Bundle) -> None:
    _, out, _ = cli("verify", run.root)
    assert "model.int8.tflite" in out and "reference" in out
    assert all(len(line) <= 120 for line in out.splitlines())


def test_a_file_with_swapped_classes_fails_by_name_and_the_report_says_so(cli: Cli, run: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(run.root / "model.fp32.onnx")
    classes = len(run.manifest.labels)
    swap = np.arange(classes)
    swap[[0, 1]] = [1, 0]
    changed = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.shape and values.shape[0] == classes and "classifier" in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values[swap]), tensor.name))
            changed += 1
    assert changed == 2, [t.name for t in model.graph.initializer][-4:]
    bundle = replace_file(run, "wrong", "model.fp32.onnx", model.SerializeToString())
    code, out, err = cli("verify", bundle.root, "--json")
    assert code == 1 and "model.fp32.onnx: max_difference" in err and "Traceback" not in err
    said = json.loads(out)
    assert not said["passed"] and not said["files"]["model.fp32.onnx"]["passed"]
    assert said["files"]["model.fp32.tflite"]["passed"]
    kept = json.loads((bundle.root / "reports" / "parity.json").read_text())
    assert kept["passed"] is False


def test_a_file_with_other_labels_in_its_metadata_fails(cli: Cli, run: Bundle) -> None:
    import onnx

    model = onnx.load(run.root / "model.fp32.onnx")
    for prop in model.metadata_props:
        if prop.key == "skinedge":
            said = json.loads(prop.value)
            said["labels"] = said["labels"][::-1]
            prop.value = json.dumps(said)
    bundle = replace_file(run, "wrong", "model.fp32.onnx", model.SerializeToString())
    code, _, err = cli("verify", bundle.root)
    assert code == 1 and "model.fp32.onnx: description" in err


def test_without_images_only_the_golden_vectors_are_replayed(cli: Cli, imageless: Bundle) -> None:
    code, out, err = cli("verify", imageless.root, "--json")
    document = json.loads(out)
    assert "only the golden vectors" in document["images"] and "only the golden vectors" in err
    for name in FILES[1:]:
        gates = {gate["name"]: gate for gate in document["files"][name]["gates"]}
        lossy = ("agreement", "balanced_accuracy_fall", "melanoma_sensitivity_fall", "malignant_score_change")
        for gate in lossy if "int8" in name else ("max_difference", "argmax_flips"):
            assert gates[gate]["verdict"] == "not measured" and gates[gate]["value"] is None
        assert document["files"][name]["metrics"] is None
    assert document["files"]["model.fp32.onnx"]["passed"]
    code, out, err = cli("verify", imageless.root, "--strict", "--json")
    assert code == 1 and not json.loads(out)["files"]["model.fp32.onnx"]["passed"]
    assert "model.fp32.onnx: max_difference not measured" in err
    _, out, err = cli("verify", imageless.root)
    assert "without images" in out and "on test images" in out and "reference" not in out
    assert out.splitlines()[-1].startswith("No gate failed without images; not measured on test images")
    assert err.count("model.fp32.onnx: not measured: max_difference, argmax_flips: test images not found") == 1


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_a_folder_that_was_named_must_hold_the_images(cli: Cli, run: Bundle, tmp_path: Path, command: str) -> None:
    (tmp_path / "empty").mkdir()
    manifest = (run.root / "manifest.json").read_text()
    for folder, said in (("typo", "no such folder"), ("empty", "test split are missing")):
        code, out, err = cli(command, run.root, "--data", tmp_path / folder, "--json")
        assert code == 1 and out == "" and said in err and str(tmp_path / folder) in err
    assert (run.root / "manifest.json").read_text() == manifest


def test_results_on_the_test_images_are_kept(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    cli("verify", run.root)
    full = run.reload().file("reports/parity.json").read_text()
    root = json.loads((run.root / "manifest.json").read_text())["data_root"]

    def move(to: Path | str) -> None:
        raw = json.loads((run.root / "manifest.json").read_text())
        (run.root / "manifest.json").write_text(json.dumps({**raw, "data_root": str(to)}))

    move(tmp_path / "gone")
    _, _, err = cli("verify", run.root)
    assert "is kept" in err and run.reload().file("reports/parity.json").read_text() == full
    bundle = replace_file(run.reload(), "again", "model.fp32.onnx", (run.root / "model.fp32.onnx").read_bytes() + b"")
    cli("verify", bundle.root)
    assert bundle.reload().file("reports/parity.json").read_text() == full  # the same bytes, written again
    model = (run.root / "model.int8.onnx").read_bytes()
    bundle = replace_file(run.reload(), "swapped", "model.fp32.onnx", model, precision="int8")
    cli("verify", bundle.root)
    kept = json.loads(bundle.reload().file("reports/parity.json").read_text())
    assert "only the golden vectors" in kept["images"] and "kept from an earlier report" in kept["images"]
    assert kept["files"]["model.fp32.onnx"]["metrics"] is None  # other bytes: the previous result is of another file
    before = json.loads(full)
    for name in ("model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"):
        assert kept["files"][name]["metrics"] == before["files"][name]["metrics"]
        origin = kept["files"][name]["kept_from"]
        assert origin["instruction_set"] == before["instruction_set"] and str(root) not in origin["images"]
    raw = json.loads((run.root / "manifest.json").read_text())
    raw["thresholds"]["default"] += 0.01  # the verdict on the malignant score was at another threshold
    (run.root / "manifest.json").write_text(json.dumps(raw))
    cli("verify", run.root)
    kept = json.loads(run.reload().file("reports/parity.json").read_text())
    assert all(said["metrics"] is None for said in kept["files"].values()) and "kept from" not in kept["images"]
    move(root)
    cli("verify", run.root)
    kept = json.loads(run.reload().file("reports/parity.json").read_text())
    assert kept["files"]["model.int8.tflite"]["metrics"] is not None


def test_a_missing_or_changed_image_is_an_error(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    data = Path(shutil.copytree(run.manifest.data_root, tmp_path / "data"))
    test = [sample for sample in read_split(run.root / "split.csv") if sample.split == "test"]
    victim = data / test[3].path
    before, manifest = victim.read_bytes(), (run.root / "manifest.json").read_text()
    victim.write_bytes(before + b"\0")
    code, _, err = cli("verify", run.root, "--data", data)
    assert code == 1 and victim.name in err and "sha256" in err
    victim.unlink()
    code, _, err = cli("verify", run.root, "--data", data)
    assert code == 1 and "1 of the" in err and victim.name in err
    assert (run.root / "manifest.json").read_text() == manifest


def test_a_changed_model_file_is_an_error(cli: Cli, run: Bundle) -> None:
    with (run.root / "model.int8.tflite").open("ab") as stream:
        stream.write(b"x")
    code, _, err = cli("verify", run.root)
    assert code == 1 and "does not match the hash" in err


def test_a_run_without_exported_files_says_what_to_do(trained_run: Path) -> None:
    with pytest.raises(BundleError, match="skinedge export"):
        subject.verify(Bundle.open(trained_run))


def damaged(bundle: Bundle, name: str) -> Bundle:
    """Set every eighth weight of a file to zero, and update all hashes."""
    path = bundle.root / name
    if name.endswith("onnx"):
        import onnx
        from onnx import numpy_helper

        model = onnx.load(path)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor).copy()
            if values.dtype == np.int8 and values.ndim > 1:
                values.reshape(-1)[::8] = 0
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        content = model.SerializeToString()
    else:
        from ai_edge_litert import schema_py_generated as schema

        content = path.read_bytes()
        buffers = [bytes(b.data) for b in schema.ModelT.InitFromPackedBuf(content).buffers if b.data is not None]
        for weights in (data for data in buffers if len(data) >= 2048 and content.count(data) == 1):
            changed = bytearray(weights)
            changed[::8] = bytes(len(changed[::8]))
            content = content.replace(weights, bytes(changed))
    assert content != path.read_bytes()
    path.write_bytes(content)
    with_right_hashes(bundle.root)
    return bundle.reload()


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.int8.tflite"])
def test_damaged_weights_fail_without_images(cli: Cli, imageless: Bundle, name: str) -> None:
    """Every hash is right, and the golden images leave the predicted class open."""
    assert cli("verify", imageless.root)[0] == 0
    code, out, err = cli("verify", damaged(imageless, name).root, "--json")
    document = json.loads(out)
    failed = [file for file, result in document["files"].items() if not result["passed"]]
    assert code == 1 and failed == [name] and f"{name}: golden_outputs failed" in err


def test_golden_outputs_of_another_machine_may_differ_by_their_rounding(imageless: Bundle) -> None:
    name, vectors = "model.int8.onnx", golden.of_run(imageless)

    def gate_of(outputs: golden.GoldenOutputs | None) -> Gate | None:
        if outputs is not None:
            golden.save_outputs(imageless.root / golden.outputs_name(name), outputs)
            with_right_hashes(imageless.root)
        bundle = imageless.reload()
        gates = subject.file_gates(bundle, bundle.entries()[name], subject.open_session(bundle, name), vectors)
        return next((gate for gate in gates if gate.name == "golden_outputs"), None)

    recorded = golden.outputs_of(imageless, name, len(vectors.pixels))
    assert recorded is not None and recorded.environment[0].startswith("onnxruntime ")
    moved = recorded.probabilities + np.float32(0.008)
    for environment, shift, verdict in (
        (recorded.environment, recorded.probabilities, "pass"),
        (recorded.environment, moved, "fail"),
        (("onnxruntime 1.0",), moved, "pass"),
        (("onnxruntime 1.0",), moved + np.float32(0.008), "fail"),
    ):
        gate = gate_of(golden.GoldenOutputs(shift, environment))
        assert gate is not None and gate.verdict == verdict
    with pytest.raises(BundleError, match="golden outputs"):
        golden.outputs_of(imageless.reload(), name, 3)
    with imageless.reload().stage("old", "test", {}) as stage:  # a run that was exported before they were recorded
        stage.path("note.txt").write_text("x")
        stage.remove(golden.outputs_name(name))
    assert gate_of(None) is None


def test_images_are_found_by_their_bytes(cli: Cli, imageless: Bundle, synthetic_images: Path, tmp_path: Path) -> None:
    """In another folder, with other names."""
    flat = tmp_path / "flat"
    flat.mkdir()
    samples = [sample for sample in read_split(imageless.root / "split.csv") if sample.split == "test"]
    for index, sample in enumerate(samples):
        shutil.copy(synthetic_images / sample.path, flat / f"{index}{Path(sample.path).suffix}")
    code, out, err = cli("verify", imageless.root, "--data", flat, "--json")
    document = json.loads(out)
    assert document["files"]["model.fp32.onnx"]["metrics"]["n"] == len(samples) and code == 0
    assert f"{len(samples)} images were found by their sha256" in err
    (flat / f"0{Path(samples[0].path).suffix}").write_bytes(b"another")
    code, _, err = cli("verify", imageless.root, "--data", flat)
    assert code == 1 and f"1 of the {len(samples)} images" in err


def test_a_different_resize_fails(run: Bundle) -> None:
    vectors = golden.load(run.root / "golden.npz")
    assert subject.resize_gate(vectors, run.manifest).verdict == "pass"
    pixels = vectors.pixels.copy()
    pixels[5, 0, 0, 0] ^= 1  # one bit of one pixel
    gate = subject.resize_gate(replace(vectors, pixels=pixels), run.manifest)
    assert (gate.verdict, gate.value) == ("fail", 1)
    assert subject.resize_gate(replace(vectors, sources={}), run.manifest).verdict == "inconclusive"


def test_a_silent_int8_collapse_fails(tiny_run: Path) -> None:
    """An int8 file that predicts nevus for every melanoma and is right otherwise."""
    labels = np.repeat(np.arange(7), [40, 60, 120, 20, 60, 650, 20])
    logits = np.eye(7, dtype=np.float32)[labels] * 6
    said = labels.copy()
    said[labels == 4] = 5
    outputs = Outputs((np.eye(7) * 0.86 + 0.02)[said].astype(np.float32))
    reference = Reference(tuple(map(str, range(len(labels)))), labels, logits)
    entry = FileEntry("model.int8.tflite", "", 0, "", info={"precision": "int8"})
    names = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
    seven = replace(
        Bundle.open(tiny_run).manifest,
        labels=names,
        taxonomy=dict.fromkeys(names, "benign") | dict.fromkeys(("akiec", "bcc", "mel"), "malignant"),
        melanoma="mel",
    )
    gates = {gate.name: gate for gate in subject.test_gates(entry, seven, reference, {entry.path: outputs})}
    assert gates["balanced_accuracy_fall"].verdict == "fail"
    assert gates["balanced_accuracy_fall"].value == pytest.approx(1 / 7)
    assert (gates["melanoma_sensitivity_fall"].verdict, gates["melanoma_sensitivity_fall"].value) == ("fail", 1)
    assert gates["malignant_score_change"].verdict == "fail"


def test_a_file_without_its_run(cli: Cli, tiny_run: Path, tmp_path: Path, foreign: Callable[..., Path]) -> None:
    alone = Path(shutil.copy(tiny_run / "model.int8.tflite", tmp_path / "alone.tflite"))
    code, out, err = cli("verify", alone, "--json")
    document = json.loads(out)
    assert (code, document["passed"], document["files"]["alone.tflite"]["verdict"]) == (0, None, "not measured")
    assert "assumed" in err and list(document["files"]) == ["alone.tflite"]
    assert document["model_sha256"] == sha256(alone) and document["model_id"] == Bundle.open(tiny_run).manifest.id
    code, out, err = cli("verify", alone, "--strict", "--json")
    assert (code, json.loads(out)["passed"]) == (1, False)
    assert "agreement not measured (nothing to compare with" in err
    shutil.copy(tiny_run / "model.int8.tflite.skinedge.json", tmp_path / "alone.tflite.skinedge.json")
    code, out, _ = cli("verify", alone, "--json")  # its card is something to compare with
    assert (code, json.loads(out)["passed"]) == (0, True)
    code, out, err = cli("verify", foreign())
    assert code == 0 and out.splitlines()[-1].startswith("Not measured: nothing to compare with.")
    assert cli("verify", foreign(), "--strict")[0] == 1
    code, out, err = cli("verify", foreign(), "--data", tmp_path, "--json")
    assert code == 1 and out == "" and "skinedge evaluate" in err
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    code, _, err = cli("verify", tmp_path / "bad.onnx")
    assert code == 1 and "bad.onnx" in err


def test_a_file_in_its_run_has_the_gates_of_the_run(cli: Cli, run: Bundle) -> None:
    before = (run.root / "manifest.json").read_text()
    whole = subject.check(run, run.model_files(), None, strict=False, reading=DEFAULT)
    _, out, _ = cli("verify", run.root / "model.int8.tflite", "--json")
    document = json.loads(out)
    assert list(document["files"]) == ["golden.npz", "model.int8.tflite"]
    expected = {file.name: [gate.name for gate in file.gates] for file in whole.files}["model.int8.tflite"]
    assert [gate["name"] for gate in document["files"]["model.int8.tflite"]["gates"]] == expected
    assert document["files"]["model.int8.tflite"]["metrics"] is not None
    assert document["model_sha256"] == run.entries()["model.int8.tflite"].sha256
    assert document["model_id"] == run.manifest.id
    assert (run.root / "manifest.json").read_text() == before


def test_a_third_party_quantized_softmax_passes_and_ours_fails(
    run: Bundle, foreign: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that sum to 0.98: within the rounding of 1/256, beyond that of floating point."""
    from skinedge_bench.loaded_model import LoadedModel

    def near(model: LoadedModel, pixels: np.ndarray) -> Outputs:
        return Outputs(np.full((len(pixels), len(model.labels)), 0.98 / len(model.labels), np.float32))

    monkeypatch.setattr(LoadedModel, "run", near)
    ours = Path(shutil.copy(run.root / "model.fp32.onnx", run.root.parent / "ours.onnx"))
    assert subject.verify_file(foreign(softmax=True)).passed
    assert not subject.verify_file(ours).passed


def test_no_such_run(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("verify", tmp_path / "gone")
    assert code == 1 and "no such run directory" in err
