"""The drop by int8: every image is held out once, folds are by lesion, figures match scikit-learn and SciPy."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy import stats

from experiments import targets
from skinedge.core.errors import BundleError, ConfigError
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.run.run_directory import Bundle
from skinedge.stats.bootstrap import Units
from skinedge.stats.paired import Estimate
from skinedge_bench.loaded_model import open_listed

NO_CHANGE = Estimate(0.0, 0.0, 0.0, 30)


@pytest.mark.parametrize("count", [2, 3])
def test_each_image_is_held_out_once_and_lesions_stay_whole(synthetic_images: Path, count: int) -> None:
    dataset = hash_images(read(synthetic_images))
    folds = targets.folds.splits(dataset, count, seed=0)
    assert len(folds) == count
    held_out = [sample.path for samples in folds for sample in samples if sample.split == "test"]
    assert sorted(held_out) == sorted(sample.path for sample in dataset.samples)
    for samples in folds:
        assert {sample.path for sample in samples} == {sample.path for sample in dataset.samples}
        splits_of_lesion, classes = defaultdict(set), defaultdict(set)
        for sample in samples:
            splits_of_lesion[sample.lesion_id].add(sample.split)
            classes[sample.split].add(sample.label)
        assert all(len(splits) == 1 for splits in splits_of_lesion.values())
        assert len(classes) == 4
        assert {split: len(labels) for split, labels in classes.items()} == dict.fromkeys(classes, 7)
        share = sum(sample.split == "test" for sample in samples) / len(samples)
        assert share == pytest.approx(1 / count, abs=0.06)
    assert targets.folds.splits(dataset, count, seed=0) == folds
    assert targets.folds.splits(dataset, count, seed=1) != folds


def test_one_fold_is_refused(synthetic_images: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        targets.folds.splits(read(synthetic_images), 1, 0)


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray, np.ndarray, Units]:
    """Truth, fp32 classes, int8 classes of 300 images of 180 lesions; a lesion's images have the same truth."""
    rng = np.random.default_rng(2)
    lesions = np.sort(rng.integers(0, 180, 300))
    truth = rng.choice(3, 180, p=(0.7, 0.2, 0.1))[lesions]
    fp32 = np.where(rng.random(300) < 0.8, truth, (truth + 1) % 3)
    int8 = np.where(rng.random(300) < 0.9, fp32, rng.integers(0, 3, 300))
    return truth, fp32, int8, Units(lesions, 180, "lesion")


def test_the_figures_against_scikit_learn_and_scipy(predictions: tuple[np.ndarray, ...]) -> None:
    truth, fp32, int8, units = predictions
    drop = targets.folds.int8_drop("x", truth, fp32, int8, NO_CHANGE, units)
    assert drop.fp32 == pytest.approx(oracle.balanced_accuracy_score(truth, fp32))
    assert drop.int8 == pytest.approx(oracle.balanced_accuracy_score(truth, int8))
    assert drop.fall == pytest.approx(drop.fp32 - drop.int8)
    assert drop.agreement == oracle.accuracy_score(fp32, int8)
    wilson = stats.binomtest(int((fp32 == int8).sum()), 300).proportion_ci(method="wilson")
    assert drop.agreement_interval == pytest.approx((wilson.low, wilson.high))
    assert drop.only_fp32_right == ((fp32 == truth) & (int8 != truth)).sum() > 0
    assert drop.only_int8_right == ((fp32 != truth) & (int8 == truth)).sum() > 0
    assert drop.mcnemar_p == pytest.approx(
        stats.binomtest(drop.only_fp32_right, drop.only_fp32_right + drop.only_int8_right).pvalue
    )
    assert drop.reached == (drop.lower_bound <= 0.003)


