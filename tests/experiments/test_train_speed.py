"""The training benchmark: both arms do the same work, and the printed figures follow from the measurements."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import figures

TINY = 'backbone = "test_efficientnet"\nweights = "random"\nprecision = "fp32"\n[optimizer]\nlearning_rate = 0.01\n'


def run_benchmark(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.toml").write_text(TINY)
    command = [sys.executable, "-m", "experiments.train_speed", "--config", str(folder / "tiny.toml"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # more threads slow down work this small
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def measured(synthetic_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Return a tiny benchmark's JSON document and its standard output."""
    folder = tmp_path_factory.mktemp("speed")
    size = ["--size", "32", "--images", "100", "--batch", "16", "--seeds", "1", "--epochs", "2"]
    done = run_benchmark(folder, "--data", str(synthetic_images), *size, "--out", str(folder / "speed.json"))
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "speed.json").read_text()), done.stdout


def test_both_arms_train_on_the_same_images_in_the_same_steps_to_the_same_loss(
    measured: tuple[dict[str, Any], str],
) -> None:
    """In fp32, on the same batches and augmentations, peft's own loop is the reference."""
    document, _ = measured
    plain, ours = document["runs"]
    assert (plain["arm"], ours["arm"]) == ("plain", "ours")
    data = document["data"]
    assert data["train"] + data["val"] <= 100 and data["val"] > 0.1 * data["train"] > 5
    for run in (plain, ours):
        assert run["images"] == data["train"] and run["steps"] == 2 * -(-data["train"] // 16)
        assert len(run["epoch_seconds"]) == len(run["val_balanced_accuracy"]) == 2
        assert run["whole_seconds"] >= run["cache_seconds"] + sum(run["epoch_seconds"])
        assert run["peak_rss_mib"] > 100 and run["setup_seconds"] > 0
    assert plain["seen_sha256"] == ours["seen_sha256"]
    np.testing.assert_allclose(plain["train_loss"], ours["train_loss"], rtol=1e-4)
    np.testing.assert_allclose(plain["val_balanced_accuracy"], ours["val_balanced_accuracy"], atol=0.15)
    assert plain["train_loss"][1] != plain["train_loss"][0]
    assert plain["cache_seconds"] == 0 < ours["cache_seconds"]


def test_the_report_follows_from_the_measurements(measured: tuple[dict[str, Any], str]) -> None:
    document, printed = measured
    plain, ours = document["runs"]
    (comparison,) = document["comparisons"]
    images = 2 * document["data"]["train"]
    ours_seconds = ours["cache_seconds"] + sum(ours["epoch_seconds"])
    assert comparison["plain"]["every_epoch"] == pytest.approx(images / sum(plain["epoch_seconds"]))
    assert comparison["ours"]["every_epoch"] == pytest.approx(images / ours_seconds)
    assert comparison["ours"]["steady"] == pytest.approx(images / 2 / ours["epoch_seconds"][1])
    assert comparison["whole_ratio"] == pytest.approx(plain["whole_seconds"] / ours["whole_seconds"])
    assert comparison["interval"] is None and "one seed: no interval" in printed
    assert f"{comparison['every_epoch_ratio']:.2f}" in printed and document["device"]["cpu"] in printed
    assert {"torch", "timm", "peft"} <= set(document["device"]["versions"])


def arm(name: str, seed: int, **changes: Any) -> Any:
    run = figures.ArmRun(
        arm=name,
        size=64,
        seed=seed,
        precision="fp32",
        threads=2,
        images=100,
        steps=8,
        seen_sha256=f"seed {seed}",
        cache_seconds=0.0,
        epoch_seconds=(20.0, 10.0),
        whole_seconds=40.0,
        setup_seconds=5.0,
        peak_rss_mib=900.0 + seed,
        workers_peak_rss_mib=0.0,
        val_balanced_accuracy=(0.4, 0.5 + seed / 100),
        train_loss=(1.0, 0.5),
    )
    return replace(run, **changes)


def test_figures_by_hand() -> None:
    fast = {"cache_seconds": 2.0, "epoch_seconds": (4.0, 4.0), "whole_seconds": 10.0, "peak_rss_mib": 451.0}
    runs = [arm("plain", seed) for seed in (0, 1, 2)]
    scores = (0.50, 0.53, 0.55)  # differences 0.00, 0.02, 0.03
    runs += [arm("ours", seed, val_balanced_accuracy=(0.9, scores[seed]), **fast) for seed in (2, 0, 1)]
    comparison = figures.compare([*runs, arm("plain", 0, size=32)], 64)
    plain, ours = comparison.plain, comparison.ours
    assert plain.every_epoch == pytest.approx(600 / 90) and plain.steady == pytest.approx(10)
    assert ours.every_epoch == pytest.approx(600 / 30) and ours.steady == pytest.approx(25)
    assert (comparison.every_epoch_ratio, comparison.steady_ratio) == (pytest.approx(3), pytest.approx(2.5))
    assert comparison.whole_ratio == pytest.approx(4) and comparison.memory_ratio == pytest.approx(451 / 902)
    assert comparison.accuracy_difference == pytest.approx(0.05 / 3)
    half = 4.302653 * 0.0152753 / 3**0.5  # t table, 2 degrees of freedom; the differences' standard deviation
    assert comparison.interval == pytest.approx((0.05 / 3 - half, 0.05 / 3 + half), abs=1e-6)
    assert "3.00" in figures.text([comparison]) and json.dumps(asdict(comparison))


def test_the_interval_matches_scipy() -> None:
    from scipy import stats

    values = np.random.default_rng(0).normal(0.01, 0.02, 7)
    oracle = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert figures.t_interval(list(values)) == pytest.approx((oracle.low, oracle.high))
    assert figures.t_interval([0.3]) is None


@pytest.mark.parametrize("change", [{"seen_sha256": "other"}, {"steps": 7}, {"images": 99}, {"seed": 1}, {"size": 32}])
def test_arms_that_did_different_work_are_not_compared(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="different work at 64 px"):
        figures.compare([arm("plain", 0), replace(arm("ours", 0), **change)], 64)


def test_one_epoch_has_no_steady_state() -> None:
    runs = [arm(name, 0, epoch_seconds=(5.0,)) for name in ("plain", "ours")]
    comparison = figures.compare(runs, 64)
    assert comparison.plain.steady is None and comparison.steady_ratio is None
    assert " - " in figures.text([comparison])


def test_a_folder_without_images_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_benchmark(tmp_path, "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x.json"))
    assert done.returncode == 1 and "Traceback" not in done.stderr and "empty" in done.stderr
    assert not (tmp_path / "x.json").exists()
