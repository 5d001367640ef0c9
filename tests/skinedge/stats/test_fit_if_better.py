"""Whether a calibration is kept, by cross-validation on the cal images."""

from __future__ import annotations

import numpy as np

from skinedge.stats.calibration import FOLDS, Calibration, Reading, fit, fit_if_better, folds, unfitted
from skinedge.training.merge import summary

UNIFORM, CLASSES = np.full(3, 1 / 3), 3


def sharpened(seed: int, images: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return logits `temperature` times as large as those that the labels were drawn from, and the labels."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(images, CLASSES)) * 1.5
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(CLASSES, p=row) for row in shares])
    return (logits * temperature).astype(np.float32), labels


def test_overconfident_logits_are_calibrated() -> None:
    raw, labels = sharpened(0, 300, 4.0)
    chosen = fit_if_better(raw, labels, Reading(), UNIFORM, UNIFORM)
    assert chosen == fit(raw, labels, Reading(), UNIFORM, UNIFORM) and chosen.temperature > 2


def test_a_fit_to_few_images_is_refused_where_it_predicts_others_worse() -> None:
    kept = []
    for seed in range(20):
        raw, labels = sharpened(seed, 24, 1.0)  # calibrated already: a fit only follows the noise
        kept.append(fit_if_better(raw, labels, Reading(), UNIFORM, UNIFORM).temperature == 1)
    assert sum(kept) >= 10


def test_without_a_fit_only_the_prior_changes() -> None:
    wanted, assumed = np.array([0.2, 0.3, 0.5]), UNIFORM
    plain = unfitted(Reading(), wanted, assumed, 9)
    empty = fit(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), Reading(), wanted, assumed)
    np.testing.assert_allclose(plain.bias, empty.bias, atol=1e-6)
    assert plain.temperature == 1 and plain.images == 9


def test_folds_share_the_images_of_a_class() -> None:
    labels = np.array([0] * 11 + [1] * 5 + [2])
    chosen = folds(labels)
    for label in (0, 1):
        counts = np.bincount(chosen[labels == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    assert fit_if_better(np.eye(3)[labels] * 3, labels, Reading(), UNIFORM, UNIFORM).images == 17


def test_the_summary_says_where_calibration_did_not_help() -> None:
    worse = Calibration(Reading(), 1.3, (0.0,) * 3, 40, 0.171, 0.228)
    assert "0.171 -> 0.228: calibration did not help on test" in summary(worse)
    better = Calibration(Reading(), 1.3, (0.0,) * 3, 40, 0.228, 0.171)
    assert "did not help" not in summary(better)
    assert summary(Calibration(Reading(), 1.0, (0.0,) * 3, 40, 0.2, 0.2)).startswith("not calibrated: a fit to 40 cal")
