"""What int8 costs: every image held out once, whole lesions, and figures that scikit-learn and SciPy agree with."""

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
    held = [sample.path for samples in folds for sample in samples if sample.split == "test"]
    assert sorted(held) == sorted(sample.path for sample in dataset.samples)
    for samples in folds:
        assert {sample.path for sample in samples} == {sample.path for sample in dataset.samples}
        places, classes = defaultdict(set), defaultdict(set)
        for sample in samples:
            places[sample.lesion_id].add(sample.split)
            classes[sample.split].add(sample.label)
        assert all(len(splits) == 1 for splits in places.values())
        assert {split: len(found) for split, found in classes.items()} == dict.fromkeys(classes, 7) and len(
            classes
        ) == 4
        share = sum(sample.split == "test" for sample in samples) / len(samples)
        assert share == pytest.approx(1 / count, abs=0.06)
    assert targets.folds.splits(dataset, count, seed=0) == folds
    assert targets.folds.splits(dataset, count, seed=1) != folds


def test_one_fold_is_refused(synthetic_images: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        targets.folds.splits(read(synthetic_images), 1, 0)


@pytest.fixture(scope="module")
def said() -> tuple[np.ndarray, np.ndarray, np.ndarray, Units]:
    """truth, what fp32 says, what int8 says: 300 images of 180 lesions, photos of a lesion alike."""
    rng = np.random.default_rng(2)
    of = np.sort(rng.integers(0, 180, 300))
    truth = rng.choice(3, 180, p=(0.7, 0.2, 0.1))[of]
    before = np.where(rng.random(300) < 0.8, truth, (truth + 1) % 3)
    after = np.where(rng.random(300) < 0.9, before, rng.integers(0, 3, 300))
    return truth, before, after, Units(of, 180, "lesion")


def test_the_figures_against_scikit_learn_and_scipy(said: tuple[np.ndarray, ...]) -> None:
    truth, before, after, units = said
    found = targets.folds.fall_of("x", truth, before, after, NO_CHANGE, units)
    assert found.fp32 == pytest.approx(oracle.balanced_accuracy_score(truth, before))
    assert found.int8 == pytest.approx(oracle.balanced_accuracy_score(truth, after))
    assert found.fall == pytest.approx(found.fp32 - found.int8)
    assert found.agreement == oracle.accuracy_score(before, after)
    wilson = stats.binomtest(int((before == after).sum()), 300).proportion_ci(method="wilson")
    assert found.agreement_interval == pytest.approx((wilson.low, wilson.high))
    assert found.only_fp32_right == ((before == truth) & (after != truth)).sum() > 0
    assert found.only_int8_right == ((before != truth) & (after == truth)).sum() > 0
    assert found.mcnemar_p == pytest.approx(
        stats.binomtest(found.only_fp32_right, found.only_fp32_right + found.only_int8_right).pvalue
    )
    assert found.reached == (found.lower_bound <= 0.003)


def test_the_interval_is_that_of_a_slow_paired_bootstrap(said: tuple[np.ndarray, ...]) -> None:
    """Whole lesions drawn one resample at a time; an image keeps both its predictions."""
    truth, before, after, units = said
    rng = np.random.default_rng(7)
    members = [np.flatnonzero(unit == units.of) for unit in range(units.count)]
    falls = []
    for _ in range(500):
        chosen = np.concatenate([members[unit] for unit in rng.integers(0, units.count, units.count)])
        scores = [oracle.balanced_accuracy_score(truth[chosen], answer[chosen]) for answer in (before, after)]
        falls.append(scores[0] - scores[1])
    found = targets.folds.fall_of("x", truth, before, after, NO_CHANGE, units)
    np.testing.assert_allclose(found.interval, np.quantile(falls, (0.025, 0.975)), atol=0.008)
    assert found.lower_bound == pytest.approx(np.quantile(falls, 0.05), abs=0.008)
    assert found.interval[0] < found.lower_bound < found.fall < found.interval[1]


def test_a_resample_without_a_class_is_judged_by_the_others() -> None:
    truth, lost = np.array([0, 0, 1, 2]), np.array([1.0, 0, 0, -1])
    weights = np.array([[1.0, 1, 1, 1], [3, 1, 2, 0]])
    np.testing.assert_allclose(targets.folds.resampled_fall(truth, lost, weights), [(0.5 - 1) / 3, 0.75 / 2])


def test_a_fall_that_is_certain_misses_the_target() -> None:
    """Half of a class lost; the same answers, by contrast, cost nothing."""
    truth = np.repeat([0, 1], 200)
    after = np.where(np.arange(400) % 4 == 0, 1 - truth, truth)
    units = Units(np.arange(400), 400, "image")
    worse = targets.folds.fall_of("x", truth, truth, after, NO_CHANGE, units)
    assert worse.fall == pytest.approx(0.25) and worse.lower_bound > 0.2 and not worse.reached
    same = targets.folds.fall_of("x", truth, after, after, NO_CHANGE, units)
    assert (same.fall, same.interval, same.lower_bound, same.reached) == (0, (0, 0), 0, True)


def test_the_folds_are_one_command_and_finished_ones_are_kept(
    tinted: Path, tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folds"
    command = ["folds", "--data", str(tinted), "--config", str(tiny), "--out", str(out), "--folds", "2"]
    assert targets.main(command) == 0
    shown = capfd.readouterr().out
    document = json.loads((out / "folds.json").read_text())
    runs = [Bundle.open(out / f"fold{number}-of-2") for number in (0, 1)]
    truth, before = [], []
    for run in runs:
        with np.load(run.file("reference.npz")) as reference:
            truth.append(reference["label"])
            before.append(reference["logits"].argmax(axis=1))
    for found, name in zip(document["files"], ("model.int8.tflite", "model.int8.onnx"), strict=True):
        assert found["file"] == name and found["n"] == len(read(tinted).samples)
        assert found["fp32"] == pytest.approx(
            oracle.balanced_accuracy_score(np.concatenate(truth), np.concatenate(before))
        )
        assert f"{found['int8']:.4f}" in shown and f"{100 * found['fall']:+.2f}" in shown
    assert document["bootstrap"]["unit"] == "lesion"
    assert document["training_seconds"] == [run.manifest.training["seconds"] for run in runs]

    times = [open_listed(run).path.stat().st_mtime_ns for run in runs]
    assert targets.main(command) == 0
    assert capfd.readouterr().out == shown
    assert [open_listed(run).path.stat().st_mtime_ns for run in runs] == times

    other = targets.folds.read_split(runs[0].file("split.csv"))[:-1]
    with pytest.raises(BundleError, match="another split"):
        targets.folds.check_split_of(runs[0], other)
    tiny_too = tmp_path / "other.toml"
    tiny_too.write_text(tiny.read_text().replace("epochs = 12", "epochs = 11"))
    assert targets.main([*command, "--config", str(tiny_too)]) == 1
    assert "other settings: epochs" in capfd.readouterr().err
