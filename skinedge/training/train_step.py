"""One batch: which images, how they are changed, the loss, and its gradient over all processes.

All randomness (order, augmentation, dropout) is a function of the seed and the step's number alone. Every process
draws it for the whole batch and computes its own rows, so their number does not change what is learned. Dropout
inside the adapters is the exception: its masks are drawn where the rows are computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
from skinedge.training.teacher import Teacher, distilled

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
    """What the loop needs besides the network: data, settings, where it runs, and with whom."""

    config: TrainConfig
    preprocess: Preprocess
    classes: int
    train: Examples
    val: Examples
    device: str
    precision: str
    processes: Processes = ALONE
    teacher: Teacher | None = None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.train.labels) / self.config.batch_size)

    def batch_length(self, step: int) -> int:
        """Images in the batch of step number `step`: fewer in an epoch's last one."""
        before = step % self.steps_per_epoch * self.config.batch_size
        return min(self.config.batch_size, len(self.train.labels) - before)


def batch_gradients(network: nn.Module, optimizer: Any, problem: Problem, step: int, micro: int) -> tuple[float, int]:
    """The batch's mean loss, whose gradient is left in the parameters of every process.

    micro: the most images that go through the network at once; halved as often as the device's memory asks for,
    and returned. The gradient is the same within float rounding, since the parts' gradients add up.
    Raises: SkinedgeError when the loss is not finite, or when one image at a time is too much.
    """
    processes = problem.processes
    while True:
        optimizer.zero_grad(set_to_none=True)
        with processes.apart(network):
            own, fits = share_gradients(network, problem, step, micro)
        loss, misfits = processes.sum(own, not fits)
        if not misfits:
            break
        micro = smaller(micro, problem)
    if not math.isfinite(loss):
        processes.give_up(diverged(f"the loss became {loss}", step))
    processes.average(network)
    return loss, micro


def diverged(what: str, step: int) -> SkinedgeError:
    """The error of a training whose numbers are no longer finite."""
    todo = "The last checkpoint is good. Lower optimizer.learning_rate in --config and start again."
    return SkinedgeError(f"{what} at step {step}", todo=todo)


def share_gradients(network: nn.Module, problem: Problem, step: int, micro: int) -> tuple[float, bool]:
    """This process's part of the batch's mean loss, and whether it fitted into memory.

    Of N images in the batch, n that go through at once weigh n / N in the loss, and P n / N in the gradient,
    since P processes then take the mean of their gradients.
    """
    import torch

    chosen = batch_indices(problem, step)
    draws = draw(len(chosen), step_generator(problem.config.seed, step, problem.processes.rank))
    mine = problem.processes.share(len(chosen))
    total = 0.0
    lora.train_mode(network)
    try:
        for start in range(mine.start, mine.stop, micro):
            rows = slice(start, min(start + micro, mine.stop))
            part = chosen[rows]
            images = torch.from_numpy(problem.train.pixels[part]).to(problem.device)
            targets = torch.from_numpy(problem.train.labels[part]).to(problem.device)
            pixels = augment(images, problem.config.augment, draws.rows(rows))
            with autocast(problem):  # the teacher first: what it computes is gone before the student's is kept
                answers = problem.teacher.logits(pixels) if problem.teacher else None
                logits = network(normalize(pixels, problem.preprocess)).float()
            loss = batch_loss(logits, targets, answers, problem) * (len(part) / len(chosen))
            (loss * problem.processes.count).backward()
            total += float(loss.detach())
    except torch.OutOfMemoryError:
        return math.nan, False
    return total, True


def smaller(micro: int, problem: Problem) -> int:
    """Half of `micro`, or of a process's share of the batch where that is less.

    Raises: SkinedgeError when there is no half.
    """
    import torch

    size = problem.config.batch_size
    tried = min(micro, math.ceil(size / problem.processes.count))
    if tried == 1:
        error = SkinedgeError(
            f"the memory of {problem.device} does not hold one image of {problem.preprocess.size} px at a time",
            todo="Choose a smaller --image-size or --backbone, or end what else uses that memory.",
        )
        problem.processes.give_up(error)
    if problem.device != "cpu":
        torch.cuda.empty_cache()
    half = (tried + 1) // 2
    note(
        f"out of memory with {tried} images at a time: going on with {half}; the batch stays {size} (gradients add up)"
    )
    return half


def batch_indices(problem: Problem, step: int) -> NDArray[np.int64]:
    """Which images step number `step` sees: a fresh order every epoch."""
    epoch, position = divmod(step, problem.steps_per_epoch)
    order = epoch_order(problem, np.random.default_rng([problem.config.seed, epoch]))
    size = problem.config.batch_size
    return np.sort(order[position * size : (position + 1) * size])  # sorted: kinder to the memory map


def epoch_order(problem: Problem, generator: np.random.Generator) -> NDArray[np.int64]:
    """Every image once; with 'balanced-sampling' as many draws, in which each class is as likely."""
    labels = problem.train.labels
    if problem.config.imbalance != "balanced-sampling":
        return generator.permutation(len(labels))
    shares = 1 / np.bincount(labels, minlength=problem.classes)[labels]
    return generator.choice(len(labels), len(labels), p=shares / shares.sum())


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """The step's own generator; also seeds the global one, which LoRA dropout draws from, apart for each process."""
    import torch

    mixed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    torch.manual_seed(mixed + rank)
    return torch.Generator().manual_seed(mixed)


def normalize(pixels: torch.Tensor, rule: Preprocess) -> torch.Tensor:
    """`model.normalize`, channels last in memory: convolutions train faster so."""
    import torch

    return model.normalize(pixels, rule).contiguous(memory_format=torch.channels_last)


def batch_loss(logits: torch.Tensor, targets: torch.Tensor, answers: Any, problem: Problem) -> Any:
    """The labels' loss, with the teacher's where there is one. answers: the teacher's logits, None without one."""
    loss = class_loss(logits, targets, problem)
    return loss if answers is None else distilled(loss, logits, answers, problem.config.distillation)


def class_loss(logits: torch.Tensor, targets: torch.Tensor, problem: Problem) -> torch.Tensor:
    """Mean cross entropy, as `imbalance` says.

    'logit-adjusted' (Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10 with tau = 1) shifts the
    logits by the log of the class frequencies: unshifted, they then estimate probabilities under a uniform class
    prior. 'focal' (Lin et al. 2017, eq. 4) weighs each image by (1 - p)^2, p being what its class was given.
    """
    import torch
    from torch.nn import functional

    imbalance, smoothing = problem.config.imbalance, problem.config.optimizer.label_smoothing
    if imbalance == "logit-adjusted":
        counts = np.bincount(problem.train.labels, minlength=problem.classes)
        logits = logits + torch.from_numpy(np.log(counts / counts.sum()).astype(np.float32)).to(logits.device)
    each = functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    if imbalance == "focal":
        given = logits.softmax(dim=1).gather(1, targets[:, None])[:, 0]
        each = each * (1 - given) ** 2
    return each.mean()


def autocast(problem: Problem) -> Any:
    import torch

    return torch.autocast(problem.device, torch.bfloat16, enabled=problem.precision == "bf16")
