"""Training's choices: what each does to the loss, the order and the weights, against its own definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from skinedge.core.preprocess import Preprocess
from skinedge.network import lora, model
from skinedge.run.config import LoraSettings, OptimizerSettings, TrainConfig
from skinedge.training import train_loop
from skinedge.training.train_step import Examples, Problem, batch_indices, class_loss

COUNTS = (70, 20, 10)


def problem(**settings: object) -> Problem:
    labels = np.repeat(np.arange(3), COUNTS)
    examples = Examples(np.zeros((len(labels), 2, 2, 3), np.uint8), labels)
    config = replace(TrainConfig(batch_size=20), **settings)
    return Problem(config, Preprocess(32), 3, examples, examples, "cpu", "fp32")


def loss_of(imbalance: str, smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits, targets = torch.randn(12, 3), torch.arange(12) % 3
    optimizer = OptimizerSettings(label_smoothing=smoothing)
    return class_loss(logits, targets, problem(imbalance=imbalance, optimizer=optimizer)), logits, targets


def test_plain_cross_entropy() -> None:
    loss, logits, targets = loss_of("none", smoothing=0.1)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, targets, label_smoothing=0.1))


def test_logit_adjustment_shifts_by_the_log_frequencies() -> None:
    loss, logits, targets = loss_of("logit-adjusted")
    shifted = logits + torch.tensor(COUNTS).float().div(sum(COUNTS)).log()
    torch.testing.assert_close(loss, functional.cross_entropy(shifted, targets))


def test_focal_loss_weighs_down_what_is_known() -> None:
    loss, logits, targets = loss_of("focal")
    given = logits.softmax(1)[torch.arange(12), targets]
    torch.testing.assert_close(loss, ((1 - given) ** 2 * -given.log()).mean())


def test_every_image_is_seen_once_an_epoch() -> None:
    steps = problem().steps_per_epoch
    seen = np.concatenate([batch_indices(problem(), step) for step in range(steps)])
    assert sorted(seen) == list(range(sum(COUNTS)))
    again = np.concatenate([batch_indices(problem(), step) for step in range(steps, 2 * steps)])
    assert sorted(again) == sorted(seen) and (again != seen).any()


def test_balanced_sampling_draws_each_class_as_often() -> None:
    balanced = problem(imbalance="balanced-sampling")
    seen = np.concatenate([batch_indices(balanced, step) for step in range(100 * balanced.steps_per_epoch)])
    shares = np.bincount(balanced.train.labels[seen]) / len(seen)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)
    np.testing.assert_array_equal(batch_indices(balanced, 7), batch_indices(balanced, 7))


@pytest.fixture(scope="module")
def adapted() -> torch.nn.Module:
    return lora.attach(model.build("test_efficientnet", 3), LoraSettings(rank=4, alpha=8, rank_stabilized=True))


def test_rank_stabilized_adapters_scale_by_the_root_of_the_rank(adapted: torch.nn.Module) -> None:
    scales = {m.scaling["default"] for m in adapted.modules() if hasattr(m, "scaling")}
    assert scales == {8 / 4**0.5}


def test_lora_plus_gives_b_a_learning_rate_of_its_own(adapted: torch.nn.Module) -> None:
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    optimizer = train_loop.make_optimizer(trainable, OptimizerSettings(lora_plus=8))
    fast = {id(p) for group in optimizer.param_groups if group["times"] == 8 for p in group["params"]}
    assert fast == {id(p) for name, p in trainable.items() if "lora_B" in name}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable)


def test_the_average_follows_the_weights() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    progress, decay, expected = train_loop.Progress(), 0.9, 0.0
    for step in range(1, 200):
        weight.data.fill_(float(step))
        progress.step = step
        train_loop.update_ema(progress, {"w": weight}, decay)
        slow = min(decay, (1 + step) / (10 + step))
        expected = 1.0 if step == 1 else slow * expected + (1 - slow) * step
    torch.testing.assert_close(progress.average["w"], torch.full((2,), expected))
    assert 180 < float(progress.average["w"][0]) < 199  # some ten steps behind
    with train_loop.averaged(progress, {"w": weight}):
        torch.testing.assert_close(weight.data, progress.average["w"])
    assert (weight == 199).all()


def test_without_a_decay_no_average_is_kept() -> None:
    progress = train_loop.Progress(step=3)
    train_loop.update_ema(progress, {"w": torch.nn.Parameter(torch.ones(1))}, 0.0)
    assert progress.average == {}
