"""The training loop: adapters and classifier, checkpoints, early stopping.

A step's randomness (order, augmentation, dropout) is a function of the seed and the step's number alone,
so a checkpoint needs no generator state and a resumed run repeats the uninterrupted one bit for bit.
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

from skinedge import lora, metrics
from skinedge.augment import augment
from skinedge.checkpoint import Checkpoints
from skinedge.config import OptimizerSettings, TrainConfig
from skinedge.errors import SkinedgeError
from skinedge.preprocess import Pixels, Preprocess
from skinedge.progress import bar, note

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Examples:
    """pixels: (N, S, S, 3) uint8, prepared; labels: (N,) int64."""

    pixels: Pixels
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """What the loop needs besides the network: data, settings, and where it runs."""

    config: TrainConfig
    preprocess: Preprocess
    classes: int
    train: Examples
    val: Examples
    device: str
    precision: str

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train.labels) / self.config.batch_size)


@dataclass
class Progress:
    """Where training stands; all of it goes into a checkpoint.

    step: batches done; loss_sum, seconds: of the running epoch; total_seconds: of all steps, over all
    sessions; history: one row per finished epoch; best: trainable tensors at the best validation balanced
    accuracy so far.
    """

    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    total_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)

    @property
    def best_epoch(self) -> int:
        """Index of the best epoch; -1 before the first has ended."""
        scores = [row["val_balanced_accuracy"] for row in self.history]
        return int(np.argmax(scores)) if scores else -1


def fit(network: nn.Module, problem: Problem, checkpoints: Checkpoints) -> Progress:
    """Train until the epochs are over or validation stops improving; leaves the best weights loaded.

    Resumes from the newest good checkpoint if there is one.
    Raises: SkinedgeError when the loss is not finite; KeyboardInterrupt after a checkpoint was written.
    """
    trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(trainable, problem.config.optimizer)
    progress = Progress(**checkpoints.restore(trainable, optimizer))
    saved = time.monotonic()
    with stop_requests() as stop:
        while not finished(progress, problem):
            epoch_before = len(progress.history)
            with bar(f"epoch {epoch_before + 1}/{problem.config.epochs}", len(problem.train.labels)) as advance:
                advance(progress.step % problem.steps_per_epoch * problem.config.batch_size)
                while len(progress.history) == epoch_before:
                    advance(one_step(network, optimizer, problem, progress))
                    if progress.step % problem.steps_per_epoch == 0:
                        end_epoch(network, trainable, problem, progress)
                    due = time.monotonic() - saved > 60 * problem.config.checkpoint_minutes
                    if due or stop.is_set() or len(progress.history) > epoch_before:
                        checkpoints.save(trainable, optimizer, vars(progress))
                        saved = time.monotonic()
                    if stop.is_set():
                        raise KeyboardInterrupt
    for name, tensor in progress.best.items():
        trainable[name].data.copy_(tensor)
    return progress


def finished(progress: Progress, problem: Problem) -> bool:
    epochs = len(progress.history)
    return epochs >= problem.config.epochs or epochs - 1 - progress.best_epoch >= problem.config.patience


def one_step(network: nn.Module, optimizer: Any, problem: Problem, progress: Progress) -> int:
    """One batch forward, backward and update; returns the number of images in it."""
    import torch

    start = time.monotonic()
    config, device = problem.config, problem.device
    chosen = batch_indices(problem, progress.step)
    generator = step_generator(config.seed, progress.step)
    images = torch.from_numpy(problem.train.pixels[chosen]).to(device)
    targets = torch.from_numpy(problem.train.labels[chosen]).to(device)
    lora.train_mode(network)
    inputs = normalize(augment(images, config.augment, generator), problem.preprocess)
    with autocast(problem):
        logits = network(inputs).float()
    loss = class_loss(logits, targets, problem)
    if not torch.isfinite(loss):
        raise SkinedgeError(
            f"the loss became {loss.item()} at step {progress.step}",
            todo="The last checkpoint is good. Lower optimizer.learning_rate in --config and start again.",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], config.optimizer.clip)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(progress.step, problem)
    optimizer.step()
    progress.loss_sum += float(loss.detach()) * len(chosen)
    progress.step += 1
    progress.seconds += time.monotonic() - start
    return len(chosen)


def end_epoch(network: nn.Module, trainable: dict[str, Any], problem: Problem, progress: Progress) -> None:
    """Validate, note the epoch in the history, keep the weights if they are the best so far."""
    probabilities = metrics.softmax(predict_logits(network, problem.val.pixels, problem))
    labels = problem.val.labels
    count = len(problem.train.labels)
    row = {
        "epoch": len(progress.history) + 1,
        "train_loss": progress.loss_sum / count,
        "val_balanced_accuracy": metrics.balanced_accuracy(labels, probabilities.argmax(axis=1)),
        "val_macro_auc": metrics.macro_auc(labels, probabilities),
        "images_per_second": count / progress.seconds,
    }
    progress.history.append(row)
    progress.total_seconds += progress.seconds
    progress.loss_sum = progress.seconds = 0.0
    if progress.best_epoch == len(progress.history) - 1:
        progress.best = {name: tensor.detach().clone() for name, tensor in trainable.items()}
    note(
        f"epoch {row['epoch']:.0f}/{problem.config.epochs}  loss {row['train_loss']:.3f}  "
        f"val balanced accuracy {row['val_balanced_accuracy']:.3f}  macro AUC {row['val_macro_auc']:.3f}  "
        f"{row['images_per_second']:.1f} images/s"
    )


def predict_logits(network: nn.Module, pixels: Pixels, problem: Problem, batch: int = 64) -> NDArray[np.float32]:
    """pixels: (N, S, S, 3) uint8, prepared; returns (N, C) float32."""
    import torch

    network.eval()
    rows = []
    with torch.inference_mode(), autocast(problem):
        for start in range(0, len(pixels), batch):
            images = torch.from_numpy(np.array(pixels[start : start + batch])).to(problem.device)
            inputs = normalize(images.permute(0, 3, 1, 2).float(), problem.preprocess)
            rows.append(network(inputs).float().cpu().numpy())
    return np.concatenate(rows)


def normalize(pixels: torch.Tensor, rule: Preprocess) -> torch.Tensor:
    """(N, 3, S, S) float32 in 0..255 -> the network's own input, channels last in memory."""
    import torch

    mean = pixels.new_tensor(rule.mean)[:, None, None]
    std = pixels.new_tensor(rule.std)[:, None, None]
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def class_loss(logits: torch.Tensor, targets: torch.Tensor, problem: Problem) -> torch.Tensor:
    """Cross entropy, with logits shifted by the log of the class frequencies where asked.

    Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10 with tau = 1: the unshifted
    logits then estimate probabilities under a uniform class prior.
    """
    import torch
    from torch.nn import functional

    if problem.config.imbalance == "logit-adjusted":
        counts = np.bincount(problem.train.labels, minlength=problem.classes)
        logits = logits + torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32)).to(logits.device)
    return functional.cross_entropy(logits, targets, label_smoothing=problem.config.optimizer.label_smoothing)


