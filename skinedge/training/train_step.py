"""One training step: the images of the batch, their augmentation, the loss, and its gradient over all processes.

All randomness (order, augmentation, dropout) depends only on the seed and the step number. Every process draws the
random numbers for the whole batch and uses its own rows, so the number of processes does not change the result. Dropout
inside the adapters is the exception: each process draws the masks for its own rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import SkinedgeError
from skinedge.core.preprocess import Pixels, Preprocess
from skinedge.network import lora, model
from skinedge.run.config import TrainConfig
from skinedge.system.progress import note
from skinedge.training.augment import augment, draw
from skinedge.training.distributed import ALONE, Processes
from skinedge.training.ensemble import Ensemble
from skinedge.training.source_loss import SourceRules, set_losses
from skinedge.training.teacher import Teacher, distillation_loss

if TYPE_CHECKING:
    import torch
    from torch import nn


LEAST_FREQUENCY = 1e-6  # of a class without a training image in a source that distinguishes it


@dataclass(frozen=True)
class Examples:
    """Labelled images.

    pixels: (N, S, S, 3) uint8, prepared; labels: (N,) int64, rows of `rules.targets` where there are rules; rules: None
    where each label is one class and every source distinguishes all classes; sources: (N,) int64, None for one folder.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    rules: SourceRules | None = None
    sources: NDArray[np.int64] | None = None

    @cached_property
    def log_frequencies(self) -> NDArray[np.float32]:
        """Log class frequencies of each source, (S, C), at least those of LEAST_FREQUENCY; empty without rules."""
        if self.rules is None:
            return np.empty((0, 0), np.float32)
        return np.log(np.maximum(self.rules.frequencies(self.labels), LEAST_FREQUENCY)).astype(np.float32)


@dataclass(frozen=True)
class Problem:
    """The inputs of the training loop besides the network: data, settings, device, processes and teacher."""

    config: TrainConfig
    preprocess: Preprocess
    classes: int
    train: Examples
    val: Examples
    device: str
    precision: str
    processes: Processes = ALONE
    teacher: Teacher | Ensemble | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches per epoch, the last of which may be smaller."""
        return math.ceil(len(self.train.labels) / self.config.batch_size)

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Share (0..1) of each class, (C,), in the training images whose class is known."""
        counts = np.bincount(self.train.labels, minlength=self.classes)[: self.classes]
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    def batch_length(self, step: int) -> int:
        """Return the number of images in the batch of a step; the last batch of an epoch may be smaller."""
        start = step % self.steps_per_epoch * self.config.batch_size
        return min(self.config.batch_size, len(self.train.labels) - start)


def batch_gradients(network: nn.Module, optimizer: Any, problem: Problem, step: int, micro: int) -> tuple[float, int]:
    """Compute the mean loss of a batch; its gradient is in the parameters of every process afterwards.

    Micro-batches change the gradient only by float rounding, since their gradients are summed.

    Args:
        micro: largest number of images per forward pass; halved while the device runs out of memory.
    Returns: the loss, and the micro-batch size that fitted.
    Raises: SkinedgeError when the loss is not finite, or when a single image does not fit into memory.
    """
    processes = problem.processes
    while True:
        optimizer.zero_grad(set_to_none=True)
        with processes.no_sync(network):
            own_loss, fits = share_gradients(network, problem, step, micro)
        loss, out_of_memory = processes.sum(own_loss, not fits)
        if not out_of_memory:
            break
        micro = halved(micro, problem)
    if not math.isfinite(loss):
        processes.fail(divergence_error(f"the loss became {loss}", step))
    processes.average_gradients(network)
    return loss, micro


def divergence_error(what: str, step: int) -> SkinedgeError:
    """Build the error for a loss or gradient that is not finite."""
    todo = "The last checkpoint is valid. Lower optimizer.learning_rate in --config and start again."
    return SkinedgeError(f"{what} at step {step}", todo=todo)


def share_gradients(network: nn.Module, problem: Problem, step: int, micro: int) -> tuple[float, bool]:
    """Compute this process's share of a batch's mean loss and its gradient.

    A micro-batch of n out of N images has weight n / N in the loss and P n / N in the gradient, since the gradients are
    then averaged over P processes.
    Returns: the share of the loss, and False (with a NaN loss) if the device ran out of memory.
    """
    import torch

    indices = batch_indices(problem, step)
    draws = draw(len(indices), step_generator(problem.config.seed, step, problem.processes.rank))
    share = problem.processes.share(len(indices))
    total = 0.0
    lora.train_mode(network)
    try:
        for start in range(share.start, share.stop, micro):
            rows = slice(start, min(start + micro, share.stop))
            micro_indices = indices[rows]
            images, targets = load_batch(problem, micro_indices)
            adjusted = source_terms(problem, micro_indices)
            pixels = augment(images, problem.config.augment, draws.rows(rows))
            with autocast(problem):  # teacher first: its memory is free before the student's activations are saved
                teacher_logits = problem.teacher.logits(pixels) if problem.teacher else None
                logits = network(normalize(pixels, problem.preprocess)).float()
            loss = batch_loss(logits, targets, teacher_logits, problem, adjusted)
            loss = loss * (len(micro_indices) / len(indices))
            (loss * problem.processes.count).backward()
            total += float(loss.detach())
    except torch.OutOfMemoryError:
        return math.nan, False
    return total, True


