"""Temperature, class bias and threshold: recovered from known data, regularized for few images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from skinedge.core.errors import ConfigError, GateError
from skinedge.stats.calibration import (
    SPREAD,
    Calibration,
    Reading,
    ece,
    fit,
    threshold,
)
from skinedge.stats.metrics import softmax
from skinedge.stats.reliability import prior_weights
from skinedge.training.merge import fold

UNIFORM = np.full(4, 0.25)
SKEWED = np.array([0.7, 0.2, 0.07, 0.03])


def drawn(n: int, prior: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sample labels from the prior, and log p(x | class): exact logits under a uniform prior."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(prior), n, p=prior)
    centres = 1.5 * np.eye(len(prior))
    x = centres[labels] + rng.normal(size=(n, len(prior)))
    return x @ centres.T, labels


def test_a_known_temperature_is_recovered() -> None:
    exact, labels = drawn(20_000, UNIFORM)
    found = fit(3.0 * exact, labels, Reading(), UNIFORM, UNIFORM)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert np.abs(found.bias).max() < 0.1
    assert found.images == 20_000


def test_the_bias_of_a_class_is_corrected() -> None:
    exact, labels = drawn(20_000, UNIFORM)
    wrong = np.array([0.9, -0.3, -0.3, -0.3])
    found = fit(exact + wrong, labels, Reading(), UNIFORM, UNIFORM)
    np.testing.assert_allclose(found.bias, -wrong, atol=0.1)


@pytest.mark.parametrize(("assumed", "wanted"), [(SKEWED, UNIFORM), (UNIFORM, SKEWED), (UNIFORM, UNIFORM)])
def test_the_calibrated_prior_is_the_wanted_prior(assumed: np.ndarray, wanted: np.ndarray) -> None:
    exact, labels = drawn(40_000, SKEWED)  # the images are skewed in every case
    found = fit(exact + np.log(assumed), labels, Reading(), wanted, assumed)
    shift = np.log(wanted / assumed)
    np.testing.assert_allclose(found.bias, shift - shift.mean(), atol=0.12)
    calibrated = softmax(found.apply(exact + np.log(assumed)))
    weights = prior_weights(labels, wanted)
    np.testing.assert_allclose((weights[:, None] * calibrated).mean(axis=0), wanted, atol=0.02)


def test_without_images_the_bias_is_the_change_of_prior() -> None:
    found = fit(np.empty((0, 4)), np.empty(0, np.int64), Reading(), UNIFORM, SKEWED)
    shift = np.log(UNIFORM / SKEWED)
    np.testing.assert_allclose(found.bias, shift - shift.mean(), atol=1e-6)
    assert found.temperature == pytest.approx(1.0)


def test_a_class_with_two_images_is_not_fitted_to_chance() -> None:
    exact, labels = drawn(600, np.array([0.4, 0.3, 0.3, 0.0]))
    raw = np.vstack([exact, [[9, 0, 0, -9.0]] * 2])
    found = fit(raw, np.append(labels, [3, 3]), Reading(), UNIFORM, UNIFORM)
    assert abs(found.bias[3]) < 2 * SPREAD


def test_the_solver_ends_at_the_optimum() -> None:
    exact, labels = drawn(300, SKEWED, seed=3)
    raw, weights = 2 * exact, prior_weights(labels, UNIFORM)
    size = weights.sum() ** 2 / np.square(weights).sum()

    def loss(values: np.ndarray) -> float:
        scores = raw / np.exp(values[0]) + values[1:]
        top = scores.max(axis=1, keepdims=True)
        logs = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        likelihood = size * np.mean(-weights * logs[np.arange(len(labels)), labels])
        return float(likelihood + 0.5 * np.square(values[1:] / SPREAD).sum() + 0.5 * values[0] ** 2)

    oracle = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-6})
    found = fit(raw, labels, Reading(), UNIFORM, UNIFORM)
    assert math.log(found.temperature) == pytest.approx(oracle.x[0], abs=1e-3)
    np.testing.assert_allclose(found.bias, oracle.x[1:] - oracle.x[1:].mean(), atol=1e-3)


def test_weights_make_the_classes_count_as_the_prior_says() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])
    weights = prior_weights(labels, np.array([0.2, 0.3, 0.5]))
    assert weights.mean() == pytest.approx(1)
    assert [weights[labels == c].sum() / weights.sum() for c in range(3)] == pytest.approx([0.2, 0.3, 0.5])
    assert len(prior_weights(np.empty(0, np.int64), UNIFORM)) == 0


def test_no_images_have_no_calibration_error() -> None:
    assert ece(np.empty((0, 2)), np.empty(0, np.int64), np.array([0.5, 0.5])) is None


def test_exact_probabilities_have_a_small_error_and_sharpened_ones_a_large_one() -> None:
    exact, labels = drawn(20_000, UNIFORM, seed=1)
    good, bad = ece(exact, labels, UNIFORM), ece(3 * exact, labels, UNIFORM)
    assert good is not None and bad is not None and good < 0.02 < 0.1 < bad


@pytest.mark.parametrize("sensitivity", [0.5, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("decimals", [1, 6])
def test_the_threshold_is_the_highest_that_flags_enough(sensitivity: float, decimals: int) -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(200) < 0.3
    scores = np.round(np.clip(rng.normal(0.4 + 0.2 * positive, 0.2), 0, 1), decimals)  # one decimal: many ties
    found = threshold(scores, positive, sensitivity)
    reached = [s for s in np.unique(scores) if (scores[positive] >= s).mean() >= sensitivity]
    flagged = scores >= found
    assert (flagged == (scores >= max(reached))).all()
    assert (scores[positive] >= found).mean() >= sensitivity
    assert not (scores == found).any() or found == 0


def test_a_threshold_without_positives_is_a_half() -> None:
    assert threshold(np.array([0.1, 0.9]), np.array([False, False]), 0.95) == 0.5


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_have_no_threshold(poison: float) -> None:
    with pytest.raises(GateError, match="not finite"):
        threshold(np.array([0.1, poison, 0.9]), np.array([True, False, True]), 0.95)


def test_folding_into_the_classifier_equals_apply() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = torch.nn.Linear(5, 8), torch.nn.Linear(8, 4)

        def get_classifier(self) -> torch.nn.Module:
            return self.fc

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.body(x))

    torch.manual_seed(0)
    net, x = Net(), torch.randn(6, 5)
    raw = net(x).detach().numpy()
    calibration = Calibration(Reading(), 1.7, (0.3, -0.1, 0.0, -0.2), 10)
    fold(net, calibration)
    np.testing.assert_allclose(net(x).detach().numpy(), calibration.apply(raw), rtol=1e-5, atol=1e-6)


def test_a_stored_reading_holds_unless_overridden() -> None:
    assert Reading.of({}) == Reading("uniform", 0.95)
    known = Calibration(Reading("training", 0.9), 1.0, (0.0,), 1).to_dict()
    assert Reading.of(known) == Reading("training", 0.9)
    assert Reading.of(known, sensitivity=0.8) == Reading("training", 0.8)
    assert Reading.of(known, prior="uniform") == Reading("uniform", 0.9)


@pytest.mark.parametrize(("prior", "sensitivity", "said"), [("real", 0.9, "uniform"), ("uniform", 0.0, "sensitivity")])
def test_a_wrong_reading_is_an_error(prior: str, sensitivity: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Reading(prior, sensitivity)
