"""Several processes that train one model together; alone, the same calls do nothing.

torchrun and accelerate launch start one command several times, each with its RANK out of WORLD_SIZE. Process 0 is
the main one: it alone decides, writes and speaks; the others compute their share of every batch.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.system.progress import note, silenced

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

T = TypeVar("T")
UNSET = "Start them with torchrun; alone, unset WORLD_SIZE and RANK."
PATIENCE = timedelta(hours=6)  # the longest that the others wait while the main process reads and decodes images


class Dismissed(Exception):
    """Ends a process other than the main one, which tells how it went. code: the exit code to end with."""

    def __init__(self, code: int) -> None:
        super().__init__("this process is no longer needed")
        self.code = code


def launched() -> tuple[int, int]:
    """(this process's number, how many there are), as torchrun and its like set them; (0, 1) without a launcher.

    Raises: ConfigError for RANK and WORLD_SIZE that no launcher sets.
    """
    count, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if count <= 1:
        return 0, 1
    if rank >= count:
        raise ConfigError(f"RANK is {rank}, and WORLD_SIZE is {count}", todo=UNSET)
    return rank, count


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise ConfigError(f"the environment variable {name} is {text!r}, not a number of processes", todo=UNSET)
    return int(text)


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `count`. This class works alone; `Team` gives the same calls their meaning among several."""

    rank: int = 0
    count: int = 1

    def share(self, total: int) -> slice:
        """This process's part of `total` rows: contiguous, in order of rank, sizes differing by 1 at most."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` returns in the main process, pickled to the others; its failure ends them all."""
        return work()

    def on_all(self, work: Callable[[], T]) -> T:
        """What `work` returns here; if it fails in any process, all stop and the main one says why."""
        return work()

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value's sum over the processes: the same numbers in every one."""
        return values

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """All processes' rows, (n, ...) each, in order of rank."""
        return rows

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to train: with the main process's weights, and ready for `average`."""
        return network

    def apart(self, network: nn.Module) -> AbstractContextManager[None]:
        """Within, backward passes add up gradients in this process only."""
        return nullcontext()

    def average(self, network: nn.Module) -> None:
        """Replace the gradients of a wrapped network by their mean over the processes."""

    def give_up(self, error: SkinedgeError) -> NoReturn:
        """Stop for a reason that every process has found; one of them says it."""
        raise error


@dataclass(frozen=True)
class Team(Processes):
    """Processes joined by Accelerate: gloo between CPUs, nccl between GPUs."""

    accelerator: Any = None

    def on_main(self, work: Callable[[], T]) -> T:
        from accelerate.utils import broadcast_object_list

        told: list[Any] = [False, None]
        try:
            if self.rank == 0:
                told = [True, work()]
        finally:  # whatever ended the work, the others must not wait for it
            with wrap_distributed_errors():
                broadcast_object_list(told)
        if not told[0]:
            raise Dismissed(1)
        return told[1]  # type: ignore[no-any-return]

    def on_all(self, work: Callable[[], T]) -> T:
        from accelerate.utils import gather_object

        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with wrap_distributed_errors():
            said = gather_object(
                [None if failure is None else " ".join(str(failure).split()) or type(failure).__name__]
            )
        if failure and (self.rank == 0 or not isinstance(failure, SkinedgeError | OSError)):
            raise failure
        first = next((rank for rank, text in enumerate(said) if text is not None), None)
        if first is not None:
            self.give_up(SkinedgeError(said[first], where=f"process {first}"))
        return result

    def sum(self, *values: float) -> tuple[float, ...]:
        import torch

        own = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        with wrap_distributed_errors():
            return tuple(self.accelerator.reduce(own, reduction="sum").tolist())

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        import numpy as np
        from accelerate.utils import gather_object

        with wrap_distributed_errors():
            return np.concatenate(gather_object([rows]))

    def wrap(self, network: nn.Module) -> nn.Module:
        with wrap_distributed_errors():
            return self.accelerator.prepare(network)

    def apart(self, network: nn.Module) -> AbstractContextManager[None]:
        return self.accelerator.no_sync(network)  # type: ignore[no-any-return]

    def average(self, network: nn.Module) -> None:
        """By a backward pass that adds zero to every gradient: DDP averages what has added up apart.

        So nothing is sent before every process has its share of the batch done, whatever memory that took.
        """
        nothing = sum((parameter * 0).sum() for parameter in network.parameters() if parameter.requires_grad)
        with wrap_distributed_errors(), self.accelerator.trigger_sync_in_backward(network):
            nothing.backward()
            network.reducer._rebuild_buckets()  # else the next forward pass does, and one without rows has none

    def give_up(self, error: SkinedgeError) -> NoReturn:
        if self.rank == 0:
            raise error
        raise Dismissed(1)


ALONE = Processes()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that a launcher started, or this one alone. device: 'cpu' or 'cuda' (one GPU per process).

    Where several end well, the main one alone goes on. Raises: Dismissed there, in the others; ConfigError when
    there are fewer GPUs than processes; SkinedgeError when the processes do not find each other.
    """
    rank, count = launched()
    if count == 1:
        yield ALONE
        return
    with silenced(rank > 0):
        yield from _team(rank, count, device)


def _team(rank: int, count: int, device: str) -> Iterator[Processes]:
    team = Team(rank, count, start(device))
    note(f"{count} processes train together on {device} ({team.accelerator.state.backend})")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grad strides do not match")  # 1 x 1 kernels: any strides fit
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # torch 2.11 has no other name
            yield team
    finally:
        team.accelerator.end_training()
    if rank:
        raise Dismissed(0)


def start(device: str) -> Any:
    """Accelerate's view of the processes; makes this one's GPU the current one."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    here = _number("LOCAL_WORLD_SIZE", 1)
    if device == "cuda" and torch.cuda.device_count() < here:
        raise ConfigError(
            f"{here} processes on this host for {torch.cuda.device_count()} GPUs", todo="Start one per GPU."
        )
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=PATIENCE)]
    with wrap_distributed_errors():
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=handlers)
    if accelerator.device.type != device:
        raise ConfigError(f"the launcher chose {accelerator.device.type}, --device says {device}")
    if accelerator.num_processes != launched()[1]:
        raise ConfigError(
            f"WORLD_SIZE says {launched()[1]} processes, but no launcher has joined them",
            todo=UNSET,
        )
    return accelerator


@contextmanager
def wrap_distributed_errors() -> Iterator[None]:
    """Raises: SkinedgeError in place of what torch.distributed raises when a process is gone."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise SkinedgeError(
            f"a process of this training cannot be reached ({str(error).splitlines()[0]})",
            todo="If one has ended, it says why. Go on from the last checkpoint with --resume.",
        ) from error
