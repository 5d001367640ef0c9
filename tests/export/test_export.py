"""`export` of a complete run: files that are kept, refusals, and failures, which change nothing."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import BundleError, ConfigError, DataError, GateError
from skinedge.data.dataset import read_split, write_split
from skinedge.run import golden
from skinedge.run.run_directory import Bundle
from skinedge.system import requirements
from skinedge.training import merge
from skinedge_export.export import export
from skinedge_export.target import export_targets, formats

FILES = ["model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"]


def snapshot(root: Path) -> dict[str, bytes]:
    """Read every file but the lock, by relative path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def change_merge(bundle: Bundle, *, logits_shift: float = 0.0, poison: str | None = None) -> Bundle:
    """Write the merge stage again with other golden logits, or with a weight that is NaN."""
    network = merge.load_merged(bundle)
    known = golden.load(bundle.file("golden.npz"))
    logits = known.logits.copy()
    logits[:, 0] += logits_shift
    if poison:
        network.state_dict()[poison].view(-1)[0] = float("nan")
    with bundle.stage("merge", "test", merge.merge_inputs(bundle)) as stage:
        merge.save_network(stage.path("model.safetensors"), network, bundle.manifest)
        golden.save(stage.path("golden.npz"), replace(known, logits=logits))
    return bundle.reload()


def test_four_files_are_listed_with_gates_and_nothing_is_left_over(exported_run: Path) -> None:
    bundle = Bundle.open(exported_run)
    assert [entry.path for entry in bundle.model_files()] == FILES
    assert bundle.manifest.default_file == "model.int8.tflite"
    listed = {*bundle.entries(), "manifest.json", ".manifest.lock"}
    assert {str(p.relative_to(exported_run)) for p in exported_run.rglob("*") if p.is_file()} <= listed
    for entry in bundle.model_files():
        gates = {gate["name"]: gate["verdict"] for gate in entry.info["gates"]}
        wanted = {"description", "finite", "agreement"} if "int8" in entry.path else {"max_difference", "argmax_flips"}
        assert wanted <= set(gates) and "fail" not in gates.values()
        assert ("calibration" in entry.info) == ("int8" in entry.path)
        assert entry.info["versions"] and entry.info["inputs"][0]["name"] == "pixels"
    assert bundle.entries()["model.int8.onnx"].info["calibration"]["images"] == 56


