"""The training loop: adapters and classifier, checkpoints, early stopping.

The randomness of a step depends only on the seed and the step number (train_step.py), so a checkpoint needs no
generator state, and a resumed training is bit-identical to an uninterrupted one.
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
from skinedge.training.train_step import Problem, autocast, batch_gradients, divergence_error, normalize

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Progress:
    """The state of a training; every field is saved in a checkpoint.

    step: completed batches; loss_sum, seconds: totals of the current epoch; total_seconds: duration of all steps, over
    all sessions; history: one row per finished epoch; best: trainable tensors of the epoch with the highest validation
    balanced accuracy; average: exponential moving average (EMA) of the trainable tensors, {} if disabled;
    micro_batch: images per forward pass that fit into the device's memory, None while a whole batch fits.
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
        """Index of the best epoch; -1 before the first epoch is complete."""
        scores = [row["val_balanced_accuracy"] for row in self.history]
        return int(np.argmax(scores)) if scores else -1


def fit(network: nn.Module, problem: Problem, checkpoints: Checkpoints) -> Progress:
    """Train to the last epoch or until validation stops improving, then load the best weights into `network`.

    Resumes from the newest valid checkpoint, if any.
    Raises: SkinedgeError when the loss is not finite; on a stop request to any process, in every process and after
    writing a checkpoint: KeyboardInterrupt, or SystemExit(128 + number) for a signal other than SIGINT.
    """
    processes = problem.processes
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(trainable, problem.config.optimizer)
    progress = Progress(**checkpoints.restore(trainable, optimizer, processes))
    progress.average = {name: tensor.to(trainable[name].device) for name, tensor in progress.average.items()}
    network = processes.wrap(network)
    last_save = time.monotonic()
    with stop_requests() as stop:
        while not finished(progress, problem):
            epoch_before = len(progress.history)
            with bar(f"epoch {epoch_before + 1}/{problem.config.epochs}", len(problem.train.labels)) as advance:
                advance(progress.step % problem.steps_per_epoch * problem.config.batch_size)
                while len(progress.history) == epoch_before:
                    advance(train_on_batch(network, optimizer, problem, progress))
                    update_ema(progress, trainable, problem.config.optimizer.average)
                    if progress.step % problem.steps_per_epoch == 0:
                        end_epoch(network, trainable, problem, progress)
                    overdue = time.monotonic() - last_save > 60 * problem.config.checkpoint_minutes
                    save_due, stopping = processes.sum(overdue, stop.requested)
                    if save_due or stopping or len(progress.history) > epoch_before:
                        processes.on_main(lambda: checkpoints.save(trainable, optimizer, vars(progress)))
                        last_save = time.monotonic()
                    if stopping:
                        raise signals.ended_by(stop.number)
    copy_weights(trainable, progress.best)
    if len(progress.history) < problem.config.epochs:
        note(
            f"stopped: no better validation balanced accuracy for {problem.config.patience} epochs; "
            f"epoch {progress.best_epoch + 1} is kept"
        )
    return progress


def finished(progress: Progress, problem: Problem) -> bool:
    """Return True after the last epoch, or after `patience` epochs without improvement."""
    epochs = len(progress.history)
    return epochs >= problem.config.epochs or epochs - 1 - progress.best_epoch >= problem.config.patience


def train_on_batch(network: nn.Module, optimizer: Any, problem: Problem, progress: Progress) -> int:
    """Train on one batch: forward, backward, update. Return its number of images."""
    import torch

    start = time.monotonic()
    config, images = problem.config, problem.batch_length(progress.step)
    micro = progress.micro_batch or config.batch_size
    loss, fitting_micro = batch_gradients(network, optimizer, problem, progress.step, micro)
    if fitting_micro < micro:
        progress.micro_batch = fitting_micro
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.clip))
    if not math.isfinite(norm):  # equal in every process; an optimizer step would spread it to the weights
        problem.processes.fail(divergence_error(f"the gradient norm became {norm}", progress.step))
    for group in optimizer.param_groups:
        group["lr"] = group["times"] * learning_rate(progress.step, problem)
    optimizer.step()
    progress.loss_sum += loss * images
    progress.step += 1
    progress.seconds += time.monotonic() - start
    return images


def end_epoch(network: nn.Module, trainable: dict[str, Any], problem: Problem, progress: Progress) -> None:
    """Validate, add the epoch to the history, and keep the weights if they are the best so far."""
    processes = problem.processes
    own_pixels = problem.val.pixels[processes.share(len(problem.val.labels))]
    with averaged(progress, trainable):
        logits = processes.gather(
            predict_logits(network, own_pixels, problem, min(64, progress.micro_batch or problem.config.batch_size))
        )
    row = processes.on_main(lambda: epoch_row(logits, problem, progress))
    progress.history.append(row)
    progress.total_seconds += progress.seconds
    progress.loss_sum = progress.seconds = 0.0
    if progress.best_epoch == len(progress.history) - 1:
        validated = progress.average or trainable
        progress.best = {name: tensor.detach().clone() for name, tensor in validated.items()}
    note(
        f"epoch {row['epoch']:.0f}/{problem.config.epochs}  loss {row['train_loss']:.3f}  "
        f"val balanced accuracy {row['val_balanced_accuracy']:.3f}  macro AUC {row['val_macro_auc']:.3f}  "
        f"{row['images_per_second']:.1f} images/s"
    )


