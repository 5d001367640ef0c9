"""Which class prior a figure assumes: the same figures, whatever prior the file was exported for."""

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


def test_by_hand() -> None:
    found = reweighed(np.float32([[0.2, 0.3, 0.5], [1, 0, 0]]), UNIFORM, TRAINING)
    np.testing.assert_allclose(found, [[14 / 25, 6 / 25, 5 / 25], [1, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(reweighed(found, TRAINING, UNIFORM), [[0.2, 0.3, 0.5], [1, 0, 0]], rtol=1e-6)


def test_it_is_bayes_rule() -> None:
    """Three normal distributions: what each value says of its class, under either prior, is known exactly."""
    values = np.linspace(-4, 6, 50)
    density = np.stack([stats.norm.pdf(values, mean, 1.3) for mean in (-1, 0.5, 2)], axis=1)
    under = {p: density * p / (density * p).sum(axis=1, keepdims=True) for p in (TRAINING, (0.25, 0.25, 0.5))}
    np.testing.assert_allclose(reweighed(under[TRAINING], TRAINING, (0.25, 0.25, 0.5)), under[0.25, 0.25, 0.5])


def test_an_equal_prior_changes_no_bit() -> None:
    said = np.float32([[0.1, 0.2, 0.7]])
    assert reweighed(said, UNIFORM, tuple(np.float64(1) / 3 for _ in LABELS)) is said


@pytest.fixture(scope="module")
def said() -> Predictions:
    """Of a file that assumes the uniform prior."""
    rng = np.random.default_rng(4)
    truth = rng.choice(3, 200, p=TRAINING)
    probabilities = metrics.softmax(rng.normal(size=(200, 3)) + 1.2 * np.eye(3)[truth])
    return Predictions(LABELS, truth, probabilities, (1, 2), 0.5, UNIFORM, TRAINING)


def test_accuracy_is_at_the_training_prior_and_what_counts_classes_alike_at_the_uniform_one(said: Predictions) -> None:
    trained = said.probabilities * np.array(TRAINING)
    predicted = trained.argmax(axis=1)
    found = overall_document(said)
    assert found["accuracy"] == oracle.accuracy_score(said.truth, predicted)
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(said.truth, said.predicted))
    own = oracle.accuracy_score(said.truth, said.predicted)
    assert found["accuracy"] > own + 0.02  # these images come at the training prior: it must pay
    areas = [oracle.roc_auc_score(said.truth == c, (trained / trained.sum(axis=1)[:, None])[:, c]) for c in range(3)]
    assert found["macro_auc_training_prior"] == pytest.approx(np.mean(areas))
    assert found["macro_auc_training_prior"] != found["macro_auc"]


def test_the_figures_do_not_depend_on_the_prior_that_the_file_was_exported_for(said: Predictions) -> None:
    other = replace(said, probabilities=reweighed(said.probabilities, UNIFORM, TRAINING), prior=TRAINING)
    assert (other.predicted != said.predicted).any()
    assert overall_document(other) == pytest.approx(overall_document(said))
    for label, row in per_class_document(said).items():
        assert per_class_document(other)[label] == pytest.approx(row)


def test_without_a_known_prior_the_figures_are_the_files_own(said: Predictions) -> None:
    alone = replace(said, prior=None)
    found: dict[str, Any] = overall_document(alone)
    assert found["accuracy"] == oracle.accuracy_score(said.truth, said.predicted)
    assert np.isnan(found["macro_auc_training_prior"])
    assert set(priors_document(alone)["assumed_prior"].values()) == {"file"}  # type: ignore[attr-defined]
    assert priors_document(said)["training_prior"] == dict(zip(LABELS, TRAINING, strict=True))


def test_a_file_states_its_prior_and_its_run_that_of_training(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_run)
    manifest, model = bundle.manifest, open_listed(bundle)
    training = [manifest.training["data"]["training_prior"][label] for label in manifest.labels]
    own, learned = priors_of(model, bundle)
    assert own == pytest.approx([1 / 7] * 7) and learned == pytest.approx(training)
    alone = tmp_path / model.name
    alone.write_bytes(model.path.read_bytes())
    assert priors_of(open_file(alone), None) == (own, None)


def test_a_share_that_is_none_is_refused(tiny_run: Path) -> None:
    bundle = Bundle.open(tiny_run)
    labels = bundle.manifest.labels
    for prior in ({}, dict.fromkeys(labels, 0.1), {**dict.fromkeys(labels, 0.25), labels[0]: -0.5}):
        wrong = replace(bundle, manifest=replace(bundle.manifest, class_prior=prior))
        with pytest.raises(DataError, match="class prior"):
            priors_of(open_listed(bundle), wrong)
