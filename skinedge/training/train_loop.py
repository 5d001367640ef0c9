"""The training loop: adapters and classifier, checkpoints, early stopping.

A step's randomness is a function of the seed and the step's number alone (train_step.py), so a checkpoint needs no
generator state and a resumed run repeats the uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.preprocess import Pixels
from skinedge.run.config import OptimizerSettings
from skinedge.stats import metrics
from skinedge.stats.calibration import learned_prior
from skinedge.system import signals
from skinedge.system.progress import bar, note
from skinedge.training.checkpoint import Checkpoints
from skinedge.training.train_step import Problem, autocast, batch_gradients, diverged, normalize

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Progress:
    """Where training stands; all of it goes into a checkpoint.

    step: batches done; loss_sum, seconds: of the running epoch; total_seconds: of all steps, over all
    sessions; history: one row per finished epoch; best: trainable tensors at the best validation balanced
    accuracy so far; average: the moving average of the trainable tensors, {} where none is kept; micro_batch: images
    that the device's memory holds at a time, None while that is no limit.
    """

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    total_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    micro_batch: int | None = None

    @property
    def best_epoch(self) -> int:
        """Index of the best epoch; -1 before the first has ended."""
        scores = [row["val_balanced_accuracy"] for row in self.history]
        return int(np.argmax(scores)) if scores else -1


def fit(network: nn.Module, problem: Problem, checkpoints: Checkpoints) -> Progress:
    """Train until the epochs are over or validation stops improving; leaves the best weights loaded.

    Resumes from the newest good checkpoint if there is one.
    Raises: SkinedgeError when the loss is not finite; after a checkpoint was written, in every process when any was
    asked to stop: KeyboardInterrupt, or SystemExit(128 + number) where a signal other than SIGINT asked.
    """
    processes = problem.processes
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(trainable, problem.config.optimizer)
    progress = Progress(**checkpoints.restore(trainable, optimizer, processes))
    progress.average = {name: tensor.to(trainable[name].device) for name, tensor in progress.average.items()}
    network = processes.wrap(network)
    saved = time.monotonic()
    with stop_requests() as stop:
        while not finished(progress, problem):
            epoch_before = len(progress.history)
            with bar(f"epoch {epoch_before + 1}/{problem.config.epochs}", len(problem.train.labels)) as advance:
                advance(progress.step % problem.steps_per_epoch * problem.config.batch_size)
                while len(progress.history) == epoch_before:
                    advance(one_step(network, optimizer, problem, progress))
                    update_ema(progress, trainable, problem.config.optimizer.average)
                    if progress.step % problem.steps_per_epoch == 0:
                        end_epoch(network, trainable, problem, progress)
                    late = time.monotonic() - saved > 60 * problem.config.checkpoint_minutes
                    due, stopping = processes.sum(late, stop.asked)
                    if due or stopping or len(progress.history) > epoch_before:
                        processes.on_main(lambda: checkpoints.save(trainable, optimizer, vars(progress)))
                        saved = time.monotonic()
                    if stopping:
                        raise signals.ended_by(stop.number)
    load(trainable, progress.best)
    return progress


def finished(progress: Progress, problem: Problem) -> bool:
    epochs = len(progress.history)
    return epochs >= problem.config.epochs or epochs - 1 - progress.best_epoch >= problem.config.patience


def one_step(network: nn.Module, optimizer: Any, problem: Problem, progress: Progress) -> int:
    """One batch forward, backward and update; returns the number of images in it."""
    import torch

    start = time.monotonic()
    config, images = problem.config, problem.batch_length(progress.step)
    micro = progress.micro_batch or config.batch_size
    loss, fitting = batch_gradients(network, optimizer, problem, progress.step, micro)
    if fitting < micro:
        progress.micro_batch = fitting
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(trained, config.optimizer.clip))
    if not math.isfinite(norm):  # the same in every process; a step would write it into the weights
        problem.processes.give_up(diverged(f"the gradient's norm became {norm}", progress.step))
    for group in optimizer.param_groups:
        group["lr"] = group["times"] * learning_rate(progress.step, problem)
    optimizer.step()
    progress.loss_sum += loss * images
    progress.step += 1
    progress.seconds += time.monotonic() - start
    return images


def end_epoch(network: nn.Module, trainable: dict[str, Any], problem: Problem, progress: Progress) -> None:
    """Validate, note the epoch in the history, keep the weights if they are the best so far."""
    processes = problem.processes
    mine = problem.val.pixels[processes.share(len(problem.val.labels))]
    with averaged(progress, trainable):
        logits = processes.gather(
            predict_logits(network, mine, problem, min(64, progress.micro_batch or problem.config.batch_size))
        )
    row = processes.on_main(lambda: epoch_row(logits, problem, progress))
    progress.history.append(row)
    progress.total_seconds += progress.seconds
    progress.loss_sum = progress.seconds = 0.0
    if progress.best_epoch == len(progress.history) - 1:
        judged = progress.average or trainable
        progress.best = {name: tensor.detach().clone() for name, tensor in judged.items()}
    note(
        f"epoch {row['epoch']:.0f}/{problem.config.epochs}  loss {row['train_loss']:.3f}  "
        f"val balanced accuracy {row['val_balanced_accuracy']:.3f}  macro AUC {row['val_macro_auc']:.3f}  "
        f"{row['images_per_second']:.1f} images/s"
    )


def epoch_row(logits: NDArray[np.float32], problem: Problem, progress: Progress) -> dict[str, float]:
    """What the history keeps of the epoch that ends. logits: (N, C), of the validation images.

    Accuracy is judged under the training images' class prior, all else under a uniform one.
    """
    frequencies = np.bincount(problem.train.labels, minlength=problem.classes) / len(problem.train.labels)
    learned = learned_prior(problem.config.imbalance, {str(c): share for c, share in enumerate(frequencies)})
    even = logits - np.log(list(learned.values()))
    probabilities = metrics.softmax(even)
    answers = (even + np.log(frequencies)).argmax(axis=1)
    count = len(problem.train.labels)
    return {
        "epoch": len(progress.history) + 1,
        "train_loss": progress.loss_sum / count,
        "val_accuracy": metrics.accuracy(problem.val.labels, answers),
        "val_balanced_accuracy": metrics.balanced_accuracy(problem.val.labels, probabilities.argmax(axis=1)),
        "val_macro_auc": metrics.macro_auc(problem.val.labels, probabilities),
        "images_per_second": count / progress.seconds,
    }


def predict_logits(network: nn.Module, pixels: Pixels, problem: Problem, batch: int = 64) -> NDArray[np.float32]:
    """pixels: (N, S, S, 3) uint8, prepared; returns (N, C) float32."""
    import torch

    network.eval()
    rows = [np.empty((0, problem.classes), np.float32)]
    with torch.inference_mode(), autocast(problem):
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(np.array(pixels[start : start + batch])).to(problem.device)
            inputs = normalize(images.permute(0, 3, 1, 2).float(), problem.preprocess)
            rows.append(network(inputs).float().cpu().numpy())
    return np.concatenate(rows)


def learning_rate(step: int, problem: Problem) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    settings = problem.config.optimizer
    total = problem.config.epochs * problem.steps_per_epoch
    warm = max(1, round(settings.warmup * total))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(trainable: dict[str, Any], settings: OptimizerSettings) -> Any:
    """AdamW over groups; `times` is the group's learning rate in units of the schedule's.

    DoRA's magnitudes do not decay: A and B do so towards the base network, magnitudes would towards none.
    """
    import torch

    ups = [tensor for name, tensor in trainable.items() if "lora_B" in name]
    magnitudes = [tensor for name, tensor in trainable.items() if "lora_magnitude_vector" in name]
    apart = {id(tensor) for tensor in (*ups, *magnitudes)}
    others = [tensor for tensor in trainable.values() if id(tensor) not in apart]
    groups = [{"params": others, "times": 1.0}, {"params": ups, "times": settings.lora_plus}]
    if magnitudes:
        groups.append({"params": magnitudes, "times": 1.0, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def update_ema(progress: Progress, trainable: dict[str, Any], decay: float) -> None:
    """Move the average of the weights one step on. decay: 0..1, 0 keeps none.

    It starts with a short memory, (1 + n) / (10 + n) after n steps, or the first weights would linger.
    """
    if not decay:
        return
    if not progress.average:
        progress.average = {name: tensor.detach().clone() for name, tensor in trainable.items()}
    slow = min(decay, (1 + progress.step) / (10 + progress.step))
    for name, tensor in trainable.items():
        progress.average[name].lerp_(tensor.detach(), 1 - slow)


@contextmanager
def averaged(progress: Progress, trainable: dict[str, Any]) -> Iterator[None]:
    """Within, the network has the averaged weights, if any are kept."""
    current = {name: trainable[name].detach().clone() for name in progress.average}
    load(trainable, progress.average)
    try:
        yield
    finally:
        load(trainable, current)


def load(trainable: dict[str, Any], values: dict[str, Any]) -> None:
    for name, tensor in values.items():
        trainable[name].data.copy_(tensor)


@dataclass
class StopRequest:
    """number: of the signal that asked to stop, None before one did."""

    number: int | None = None

    @property
    def asked(self) -> bool:
        return self.number is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C (SIGTERM, SIGHUP) into a request that is met after the current step."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number: int, frame: object) -> None:
        if stop.asked:
            raise signals.ended_by(number)
        stop.number = number
        note("stopping after this step, a checkpoint will be written (again to stop at once)")

    ending = [number for number in signals.ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    old = {number: signal.signal(number, handler) for number in ending}
    try:
        yield stop
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
