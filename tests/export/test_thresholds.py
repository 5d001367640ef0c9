"""Decision thresholds: fitted for each file to its own scores of the cal split."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import BundleError, DataError, GateError
from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.run import plugins
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.manifest import MODEL
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import Reading
from skinedge.training.merge import merge
from skinedge_bench.loaded_model import open_listed
from skinedge_bench.verify.verify import verify
from skinedge_export.export import export
from skinedge_export.target import export_targets
from skinedge_export.thresholds import REPORT, fit_thresholds

FILES = ["model.fp32.onnx", "model.fp32.tflite", "model.int8.onnx", "model.int8.tflite"]


def cal_scores(bundle: Bundle, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one file's malignant scores of the cal split, and which images are malignant."""
    manifest = bundle.manifest
    cal = [s for s in read_split(bundle.file("split.csv")) if s.split == "cal"]
    pixels = load_prepared(Path(manifest.data_root), cal, manifest.preprocess)
    path = bundle.file(name)
    probabilities = plugins.runtimes_for(path)[0].open(path, threads=1).run(pixels).probabilities
    positive = np.array([manifest.taxonomy[s.label] != "benign" for s in cal])
    return probabilities[:, list(manifest.malignant)].astype(np.float64).sum(axis=1), positive


@pytest.mark.parametrize("name", FILES)
def test_a_files_threshold_flags_enough_of_its_own_scores(exported_run: Path, name: str) -> None:
    bundle = Bundle.open(exported_run)
    flag = bundle.manifest.thresholds[name]
    scores, positive = cal_scores(bundle, name)
    assert (scores[positive] >= flag).mean() >= 0.95
    higher = scores[positive][scores[positive] > flag].min() + 1e-12  # any threshold above the next score misses more
    assert (scores[positive] >= higher).mean() < 0.95
    said = json.loads(bundle.file(REPORT).read_text())["files"][name]
    assert said["threshold"] == flag
    assert said["cal_sensitivity"] == pytest.approx((scores[positive] >= flag).mean())
    assert said["cal_specificity"] == pytest.approx((scores[~positive] < flag).mean())


def test_without_the_images_the_networks_own_threshold_holds(
    run_copy: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_copy.stage("thresholds", "test", {}) as stage:  # as if a file had changed
        stage.path(REPORT).write_text("{}")
        stage.set(thresholds={"default": 0.4})
    after = fit_thresholds(run_copy.reload(), tmp_path / "gone")
    assert dict(after.manifest.thresholds) == {"default": 0.4}
    assert "images of the cal split not found" in capsys.readouterr().err


def test_a_missing_threshold_is_fitted_again(run_copy: Bundle) -> None:
    wanted = dict(run_copy.manifest.thresholds)
    with run_copy.stage("other", "test", {}) as stage:  # as merge does, with a report that is still there
        stage.set(thresholds={"default": wanted["default"]})
    again = fit_thresholds(run_copy.reload(), Path(run_copy.manifest.data_root))
    assert dict(again.manifest.thresholds) == wanted


def test_a_new_file_does_not_keep_the_old_threshold(
    run_copy: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skinedge_export.export.fit_thresholds", lambda bundle, *_: bundle)  # as if killed before
    after = export(run_copy, export_targets(("onnx",)), force=True)
    assert set(after.manifest.thresholds) == {"default", *FILES} - {"model.fp32.onnx"}
    monkeypatch.undo()
    assert set(export(after, export_targets(("onnx",))).manifest.thresholds) == {"default", *FILES}


def test_another_prior_makes_every_file_again(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    before = bundle.manifest
    between = merge(bundle, reading=Reading(prior="training"))  # as if export had been killed after it
    for name in FILES:
        with pytest.raises(BundleError, match=r"another merged model|class prior"):
            open_listed(between, name)
    assert not verify(between).passed
    assert set(before.class_prior.values()) == {1 / 7}
    after = export(between, export_targets(("onnx",)))
    counts = after.manifest.training["data"]["counts"]["train"]
    wanted = {label: count / sum(counts.values()) for label, count in counts.items()}
    assert dict(after.manifest.class_prior) == pytest.approx(wanted)
    assert [entry.path for entry in after.model_files()] == FILES
    for name in FILES:
        path = after.file(name)
        session = plugins.runtimes_for(path)[0].open(path, threads=1)
        said = ModelDescription.from_json(session.metadata[KEY], name)
        assert dict(said.class_prior) == pytest.approx(wanted)
        assert after.manifest.thresholds[name] != before.thresholds[name]
    again = export(
        after, export_targets(("onnx", "tflite"), int8=True)
    )  # nothing was asked: the prior stays, nothing is made
    assert again.manifest == after.manifest


def test_another_sensitivity_keeps_the_network_and_every_file(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    before, targets = bundle.manifest, export_targets(("onnx", "tflite"), int8=True)
    after = export(bundle, targets, reading=Reading(sensitivity=0.3))
    said = capsys.readouterr().err
    assert "converting" not in said and "merged network kept" in said and said.count("kept (--force") == 4
    assert {name: entry.sha256 for name, entry in after.entries().items() if name in FILES or name == MODEL} == {
        name: entry.sha256 for name, entry in bundle.entries().items() if name in FILES or name == MODEL
    }
    for stage in before.stages:
        assert (after.manifest.stages[stage] == before.stages[stage]) == (stage not in ("merge", "thresholds", "cards"))
    assert after.manifest.calibration == {**before.calibration, "reading": {"prior": "uniform", "sensitivity": 0.3}}
    for name in FILES:
        scores, positive = cal_scores(after, name)
        assert (scores[positive] >= after.manifest.thresholds[name]).mean() >= 0.3
        assert after.manifest.thresholds[name] > before.thresholds[name]
    assert after.manifest.thresholds["default"] == pytest.approx(after.manifest.thresholds[FILES[0]], abs=1e-5)
    assert verify(after).passed
    after = after.reload()
    capsys.readouterr()
    assert export(after, targets).manifest == after.manifest  # nothing is left to do
    back = export(after, targets, reading=Reading(sensitivity=before.calibration["reading"]["sensitivity"]))
    assert dict(back.manifest.thresholds) == pytest.approx(dict(before.thresholds), abs=1e-6)
    assert "converting" not in capsys.readouterr().err


def test_another_sensitivity_without_images_is_an_error_and_changes_nothing(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path / "run")))
    with pytest.raises(DataError):
        export(bundle, export_targets(("onnx",)), data=tmp_path / "gone", reading=Reading(sensitivity=0.3))
    assert bundle.reload().manifest == bundle.manifest


def test_scores_that_are_not_finite_have_no_threshold(run_copy: Bundle) -> None:
    images, poisoned = Path(run_copy.manifest.data_root), FILES[2]
    known = {name: cal_scores(run_copy, name)[0] for name in FILES}
    known[poisoned][3] = math.nan
    with run_copy.stage("other", "test", {}) as stage:
        stage.set(thresholds={"default": 0.4})
    with pytest.raises(GateError, match=f"{poisoned}: malignant scores .* not finite"):
        fit_thresholds(run_copy.reload(), images, known)
    assert dict(run_copy.reload().manifest.thresholds) == {"default": 0.4}