def load_batch(problem: Problem, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Copy training images, (n, S, S, 3) uint8, and labels, (n,) int64, to the device; returns when they are there."""
    import torch

    images, labels = problem.train.pixels[indices], problem.train.labels[indices]
    return torch.from_numpy(images).to(problem.device), torch.from_numpy(labels).to(problem.device)


def halved(micro: int, problem: Problem) -> int:
    """Halve the micro-batch, at most a process's share of the batch, after an out-of-memory error.

    Raises: SkinedgeError when the micro-batch was a single image.
    """
    import torch

    size = problem.config.batch_size
    tried = min(micro, math.ceil(size / problem.processes.count))
    if tried == 1:
        error = SkinedgeError(
            f"a single image of {problem.preprocess.size} px does not fit into the memory of {problem.device}",
            todo="Choose a smaller --image-size or --backbone, or close other programs that use this memory.",
        )
        problem.processes.fail(error)
    if problem.device != "cpu":
        torch.cuda.empty_cache()
    half = (tried + 1) // 2
    note(f"out of memory with micro-batches of {tried}: continuing with {half}; the batch size stays {size}")
    return half


def batch_indices(problem: Problem, step: int) -> NDArray[np.int64]:
    """Return the sorted indices of the training images in a step's batch; every epoch has a new order."""
    epoch, position = divmod(step, problem.steps_per_epoch)
    order = epoch_order(problem, np.random.default_rng([problem.config.seed, epoch]))
    size = problem.config.batch_size
    return np.sort(order[position * size : (position + 1) * size])  # sorted: faster reads from the memory map


def epoch_order(problem: Problem, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return an epoch's order: each image once, or N draws.

    'balanced-sampling' draws classes (and partial labels) with equal probability, `source_sampling` 'equal' sources.
    """
    labels, sources = problem.train.labels, problem.train.sources
    drawn = [labels] if problem.config.imbalance == "balanced-sampling" else []
    drawn += [sources] if problem.config.source_sampling == "equal" and sources is not None else []
    if not drawn:
        return generator.permutation(len(labels))
    weights = np.ones(len(labels))
    for of in drawn:
        weights /= np.bincount(of, weights)[of]
    return generator.choice(len(labels), len(labels), p=weights / weights.sum())


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Return the generator of a step; also seed the global generator, used by LoRA dropout, differently per process."""
    import torch

    step_seed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    torch.manual_seed(step_seed + rank)
    return torch.Generator().manual_seed(step_seed)


def normalize(pixels: torch.Tensor, rule: Preprocess) -> torch.Tensor:
    """Normalize like `model.normalize`, in channels-last memory format, which speeds up convolutions."""
    import torch

    return model.normalize(pixels, rule).contiguous(memory_format=torch.channels_last)


# Of n images, (n, C) each: log class frequencies, known classes, and the classes of every label, (L, C).
SourceTerms = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


def source_terms(problem: Problem, indices: NDArray[np.int64]) -> SourceTerms | None:
    """Return what the sources of a micro-batch add to the loss, None where `Examples.rules` is."""
    import torch

    rules = problem.train.rules
    if rules is None:
        return None
    source = rules.source[indices]
    terms = problem.train.log_frequencies, rules.known
    prior, known = (torch.from_numpy(rows[source]).to(problem.device) for rows in terms)
    return prior, known, torch.from_numpy(rules.targets).to(problem.device)


def batch_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    teacher_logits: Any,
    problem: Problem,
    terms: SourceTerms | None = None,
) -> Any:
    """Return the label loss, combined with the distillation loss unless `teacher_logits` is None."""
    loss = class_loss(logits, targets, problem) if terms is None else source_loss(logits, targets, problem, terms)
    if teacher_logits is None:
        return loss
    return distillation_loss(loss, logits, teacher_logits, problem.config.distillation)


def class_loss(logits: torch.Tensor, targets: torch.Tensor, problem: Problem) -> torch.Tensor:
    """Return the mean cross entropy, modified by the `imbalance` setting.

    'logit-adjusted' (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10 with tau = 1) adds the log
    class frequencies to the logits, so that the unshifted logits learn a uniform class prior. 'focal' (Lin et al. 2017,
    eq. 4) weights each image by (1 - p)^2, where p is the predicted probability of its class.
    """
    import torch
    from torch.nn import functional

    imbalance, smoothing = problem.config.imbalance, problem.config.optimizer.label_smoothing
    if imbalance == "logit-adjusted":
        logits = logits + torch.from_numpy(np.log(problem.frequencies).astype(np.float32)).to(logits.device)
    losses = functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    if imbalance == "focal":
        probabilities = logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
        losses = losses * (1 - probabilities) ** 2
    return losses.mean()


def source_loss(logits: torch.Tensor, targets: torch.Tensor, problem: Problem, terms: SourceTerms) -> torch.Tensor:
    """Return the mean of `source_loss.set_losses`, modified by `imbalance` as in `class_loss`.

    'logit-adjusted' adds the log class frequencies of each image's own source: what is learned is then the uniform
    prior, whatever the shares of the sources.
    """
    log_prior, known, sets = terms
    imbalance = problem.config.imbalance
    if imbalance == "logit-adjusted":
        logits = logits + log_prior
    losses, p = set_losses(logits, sets[targets], known, problem.config.optimizer.label_smoothing)
    return (losses * (1 - p) ** 2 if imbalance == "focal" else losses).mean()


def autocast(problem: Problem) -> Any:
    """Return the context for the problem's precision: bfloat16 autocast, or no autocast for fp32."""
    import torch

    return torch.autocast(problem.device, torch.bfloat16, enabled=problem.precision == "bf16")