def epoch_row(logits: NDArray[np.float32], problem: Problem, progress: Progress) -> dict[str, float]:
    """Return the history row of the epoch that ends.

    Accuracy assumes the class prior of the training images; all other metrics assume a uniform prior.
    logits: (N, C) float32, of the validation images.
    """
    frequencies = problem.frequencies
    prior = learned_prior(problem.config.imbalance, {str(c): share for c, share in enumerate(frequencies)})
    uniform_logits = logits - np.log(list(prior.values()))
    probabilities = metrics.softmax(uniform_logits)
    predictions = (uniform_logits + np.log(frequencies)).argmax(axis=1)
    count = len(problem.train.labels)
    return {
        "epoch": len(progress.history) + 1,
        "train_loss": progress.loss_sum / count,
        "val_accuracy": metrics.accuracy(problem.val.labels, predictions),
        "val_balanced_accuracy": metrics.balanced_accuracy(problem.val.labels, probabilities.argmax(axis=1)),
        "val_macro_auc": metrics.macro_auc(problem.val.labels, probabilities),
        "images_per_second": count / progress.seconds,
    }


def predict_logits(network: nn.Module, pixels: Pixels, problem: Problem, batch: int = 64) -> NDArray[np.float32]:
    """Compute the logits, (N, C) float32, of prepared images. pixels: (N, S, S, 3) uint8."""
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
    """Return the learning rate of a step: linear warm-up, then cosine decay to zero at the last step."""
    settings = problem.config.optimizer
    total = problem.config.epochs * problem.steps_per_epoch
    warmup = max(1, round(settings.warmup * total))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizer(trainable: dict[str, Any], settings: OptimizerSettings) -> Any:
    """Build AdamW over parameter groups; a group's `times` multiplies the scheduled learning rate.

    DoRA's magnitudes have no weight decay: decay of A and B leads back to the base network, decay of magnitudes does
    not.
    """
    import torch

    ups = [tensor for name, tensor in trainable.items() if "lora_B" in name]
    magnitudes = [tensor for name, tensor in trainable.items() if "lora_magnitude_vector" in name]
    grouped = {id(tensor) for tensor in (*ups, *magnitudes)}
    others = [tensor for tensor in trainable.values() if id(tensor) not in grouped]
    groups = [{"params": others, "times": 1.0}, {"params": ups, "times": settings.lora_plus}]
    if magnitudes:
        groups.append({"params": magnitudes, "times": 1.0, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def update_ema(progress: Progress, trainable: dict[str, Any], decay: float) -> None:
    """Update the moving average of the weights after a step. decay: 0..1; 0 disables the average.

    The decay is at most (1 + n) / (10 + n) after n steps, so that the initial weights are soon forgotten.
    """
    if not decay:
        return
    if not progress.average:
        progress.average = {name: tensor.detach().clone() for name, tensor in trainable.items()}
    step_decay = min(decay, (1 + progress.step) / (10 + progress.step))
    for name, tensor in trainable.items():
        progress.average[name].lerp_(tensor.detach(), 1 - step_decay)


@contextmanager
def averaged(progress: Progress, trainable: dict[str, Any]) -> Iterator[None]:
    """Give the network the averaged weights within the context; no change if the average is disabled."""
    current = {name: trainable[name].detach().clone() for name in progress.average}
    copy_weights(trainable, progress.average)
    try:
        yield
    finally:
        copy_weights(trainable, current)


def copy_weights(trainable: dict[str, Any], values: dict[str, Any]) -> None:
    """Copy tensors into the trainable parameters of the same names."""
    for name, tensor in values.items():
        trainable[name].data.copy_(tensor)


@dataclass
class StopRequest:
    """A request to stop. number: the signal's number, None before a request."""

    number: int | None = None

    @property
    def requested(self) -> bool:
        """Return True once a signal has asked training to stop."""
        return self.number is not None


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop after the current step."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number: int, frame: object) -> None:
        if stop.requested:
            raise signals.ended_by(number)
        stop.number = number
        note("stopping after this step and writing a checkpoint; interrupt again to stop at once")

    handled = [number for number in signals.ENDING if signal.getsignal(number) not in (None, signal.SIG_IGN)]
    previous_handlers = {number: signal.signal(number, handler) for number in handled}
    try:
        yield stop
    finally:
        for number, previous in previous_handlers.items():
            signal.signal(number, previous)
