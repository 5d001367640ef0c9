"""Intervals against a slow bootstrap with scikit-learn, and the images that are one unit."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as oracle

from skinedge.data.dataset import Sample
from skinedge.stats import bootstrap as bootstrap_module
from skinedge.stats import metrics
from skinedge.stats.bootstrap import Units, image_weights
from skinedge.stats.reliability import prior_weights, reliability
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.intervals import intervals_of, units_of, weighted_metrics

RNG = np.random.default_rng(11)
N, CLASSES, MALIGNANT = 120, 4, (1, 3)
UNITS = Units(np.sort(RNG.integers(0, 70, N)), 70, "lesion")


def predictions(n: int = N, units: Units | None = None) -> Predictions:
    """Photos of a lesion share its class, one class has one lesion; scores are rounded, so that there are ties."""
    of = units.of if units is not None else np.arange(n)
    truth = np.random.default_rng(2).choice(CLASSES - 1, of.max() + 1, p=(0.6, 0.25, 0.15))[of]
    truth[of == 0] = CLASSES - 1
    logits = np.random.default_rng(3).normal(size=(n, CLASSES)) + 1.2 * np.eye(CLASSES)[truth]
    return Predictions(tuple("abcd"), truth, np.round(metrics.softmax(logits), 1), MALIGNANT, 0.5)


OWN, TRAINING = (0.1, 0.2, 0.3, 0.4), (0.6, 0.2, 0.15, 0.05)
PREDICTIONS = replace(predictions(units=UNITS), prior=OWN, training=TRAINING)


def at(probabilities: np.ndarray, wanted: tuple[float, ...]) -> np.ndarray:
    odds = probabilities * np.array(wanted) / np.array(OWN)
    return odds / odds.sum(axis=1, keepdims=True)


def test_every_weighted_metric_is_the_metric_of_the_repeated_images() -> None:
    assert len(np.unique(PREDICTIONS.truth)) == CLASSES
    weights = next(image_weights(UNITS, 40, seed=5))
    metrics_of = weighted_metrics(PREDICTIONS, weights)
    missing = 0
    for row, times in enumerate(weights.astype(int)):
        truth, probabilities = np.repeat(PREDICTIONS.truth, times), np.repeat(PREDICTIONS.probabilities, times, axis=0)
        missing += len(np.unique(truth)) < CLASSES
        uniform, trained = at(probabilities, (0.25,) * 4), at(probabilities, TRAINING)
        each, by_class = metrics.per_class(truth, uniform), prior_weights(truth, np.array(OWN))
        positive, score = np.isin(truth, MALIGNANT), metrics.malignant_score(probabilities, MALIGNANT)
        expected = {name: getattr(each, name) for name in ("precision", "recall", "specificity", "f1", "auc")} | {
            "average_precision": each.average_precision,
            "accuracy": metrics.accuracy(truth, trained.argmax(axis=1)),
            "balanced_accuracy": metrics.balanced_accuracy(truth, uniform.argmax(axis=1)),
            "macro_auc": metrics.macro_auc(truth, uniform),
            "macro_auc_training_prior": metrics.macro_auc(truth, trained),
            "macro_average_precision": metrics.macro_average_precision(truth, uniform),
            "ece": reliability(truth, probabilities).ece,
            "ece_at_class_prior": reliability(truth, probabilities, by_class).ece,
            "malignant_auc": oracle.roc_auc_score(positive, score),
            "malignant_average_precision": oracle.average_precision_score(positive, score),
            "malignant_sensitivity": oracle.recall_score(positive, score >= 0.5),
            "malignant_specificity": oracle.recall_score(~positive, score < 0.5),
        }
        assert set(metrics_of) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(metrics_of[name][row], value, err_msg=name)
    assert missing  # some resamples lack a class


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    """Lesions drawn one resample at a time, figures by scikit-learn."""
    rng = np.random.default_rng(8)
    members = [np.flatnonzero(unit == UNITS.of) for unit in range(UNITS.count)]
    slow: dict[str, list[float]] = {"accuracy": [], "balanced_accuracy": [], "malignant_auc": []}
    for _ in range(500):
        chosen = np.concatenate([members[unit] for unit in rng.choice(UNITS.count, UNITS.count)])
        truth, predicted = PREDICTIONS.truth[chosen], PREDICTIONS.predicted[chosen]
        present = np.unique(truth)
        slow["accuracy"].append(oracle.accuracy_score(truth, predicted))
        recall = oracle.recall_score(truth, predicted, labels=present, average="macro", zero_division=0)
        slow["balanced_accuracy"].append(recall)
        slow["malignant_auc"].append(oracle.roc_auc_score(PREDICTIONS.positive[chosen], PREDICTIONS.score[chosen]))
    found = intervals_of(replace(PREDICTIONS, prior=None), UNITS).overall
    for name, values in slow.items():
        np.testing.assert_allclose(found[name], np.quantile(values, (0.025, 0.975)), atol=0.02, err_msg=name)


def test_the_interval_of_a_calibration_error_is_mirrored_at_its_value() -> None:
    """Resamples alone, and far from right: the mean excess of confidence is the error, hand over hand."""
    sure = np.tile(np.float32([0.9, 0.1]), (40, 1))
    truth = np.repeat([0, 1], 20)  # right half of the time at .9: an error of .4, in one bin
    judged = Predictions(("a", "b"), truth, sure, None, None)
    units = Units(np.arange(40), 40, "image")
    errors = [
        abs(np.average(truth == 0, weights=row) - 0.9) for row in np.concatenate(list(image_weights(units, 2000, 0)))
    ]
    low, high = np.quantile(errors, (0.025, 0.975))
    assert intervals_of(judged, units).overall["ece"] == pytest.approx((0.8 - high, 0.8 - low), abs=1e-6)
    right = replace(judged, truth=np.repeat([0, 1], [36, 4]))
    assert intervals_of(right, units).overall["ece"] == pytest.approx((0, 0), abs=1e-6)  # bounds are not below 0
    little = replace(judged, truth=np.repeat([0, 1], [35, 5]))
    low, high = intervals_of(little, units).overall["ece"]
    assert low == 0 and high >= 0.025 - 1e-6  # an interval contains its estimate


def test_photos_of_one_lesion_do_not_narrow_the_interval() -> None:
    """Each image five times adds no information: the same interval by lesion, a much narrower one by image."""
    once = predictions(60)
    five = replace(once, truth=np.repeat(once.truth, 5), probabilities=np.repeat(once.probabilities, 5, axis=0))
    low, high = intervals_of(once, Units(np.arange(60), 60, "image")).overall["accuracy"]
    by_lesion = intervals_of(five, Units(np.repeat(np.arange(60), 5), 60, "lesion")).overall["accuracy"]
    by_image = intervals_of(five, Units(np.arange(300), 300, "image")).overall["accuracy"]
    assert by_lesion == pytest.approx((low, high))
    assert by_image[1] - by_image[0] < 0.6 * (high - low)


def test_it_is_seeded() -> None:
    first, again, other = (intervals_of(PREDICTIONS, UNITS, resamples=50, seed=seed).overall for seed in (0, 0, 1))
    assert first == again and first["accuracy"] != other["accuracy"]


def test_neither_processes_nor_the_size_of_a_chunk_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 6 * bootstrap_module._AT_ONCE // N  # resamples: six chunks
    found = intervals_of(PREDICTIONS, UNITS, resamples=many)
    monkeypatch.setattr(bootstrap_module, "usable_cores", lambda: 3)
    with monkeypatch.context() as eager:
        eager.setattr(bootstrap_module, "_MANY", 0)
        assert intervals_of(PREDICTIONS, UNITS, resamples=many) == found
    monkeypatch.setattr(bootstrap_module, "_AT_ONCE", 7 * N)
    assert intervals_of(PREDICTIONS, UNITS, resamples=many) == found


def test_an_undefined_metric_has_no_interval() -> None:
    """One class only, and unknown malignant classes."""
    judged = Predictions(("a", "b"), np.zeros(12, int), np.tile(np.float32([0.7, 0.3]), (12, 1)), None, None)
    found = intervals_of(judged, Units(np.arange(12), 12, "image"), resamples=20)
    assert found.overall["accuracy"] == (1, 1)
    assert all(map(math.isnan, found.overall["macro_auc"])) and all(map(math.isnan, found.per_class["recall"][1]))
    assert not [name for name in found.overall if name.startswith("malignant")]


def test_images_of_the_same_lesion_id_or_bytes_are_one_unit_and_by_look_where_no_lesion_is_known() -> None:
    samples = [
        Sample("ISIC_0000001", "a.jpg", "nv", "HAM_1"),
        Sample("ISIC_0000002", "b.jpg", "nv"),
        Sample("ISIC_0000003", "c.jpg", "mel", "HAM_1"),
        Sample("x", "d.jpg", "nv", sha256="11"),
        Sample("ISIC_0000002_copy", "e.jpg", "nv", sha256="22"),
        Sample("y", "f.jpg", "nv", sha256="11"),
        Sample("z", "g.jpg", "nv", phash="0f" * 32),
        Sample("w", "h.jpg", "nv", phash="0e" + "0f" * 31),
        Sample("v", "i.jpg", "nv", "HAM_2", phash="0f" * 32),  # has a lesion id, so its look does not count
    ]
    units = units_of(samples)
    together = {frozenset(np.flatnonzero(units.of == unit).tolist()) for unit in range(units.count)}
    assert together == {frozenset(pair) for pair in ({0, 2}, {1, 4}, {3, 5}, {6, 7}, {8})}
    assert units.name == "lesion" and units_of(samples[3:8]).name == "image"
