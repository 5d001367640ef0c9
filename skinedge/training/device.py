"""Where and in what arithmetic to train: found out, never assumed."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge.core import json_io
from skinedge.core.errors import ConfigError, SkinedgeError, one_of
from skinedge.core.files import cache_folder, write_atomic
from skinedge.core.json_io import digest
from skinedge.system.progress import note

if TYPE_CHECKING:
    from torch import nn

DEVICES = ("auto", "cpu", "cuda")
CLEAR = 2.0  # how far a first comparison must be from that border to be enough
FASTER = 1.3  # how many times as fast a step in bf16 must be: where both are about equal, load would decide
TURNS = 5
CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("model name", "flags", "CPU implementer", "CPU part", "Features")


def choose_device(asked: str) -> str:
    """'cuda' when there is a usable GPU, else 'cpu'.

    Raises: ConfigError for an unknown device, or for 'cuda' without a GPU (no silent fall-back).
    """
    import torch

    one_of("device", asked, DEVICES)
    usable = torch.cuda.is_available()
    if asked == "cuda" and not usable:
        raise ConfigError("--device cuda, but PyTorch sees no usable GPU", todo="Use --device cpu or auto.")
    return "cuda" if usable and asked != "cpu" else "cpu"


@dataclass(frozen=True)
class Trial:
    """Seconds of a training step in each precision, both above 0."""

    fp32: float
    bf16: float

    def __post_init__(self) -> None:
        if not (self.fp32 > 0 and self.bf16 > 0):
            raise ConfigError("a trial step took no time")

    @property
    def chosen(self) -> str:
        """'bf16' where it is faster beyond what a busy machine explains, else 'fp32'."""
        return "bf16" if self.fp32 >= FASTER * self.bf16 else "fp32"


def choose_precision(asked: str, network: nn.Module, size: int) -> str:
    """Return 'fp32' or 'bf16': as asked, else by a trial on this machine.

    A trial, since bf16 is 2 times faster on a CPU that has it and 7 times slower on one that emulates it, and no
    feature flag tells how good the kernels are. Its result is kept in the user's cache folder, so that the same
    command gives the same model the next time, whatever else runs.
    """
    import torch

    if asked != "auto":
        return asked
    if next(network.parameters()).is_cuda:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    path = cache_folder() / "precision" / f"{_situation(network, size)}.json"
    measured = _recall(path)
    source = f"kept in {path}"
    if measured is None:
        measured, source = trial(network, size), "a trial"
        _keep(path, measured)
    figures = f"seconds a step by {source}: {measured.fp32:.2f} in fp32, {measured.bf16:.2f} in bf16"
    note(f'precision: {measured.chosen} ({figures}); precision = "{measured.chosen}" in --config pins it')
    return measured.chosen


def _situation(network: nn.Module, size: int) -> str:
    """Return a digest of what decides how long a step takes: processor, PyTorch, threads, network and image size."""
    import torch

    parts = [(name, list(part.shape), part.requires_grad) for name, part in network.named_parameters()]
    return digest([processor(), torch.__version__, torch.get_num_threads(), size, type(network).__name__, parts])[:32]


def processor() -> list[str]:
    """Return the model and the instruction flags of the first CPU; without /proc, what `platform` knows."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    named = [line for line in lines if line.partition(":")[0].strip() in CPU_FIELDS]
    return named or [platform.machine(), platform.processor()]


def _recall(path: Path) -> Trial | None:
    """Return the trial that was kept, None without one; a damaged file is ignored with a note."""
    if not path.exists():
        return None
    try:
        return json_io.read_json(path, Trial)
    except SkinedgeError as error:
        note(f"ignored: {error}")
        return None


def _keep(path: Path, measured: Trial) -> None:
    """Keep the trial; a folder that cannot be written costs another trial the next time, and a note."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json_io.to_text(asdict(measured)))
    except (OSError, SkinedgeError) as error:
        note(f"the precision is not kept for the next training: {error}")


def trial(network: nn.Module, size: int) -> Trial:
    """Time a training step of 16 blank images in each precision, after one of 2 images to warm up."""
    import torch

    def step(precision: str, images: int) -> None:
        blank = torch.zeros(images, 3, size, size).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = network(blank).float().square().mean()
        loss.backward()

    for precision in ("fp32", "bf16"):
        step(precision, 2)
    measured = in_turns(lambda precision: step(precision, 16))
    network.zero_grad(set_to_none=True)
    return measured


def in_turns(step: Callable[[str], None], clock: Callable[[], float] = time.perf_counter) -> Trial:
    """Time a step, given a precision: the best of TURNS each, or of as many turns as make the choice clear.

    In turns and the best, so that what else runs on the machine does not choose the precision of hours of training.
    Where bf16 is emulated, it takes 10 times as long, and the first turn is enough.
    """
    best = {"fp32": math.inf, "bf16": math.inf}
    for _ in range(TURNS):
        for precision in best:
            start = clock()
            step(precision)
            best[precision] = min(best[precision], clock() - start)
        ratio = best["fp32"] / (FASTER * best["bf16"])
        if not 1 / CLEAR < ratio < CLEAR:
            break
    return Trial(**best)
