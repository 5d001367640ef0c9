"""The loss of several sources against sums over probabilities, and against plain cross entropy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import Sample
from skinedge.run.config import OptimizerSettings, TrainConfig
from skinedge.training.source_loss import set_losses, source_rules
from skinedge.training.train_step import Examples, Problem, batch_loss, class_loss, epoch_order, source_terms

LABELS = ("akiec", "bkl", "mel", "nv")
KNOWN = {"ham": LABELS, "clinic": ("bkl", "mel", "nv")}


def samples() -> list[Sample]:
    rows = [("ham", label) for label in LABELS for _ in range(5)] + [("clinic", name) for name in ("mel", "benign") * 6]
    return [Sample(str(i), str(i), label, split="train", source=source) for i, (source, label) in enumerate(rows)]


def problem(imbalance: str, *, smoothing: float = 0.1, known: dict[str, tuple[str, ...]] | None = None) -> Problem:
    members = samples()
    rows = [*LABELS, "benign"]
    rules = source_rules(members, LABELS, {"benign": ("bkl", "nv")}, known or KNOWN)
    labels = np.array([rows.index(sample.label) for sample in members])
    sources = np.array([list(KNOWN).index(sample.source) for sample in members])
    examples = Examples(np.zeros((len(members), 32, 32, 3), np.uint8), labels, rules, sources)
    config = TrainConfig(imbalance=imbalance, optimizer=OptimizerSettings(label_smoothing=smoothing))
    return Problem(config, Preprocess(32), len(LABELS), examples, examples, "cpu", "fp32")


def test_the_loss_is_that_of_the_sums_of_probabilities() -> None:
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([[True] * 4] * 3 + [[False, True, True, True]] * 3)
    targets = torch.tensor([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]] * 2, dtype=torch.bool) & known
    targets[3] = torch.tensor([False, True, True, True])
    losses, p = set_losses(logits, targets, known, 0.0)
    odds = logits.exp()
    expected = (odds * targets).sum(1) / (odds * known).sum(1)
    assert torch.allclose(p, expected) and torch.allclose(losses, -expected.log())
    assert losses[3] == pytest.approx(0), "a label of all known classes says nothing"


def test_with_one_class_for_each_image_it_is_cross_entropy() -> None:
    logits = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(8) % 4
    losses, _ = set_losses(logits, functional.one_hot(labels, 4).bool(), torch.ones(8, 4, dtype=torch.bool), 0.1)
    assert torch.allclose(losses.mean(), functional.cross_entropy(logits, labels, label_smoothing=0.1))


@pytest.mark.parametrize("imbalance", ["none", "focal", "logit-adjusted", "balanced-sampling"])
def test_a_source_says_nothing_of_classes_that_it_lacks(imbalance: str) -> None:
    this = problem(imbalance)
    chosen = np.arange(20, 32)  # of the clinic
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(2), requires_grad=True)
    loss = batch_loss(logits, torch.from_numpy(this.train.labels[chosen]), None, this, source_terms(this, chosen))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None and bool((logits.grad[:, 0] == 0).all()), "akiec"
    assert bool((logits.grad[:, 1:] != 0).all())


def test_logit_adjustment_uses_the_frequencies_of_each_source() -> None:
    this = problem("logit-adjusted", smoothing=0.0)
    frequencies = this.train.rules.frequencies(this.train.labels)  # type: ignore[union-attr]
    assert np.allclose(frequencies, [[0.25] * 4, [0, 0.25, 0.5, 0.25]])
    logits = torch.zeros(1, 4)
    mel = np.array([20])
    loss = batch_loss(logits, torch.from_numpy(this.train.labels[mel]), None, this, source_terms(this, mel))
    assert loss == pytest.approx(-np.log(0.5))


def test_a_class_without_a_training_image_in_its_source_gives_a_finite_loss() -> None:
    this = problem("logit-adjusted", known={"ham": LABELS, "clinic": LABELS})
    chosen = np.arange(20, 32)
    logits = torch.zeros(12, 4, requires_grad=True)
    loss = batch_loss(logits, torch.from_numpy(this.train.labels[chosen]), None, this, source_terms(this, chosen))
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_one_folder_of_known_classes_needs_no_rules_and_keeps_its_loss() -> None:
    members = [Sample(str(i), str(i), LABELS[i % 4]) for i in range(8)]
    assert source_rules(members, LABELS, {}, {"": LABELS}) is None
    examples = Examples(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 4)
    this = Problem(TrainConfig(), Preprocess(32), 4, examples, examples, "cpu", "fp32")
    logits, labels = torch.randn(8, 4, generator=torch.Generator().manual_seed(3)), torch.arange(8) % 4
    assert source_terms(this, np.arange(8)) is None
    assert batch_loss(logits, labels, None, this) == class_loss(logits, labels, this)


def test_sources_are_drawn_equally_often() -> None:
    this = problem("none")
    equal = Problem(TrainConfig(source_sampling="equal", imbalance="balanced-sampling"), *list(vars(this).values())[1:])
    drawn = np.concatenate([epoch_order(equal, np.random.default_rng(seed)) for seed in range(200)])
    assert this.train.sources is not None
    shares = np.bincount(this.train.sources[drawn]) / len(drawn)
    assert shares == pytest.approx([0.5, 0.5], abs=0.02)
    assert sorted(epoch_order(this, np.random.default_rng(0))) == list(range(32)), "each image once"
