"""Distributed training: several processes train one model; in a single process the same calls do nothing.

torchrun and accelerate launch start a command WORLD_SIZE times, each process with its own RANK. Process 0 is the main
process: only it makes decisions, writes files and prints; the others compute their share of every batch.
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
UNSET = "Start the processes with torchrun; for a single process, unset WORLD_SIZE and RANK."
TIMEOUT = timedelta(hours=6)  # for the other processes, while the main process reads and decodes images


class Dismissed(Exception):
    """Ends a process other than the main process, which reports the outcome. code: the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__("this process is no longer needed")
        self.code = code


def launched() -> tuple[int, int]:
    """Return (rank, number of processes) from the launcher's environment variables; (0, 1) without a launcher.

    Raises: ConfigError for values of RANK and WORLD_SIZE that no launcher sets.
    """
    count, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if count <= 1:
        return 0, 1
    if rank >= count:
        raise ConfigError(f"RANK is {rank}, but WORLD_SIZE is {count}", todo=UNSET)
    if not os.environ.get("MASTER_ADDR"):  # which every launcher sets
        raise ConfigError(f"WORLD_SIZE is {count}, but no launcher started this process", todo=UNSET)
    return rank, count


def _number(name: str, default: int) -> int:
    """Read a non-negative integer from an environment variable; `default` if unset or empty."""
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdecimal() and len(text) < 7):
        raise ConfigError(f"the environment variable {name} is {text!r}, not a number of processes", todo=UNSET)
    return int(text)


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `count`, for a single process; `ProcessGroup` implements the methods for several."""

    rank: int = 0
    count: int = 1

    def share(self, total: int) -> slice:
        """Return this process's share of `total` rows: contiguous, in rank order, sizes differing by at most 1."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` in the main process and return its result, pickled, in every process; a failure ends all."""
        return work()

    def on_all(self, work: Callable[[], T]) -> T:
        """Run `work` in every process and return its result; a failure ends all, and the main process reports it."""
        return work()

    def sum(self, *values: float) -> tuple[float, ...]:
        """Sum each value over the processes; every process gets the same sums."""
        return values

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Concatenate the rows, (n, ...), of all processes in rank order."""
        return rows

    def wrap(self, network: nn.Module) -> nn.Module:
        """Prepare the network for training: with the main process's weights, ready for `average_gradients`."""
        return network

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Accumulate gradients in this process only, within the context."""
        return nullcontext()

    def average_gradients(self, network: nn.Module) -> None:
        """Replace the gradients of a wrapped network with their mean over the processes."""

    def fail(self, error: SkinedgeError) -> NoReturn:
        """Stop with an error that occurred in every process; the main process reports it."""
        raise error


@dataclass(frozen=True)
class ProcessGroup(Processes):
    """Several processes connected by Accelerate: gloo between CPUs, nccl between GPUs."""

    accelerator: Any = None

    def on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on the main process only; see `Processes.on_main`."""
        from accelerate.utils import broadcast_object_list

        outcome: list[Any] = [False, None]  # success, result
        try:
            if self.rank == 0:
                outcome = [True, work()]
        finally:  # after a failure too: the other processes wait for the broadcast
            with wrap_distributed_errors():
                broadcast_object_list(outcome)
        if not outcome[0]:
            raise Dismissed(1)
        return outcome[1]  # type: ignore[no-any-return]

    def on_all(self, work: Callable[[], T]) -> T:
        """Run `work` on every process; see `Processes.on_all`."""
        from accelerate.utils import gather_object

        failure: BaseException | None = None
        try:
            result = work()
        except BaseException as error:
            failure = error
        with wrap_distributed_errors():
            failures = gather_object(
                [None if failure is None else " ".join(str(failure).split()) or type(failure).__name__]
            )
        if failure and (self.rank == 0 or not isinstance(failure, SkinedgeError | OSError)):
            raise failure
        first = next((rank for rank, text in enumerate(failures) if text is not None), None)
        if first is not None:
            self.fail(SkinedgeError(failures[first], where=f"process {first}"))
        return result

    def sum(self, *values: float) -> tuple[float, ...]:
        """Sum numbers over all processes; see `Processes.sum`."""
        import torch

        tensor = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        with wrap_distributed_errors():
            return tuple(self.accelerator.reduce(tensor, reduction="sum").tolist())

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Gather rows of all processes; see `Processes.gather`."""
        import numpy as np
        from accelerate.utils import gather_object

        with wrap_distributed_errors():
            return np.concatenate(gather_object([rows]))

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wrap the network for training on several processes; see `Processes.wrap`."""
        with wrap_distributed_errors():
            return self.accelerator.prepare(network)

    def no_sync(self, network: nn.Module) -> AbstractContextManager[None]:
        """Leave gradients unsynchronized; see `Processes.no_sync`."""
        return self.accelerator.no_sync(network)  # type: ignore[no-any-return]

    def average_gradients(self, network: nn.Module) -> None:
        """Run a backward pass that adds zero to every gradient, so that DDP averages the accumulated gradients.

        No gradient is sent before every process has finished its share of the batch, with any micro-batch size.
        """
        zero = sum((parameter * 0).sum() for parameter in network.parameters() if parameter.requires_grad)
        with wrap_distributed_errors(), self.accelerator.trigger_sync_in_backward(network):
            zero.backward()
            network.reducer._rebuild_buckets()  # DDP does so in forward, which a process without rows never calls

    def fail(self, error: SkinedgeError) -> NoReturn:
        """End all processes with an error; see `Processes.fail`."""
        if self.rank == 0:
            raise error
        raise Dismissed(1)