def test_the_interval_is_that_of_a_slow_paired_bootstrap(predictions: tuple[np.ndarray, ...]) -> None:
    """Draws whole lesions, one resample at a time; an image keeps both its predictions."""
    truth, fp32, int8, units = predictions
    rng = np.random.default_rng(7)
    members = [np.flatnonzero(unit == units.of) for unit in range(units.count)]
    drops = []
    for _ in range(500):
        rows = np.concatenate([members[unit] for unit in rng.integers(0, units.count, units.count)])
        scores = [oracle.balanced_accuracy_score(truth[rows], classes[rows]) for classes in (fp32, int8)]
        drops.append(scores[0] - scores[1])
    drop = targets.folds.int8_drop("x", truth, fp32, int8, NO_CHANGE, units)
    np.testing.assert_allclose(drop.interval, np.quantile(drops, (0.025, 0.975)), atol=0.008)
    assert drop.lower_bound == pytest.approx(np.quantile(drops, 0.05), abs=0.008)
    assert drop.interval[0] < drop.lower_bound < drop.fall < drop.interval[1]


def test_a_resample_without_a_class_averages_over_the_others() -> None:
    truth, lost = np.array([0, 0, 1, 2]), np.array([1.0, 0, 0, -1])
    weights = np.array([[1.0, 1, 1, 1], [3, 1, 2, 0]])
    np.testing.assert_allclose(targets.folds.resampled_drops(truth, lost, weights), [(0.5 - 1) / 3, 0.75 / 2])


def test_a_certain_drop_misses_the_target() -> None:
    """Half of a class is lost; with the same predictions, nothing is."""
    truth = np.repeat([0, 1], 200)
    int8 = np.where(np.arange(400) % 4 == 0, 1 - truth, truth)
    units = Units(np.arange(400), 400, "image")
    worse = targets.folds.int8_drop("x", truth, truth, int8, NO_CHANGE, units)
    assert worse.fall == pytest.approx(0.25) and worse.lower_bound > 0.2 and not worse.reached
    same = targets.folds.int8_drop("x", truth, int8, int8, NO_CHANGE, units)
    assert (same.fall, same.interval, same.lower_bound, same.reached) == (0, (0, 0), 0, True)


def test_the_folds_are_one_command_and_finished_ones_are_reused(
    tinted: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folds"
    command = ["folds", "--data", str(tinted), "--config", str(tiny), "--out", str(out), "--folds", "2"]
    assert targets.main(command) == 0
    shown = capfd.readouterr().out
    document = json.loads((out / "folds.json").read_text())
    runs = [Bundle.open(out / f"fold{number}-of-2") for number in (0, 1)]
    truth, fp32 = [], []
    for run in runs:
        with np.load(run.file("reference.npz")) as reference:
            truth.append(reference["label"])
            fp32.append(reference["logits"].argmax(axis=1))
    for row, name in zip(document["files"], ("model.int8.tflite", "model.int8.onnx"), strict=True):
        assert row["file"] == name and row["n"] == len(read(tinted).samples)
        expected = oracle.balanced_accuracy_score(np.concatenate(truth), np.concatenate(fp32))
        assert row["fp32"] == pytest.approx(expected)
        assert f"{row['int8']:.4f}" in shown and f"{100 * row['fall']:+.2f}" in shown
    assert document["bootstrap"]["unit"] == "lesion"
    assert document["training_seconds"] == [run.manifest.training["seconds"] for run in runs]

    times = [open_listed(run).path.stat().st_mtime_ns for run in runs]
    assert targets.main(command) == 0
    assert capfd.readouterr().out == shown
    assert [open_listed(run).path.stat().st_mtime_ns for run in runs] == times

    other = targets.folds.read_split(runs[0].file("split.csv"))[:-1]
    with pytest.raises(BundleError, match="another split"):
        targets.folds.check_split_of(runs[0], other)
    other_config = tmp_path / "other.toml"
    other_config.write_text(tiny.read_text().replace("epochs = 12", "epochs = 11"))
    assert targets.main([*command, "--config", str(other_config)]) == 1
    assert "other settings: epochs" in capfd.readouterr().err