def test_current_files_are_kept(run_copy: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(run_copy.root)
    export(run_copy, export_targets(("onnx", "tflite"), int8=True))
    assert snapshot(run_copy.root) == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("kept") == 4


def test_a_failing_gate_keeps_the_earlier_file(run_copy: Bundle) -> None:
    bundle = change_merge(run_copy, logits_shift=0.01)
    before = bundle.entries()["model.fp32.onnx"]
    with pytest.raises(GateError, match=r"model\.fp32\.onnx: gate 'max_difference' failed: 0\.00\d+, limit 0\.001"):
        export(bundle, export_targets(("onnx",)), force=True)
    assert bundle.reload().entries()["model.fp32.onnx"] == before and bundle.file("model.fp32.onnx").is_file()
    assert not [path for path in bundle.root.rglob("*") if path.suffix in (".part", ".old")]


def test_one_refused_file_stops_no_other_and_all_files_have_threshold_and_card(run_copy: Bundle) -> None:
    bundle = change_merge(run_copy, logits_shift=0.01)
    before = {name: (bundle.root / name).stat().st_mtime_ns for name in FILES}
    with pytest.raises(GateError, match=r"model\.fp32\.onnx: gate 'max_difference' failed"):
        export(bundle, export_targets(("onnx",), int8=True), force=True)
    after = bundle.reload()
    made = {name for name in FILES if (after.root / name).stat().st_mtime_ns != before[name]}
    assert "model.int8.onnx" in made and "model.fp32.onnx" not in made  # the same bytes, made again
    assert after.entries()["model.fp32.onnx"] == bundle.entries()["model.fp32.onnx"]
    assert set(after.manifest.thresholds) == {"default", *FILES}
    card = json.loads(after.file("model.int8.onnx.skinedge.json").read_text())
    assert card["sha256"] == after.entries()["model.int8.onnx"].sha256


def test_contradicting_options_are_errors() -> None:
    for options, complaint in (
        ({"int8": True, "precision": "fp16"}, "contradict"),
        ({"precision": "int8", "fallback": True}, "without --int8"),
        ({"precision": "fp16", "arm": True}, "no.* variant for ARM|none of these files"),
        ({"precision": "ladder"}, "precision"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            export_targets(("onnx", "tflite"), **options)


def test_weights_that_are_nan_are_refused_by_name(run_copy: Bundle) -> None:
    bundle = change_merge(run_copy, poison="layer2.0.conv1.weight")
    before = snapshot(bundle.root)
    with pytest.raises(GateError, match=r"not finite in 'layer2\.0\.conv1\.weight'"):
        export(bundle, export_targets(("onnx",)))
    assert snapshot(bundle.root) == before


def test_an_edited_model_is_never_exported(run_copy: Bundle) -> None:
    """It is merged again, which fails for this run, since its base weights do not exist."""
    path = run_copy.root / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BundleError, match="other base weights"):
        export(run_copy, export_targets(("onnx",)))


def test_an_edited_file_is_made_again(run_copy: Bundle) -> None:
    path = run_copy.root / "model.int8.onnx"
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    export(run_copy, export_targets(("onnx",), int8=True))
    assert path.read_bytes() == good


def test_too_few_training_images_for_int8(merged_run: Path, tmp_path: Path) -> None:
    shutil.copytree(merged_run, tmp_path / "run")
    bundle = Bundle.open(tmp_path / "run")
    samples = read_split(bundle.file("split.csv"))
    train = [sample for sample in samples if sample.split == "train"][:7]
    rest = [sample for sample in samples if sample.split != "train"]
    network = merge.load_merged(bundle)
    with bundle.stage("train", "test", {}) as stage:
        stage.path("split.csv").write_text(write_split((*train, *rest)))
        for name in merge.ADAPTER:
            stage.path(name).write_bytes(b"stand-in")
    bundle = bundle.reload()
    with bundle.stage("merge", "test", merge.merge_inputs(bundle)) as stage:
        merge.save_network(stage.path("model.safetensors"), network, bundle.manifest)
        shutil.copy(merged_run / "golden.npz", stage.path("golden.npz"))
    before = snapshot(bundle.root)
    with pytest.raises(DataError, match="this run has 7"):
        export(bundle.reload(), export_targets(("onnx",), int8=True))
    assert snapshot(bundle.root) == before


def test_without_the_images_int8_fails_and_fp32_reports_its_gates(
    merged_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(merged_run, tmp_path / "run")
    bundle, gone = Bundle.open(tmp_path / "run"), tmp_path / "gone"
    with pytest.raises(DataError, match="--data DIR"):
        export(bundle, export_targets(("onnx",), int8=True), data=gone)
    assert not bundle.reload().model_files()
    bundle = export(bundle, export_targets(("onnx",)), data=gone)
    assert "golden images only" in capsys.readouterr().err
    assert bundle.manifest.default_file == "model.fp32.onnx"


def test_an_unknown_format_lists_the_installed_ones(run_copy: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"unknown converter 'coreml'\nInstalled: onnx, onnx2tf, tflite"):
        export(run_copy, export_targets(("coreml",)))


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    from skinedge.cli import main

    monkeypatch.setattr("sys.argv", ["skinedge", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_command_prints_json_and_nothing_else(
    run_copy: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("export", str(run_copy.root), "--format", "tflite", "--int8", "--json")
    assert run_cli(monkeypatch, *arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "skinedge.export/1" and document["model_id"] == run_copy.manifest.id
    assert list(document["files"]) == ["model.fp32.tflite", "model.int8.tflite"]
    for name, said in document["files"].items():
        entry = run_copy.entries()[name]
        assert (said["sha256"], said["size_bytes"]) == (entry.sha256, entry.size)
        assert {"name", "value", "limit", "verdict"} <= set(said["gates"][0])


def test_the_command_prints_a_table_and_refuses_an_unknown_format(
    run_copy: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, "export", str(run_copy.root), "--int8") == 0
    table = capsys.readouterr().out
    assert all(name in table for name in FILES)
    assert run_cli(monkeypatch, "export", str(run_copy.root), "--format", "coreml") == 1
    said = capsys.readouterr()
    assert said.out == "" and "Installed: onnx, onnx2tf, tflite" in said.err and "Traceback" not in said.err


@pytest.fixture
def without_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform for which litert-torch has no wheel, as on a Raspberry Pi."""
    installed = requirements.installed
    monkeypatch.setattr(requirements, "installed", lambda name: None if "litert" in name else installed(name))
    monkeypatch.setattr(
        requirements, "declared", lambda: ["litert-torch; sys_platform == 'other' and extra == 'export'"]
    )
    for module in ("litert_torch", "ai_edge_quantizer"):
        monkeypatch.setitem(sys.modules, module, None)


def test_where_the_converter_has_no_wheel_tflite_is_left_out(
    without_converter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert formats() == ["onnx"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no tflite files: the package 'litert-torch' has no wheel for ")
    assert len(export_targets(("onnx",), int8=True)) == 2
    assert len(export_targets(("tflite",), precision="int8", converter="onnx2tf")) == 1  # has its own environment


def test_where_the_converter_has_no_wheel_tflite_is_refused_before_any_work(
    without_converter: None, run_copy: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run_copy.root)
    assert run_cli(monkeypatch, "export", str(run_copy.root), "--format", "tflite", "--force") == 1
    said = capsys.readouterr().err.splitlines()
    assert snapshot(run_copy.root) == before
    assert said[-2].startswith("error: the package 'litert-torch' has no wheel for ")
    assert said[-1].startswith("Use --format onnx here; for .tflite, copy the run to Linux x86-64")


def test_onnx_is_exported_without_litert(without_converter: None, run_copy: Bundle) -> None:
    (run_copy.root / FILES[0]).unlink()
    bundle = export(run_copy, export_targets(formats()))
    assert bundle.file(FILES[0]).is_file()


def test_golden_logits_are_the_networks(exported_run: Path) -> None:
    """Check the fixture: else every comparison above would be with itself."""
    bundle = Bundle.open(exported_run)
    known = golden.load(bundle.file("golden.npz"))
    logits = merge.eager_logits(merge.load_merged(bundle), known.pixels, bundle.manifest.preprocess)
    np.testing.assert_allclose(logits, known.logits, atol=1e-4)
    assert len(set(logits.argmax(axis=1))) > 1
