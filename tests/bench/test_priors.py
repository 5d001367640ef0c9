"""Class priors of the metrics: the same metrics for any prior that the file was exported for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy import stats

from skinedge.core.errors import DataError
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge_bench.evaluate.document import (
    Predictions,
    overall_document,
    per_class_document,
    priors_document,
    reweighed,
)
from skinedge_bench.evaluate.evaluate import priors_of
from skinedge_bench.loaded_model import open_file, open_listed

LABELS = ("a", "b", "c")
UNIFORM, TRAINING = (1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)


def test_reweighing_matches_a_hand_computed_example() -> None:
    shifted = reweighed(np.float32([[0.2, 0.3, 0.5], [1, 0, 0]]), UNIFORM, TRAINING)
    np.testing.assert_allclose(shifted, [[14 / 25, 6 / 25, 5 / 25], [1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(reweighed(shifted, TRAINING, UNIFORM), [[0.2, 0.3, 0.5], [1, 0, 0]], rtol=1e-6)


def test_reweighing_is_bayes_rule() -> None:
    """Three normal distributions, whose class probabilities are known exactly for both priors."""
    values = np.linspace(-4, 6, 50)
    density = np.stack([stats.norm.pdf(values, mean, 1.3) for mean in (-1, 0.5, 2)], axis=1)
    under = {p: density * p / (density * p).sum(axis=1, keepdims=True) for p in (TRAINING, (0.25, 0.25, 0.5))}
    np.testing.assert_allclose(reweighed(under[TRAINING], TRAINING, (0.25, 0.25, 0.5)), under[0.25, 0.25, 0.5])


def test_an_equal_prior_returns_the_same_array() -> None:
    probabilities = np.float32([[0.1, 0.2, 0.7]])
    assert reweighed(probabilities, UNIFORM, tuple(np.float64(1) / 3 for _ in LABELS)) is probabilities


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """Predictions of a file that assumes the uniform prior."""
    rng = np.random.default_rng(4)
    truth = rng.choice(3, 200, p=TRAINING)
    probabilities = metrics.softmax(rng.normal(size=(200, 3)) + 1.2 * np.eye(3)[truth])
    return Predictions(LABELS, truth, probabilities, (1, 2), 0.5, UNIFORM, TRAINING)


def test_accuracy_assumes_the_training_prior_and_balanced_metrics_the_uniform_prior(predictions: Predictions) -> None:
    trained = predictions.probabilities * np.array(TRAINING)
    predicted = trained.argmax(axis=1)
    document, truth = overall_document(predictions), predictions.truth
    assert document["accuracy"] == oracle.accuracy_score(truth, predicted)
    assert document["balanced_accuracy"] == pytest.approx(
        oracle.balanced_accuracy_score(predictions.truth, predictions.predicted)
    )
    own = oracle.accuracy_score(truth, predictions.predicted)
    assert document["accuracy"] > own + 0.02  # the images have the training prior
    areas = [oracle.roc_auc_score(truth == c, (trained / trained.sum(axis=1)[:, None])[:, c]) for c in range(3)]
    assert document["macro_auc_training_prior"] == pytest.approx(np.mean(areas))
    assert document["macro_auc_training_prior"] != document["macro_auc"]


def test_metrics_do_not_depend_on_the_prior_of_the_file(predictions: Predictions) -> None:
    other = replace(predictions, probabilities=reweighed(predictions.probabilities, UNIFORM, TRAINING), prior=TRAINING)
    assert (other.predicted != predictions.predicted).any()
    assert overall_document(other) == pytest.approx(overall_document(predictions))
    for label, row in per_class_document(predictions).items():
        row_of_other = per_class_document(other)[label]
        del row["flagged"], row_of_other["flagged"]  # by the file's own probabilities
        assert row_of_other == pytest.approx(row)


def test_without_a_prior_the_metrics_are_the_files_own(predictions: Predictions) -> None:
    without_prior = replace(predictions, prior=None)
    document: dict[str, Any] = overall_document(without_prior)
    assert document["accuracy"] == oracle.accuracy_score(predictions.truth, predictions.predicted)
    assert np.isnan(document["macro_auc_training_prior"])
    assert set(priors_document(without_prior)["assumed_prior"].values()) == {"file"}  # type: ignore[attr-defined]
    assert priors_document(predictions)["training_prior"] == dict(zip(LABELS, TRAINING, strict=True))


def test_priors_come_from_the_file_and_from_its_run(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_run)
    manifest, model = bundle.manifest, open_listed(bundle)
    training = [manifest.training["data"]["training_prior"][label] for label in manifest.labels]
    own, learned = priors_of(model, bundle)
    assert own == pytest.approx([1 / 7] * 7) and learned == pytest.approx(training)
    copy = tmp_path / model.name
    copy.write_bytes(model.path.read_bytes())
    assert priors_of(open_file(copy), None) == (own, None)


def test_an_invalid_class_prior_is_refused(tiny_run: Path) -> None:
    bundle = Bundle.open(tiny_run)
    labels = bundle.manifest.labels
    for prior in ({}, dict.fromkeys(labels, 0.1), {**dict.fromkeys(labels, 0.25), labels[0]: -0.5}):
        wrong = replace(bundle, manifest=replace(bundle.manifest, class_prior=prior))
        with pytest.raises(DataError, match="class prior"):
            priors_of(open_listed(bundle), wrong)