def batch_indices(problem: Problem, step: int) -> NDArray[np.int64]:
    """Which images step number `step` sees: a fresh permutation every epoch."""
    epoch, position = divmod(step, problem.steps_per_epoch)
    order = np.random.default_rng([problem.config.seed, epoch]).permutation(len(problem.train.labels))
    size = problem.config.batch_size
    return np.sort(order[position * size : (position + 1) * size])  # sorted: kinder to the memory map


def step_generator(seed: int, step: int) -> torch.Generator:
    """The step's own generator; also seeds the global one, which LoRA dropout draws from."""
    import torch

    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    torch.manual_seed(mixed)
    return torch.Generator().manual_seed(mixed)


def learning_rate(step: int, problem: Problem) -> float:
    """Linear warm-up, then half a cosine down to zero at the last step."""
    settings = problem.config.optimizer
    total = problem.config.epochs * problem.steps_per_epoch
    warm = max(1, round(settings.warmup * total))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def make_optimizer(trainable: dict[str, Any], settings: OptimizerSettings) -> Any:
    import torch

    return torch.optim.AdamW(
        list(trainable.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def autocast(problem: Problem) -> Any:
    import torch

    return torch.autocast(problem.device, torch.bfloat16, enabled=problem.precision == "bf16")


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into a request that is met after the current step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handler(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note("stopping after this step, a checkpoint will be written (again to stop at once)")

    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