ALONE = Processes()


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """Connect the processes that a launcher started; a single process needs no connection.

    After the context, only the main process continues. device: 'cpu' or 'cuda' (one GPU per process).
    Raises: Dismissed in the other processes at the end; ConfigError for fewer GPUs than processes; SkinedgeError when
    the processes cannot connect.
    """
    rank, count = launched()
    if count == 1:
        yield ALONE
        return
    with silenced(rank > 0):
        yield from _process_group(rank, count, device)


def _process_group(rank: int, count: int, device: str) -> Iterator[Processes]:
    group = ProcessGroup(rank, count, start_accelerator(device))
    note(f"{count} processes train together on {device} ({group.accelerator.state.backend})")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grad strides do not match")  # harmless: 1 x 1 kernels
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # no replacement in torch 2.11
            yield group
    finally:
        group.accelerator.end_training()
    if rank:
        raise Dismissed(0)


def start_accelerator(device: str) -> Any:
    """Connect to the other processes with Accelerate, and select this process's GPU."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    local_count = _number("LOCAL_WORLD_SIZE", 1)
    if device == "cuda" and torch.cuda.device_count() < local_count:
        raise ConfigError(
            f"{local_count} processes on this host, but {torch.cuda.device_count()} GPUs",
            todo="Start one process per GPU.",
        )
    handlers = [DistributedDataParallelKwargs(broadcast_buffers=False), InitProcessGroupKwargs(timeout=TIMEOUT)]
    with wrap_distributed_errors():
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no", kwargs_handlers=handlers)
    if accelerator.device.type != device:
        raise ConfigError(f"the launcher chose {accelerator.device.type}, but --device is {device}")
    if accelerator.num_processes != launched()[1]:
        raise ConfigError(
            f"WORLD_SIZE is {launched()[1]}, but no launcher has connected the processes",
            todo=UNSET,
        )
    return accelerator


@contextmanager
def wrap_distributed_errors() -> Iterator[None]:
    """Wrap the errors that torch.distributed raises when a process is gone. Raises: SkinedgeError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise SkinedgeError(
            f"a process of this training cannot be reached ({str(error).splitlines()[0]})",
            todo="See the output of a process that has ended. Continue from the last checkpoint with --resume.",
        ) from error
