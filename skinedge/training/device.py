"""The device and the precision of training: detected or measured, never assumed."""

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
CLEAR = 2.0  # factor from FASTER at which the first round decides
FASTER = 1.3  # speed-up that bf16 needs: with similar speeds, the machine's load would decide
ROUNDS = 5
LONGEST = 20.0  # seconds of rounds, after which no other starts
FEW, MANY = 2, 16  # images in a step: of the warm-up and a first comparison, and of the rounds
OBVIOUS = 3.0  # factor at which the first comparison decides: emulated bf16 takes 7 to 12 times as long
CPU_INFO = Path("/proc/cpuinfo")
CPU_FIELDS = ("model name", "flags", "CPU implementer", "CPU part", "Features")


def choose_device(requested: str) -> str:
    """Return 'cuda' if a usable GPU is present, else 'cpu'.

    Raises: ConfigError for an unknown device, or for 'cuda' without a GPU (no silent fallback).
    """
    import torch

    one_of("device", requested, DEVICES)
    usable = torch.cuda.is_available()
    if requested == "cuda" and not usable:
        raise ConfigError("--device cuda, but PyTorch sees no usable GPU", todo="Use --device cpu or auto.")
    return "cuda" if usable and requested != "cpu" else "cpu"


@dataclass(frozen=True)
class Trial:
    """Duration of a training step in each precision, seconds, above 0."""

    fp32: float
    bf16: float

    def __post_init__(self) -> None:
        if not (self.fp32 > 0 and self.bf16 > 0):
            raise ConfigError("the duration of a trial step is not above 0")

    @property
    def chosen(self) -> str:
        """'bf16' if it is faster by more than a machine's load can explain, else 'fp32'."""
        return "bf16" if self.fp32 >= FASTER * self.bf16 else "fp32"


def choose_precision(requested: str, network: nn.Module, size: int) -> str:
    """Return 'fp32' or 'bf16': as requested; for 'auto', bf16 on a GPU that has it, and by a trial on a CPU.

    bf16 is 2 times faster on a CPU that supports it and 7 times slower on one that emulates it, and no feature flag
    tells how good the kernels are. The trial's result is cached in the user's cache folder, so that the same command
    gives the same model again under any load.
    """
    import torch

    if requested != "auto":
        return requested
    if next(network.parameters()).is_cuda:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    path = cache_folder() / "precision" / f"{_cache_key(network, size)}.json"
    trial = _read_trial(path)
    source = f"cached in {path}"
    if trial is None:
        note("precision: timing training steps in fp32 and bf16 on this CPU; the result is cached")
        trial, source = run_trial(network, size), "measured"
        _write_trial(path, trial)
    durations = f"seconds per step, {source}: {trial.fp32:.2f} in fp32, {trial.bf16:.2f} in bf16"
    note(f'precision: {trial.chosen} ({durations}); precision = "{trial.chosen}" in --config pins it')
    return trial.chosen


def _cache_key(network: nn.Module, size: int) -> str:
    """Return a digest of what determines a step's duration: processor, PyTorch, threads, network and image size."""
    import torch

    parts = [(name, list(part.shape), part.requires_grad) for name, part in network.named_parameters()]
    return digest([processor(), torch.__version__, torch.get_num_threads(), size, type(network).__name__, parts])[:32]


def processor() -> list[str]:
    """Return the model and the instruction flags of the first CPU; without /proc, the names from `platform`."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    fields = [line for line in lines if line.partition(":")[0].strip() in CPU_FIELDS]
    return fields or [platform.machine(), platform.processor()]


def _read_trial(path: Path) -> Trial | None:
    """Return the cached trial, None without one; a damaged file is ignored with a note."""
    if not path.exists():
        return None
    try:
        return json_io.read_json(path, Trial)
    except SkinedgeError as error:
        note(f"ignored: {error}")
        return None


def _write_trial(path: Path, trial: Trial) -> None:
    """Cache the trial; if the folder is not writable, print a note."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json_io.to_text(asdict(trial)))
    except (OSError, SkinedgeError) as error:
        note(f"the precision could not be cached for the next training: {error}")


def run_trial(network: nn.Module, size: int) -> Trial:
    """Time a training step with blank images in each precision, after a warm-up.

    Steps with FEW images come first, and are enough where bf16 is obviously slower.
    """
    import torch

    def step(precision: str, images: int) -> None:
        blank = torch.zeros(images, 3, size, size).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = network(blank).float().square().mean()
        loss.backward()

    for precision in ("fp32", "bf16"):
        step(precision, FEW)
    trial = time_alternately(lambda precision: step(precision, FEW), rounds=1)
    if trial.bf16 < OBVIOUS * trial.fp32:
        trial = time_alternately(lambda precision: step(precision, MANY))
    network.zero_grad(set_to_none=True)
    return trial


def time_alternately(
    step: Callable[[str], None], clock: Callable[[], float] = time.perf_counter, *, rounds: int = ROUNDS
) -> Trial:
    """Time `step(precision)` for both precisions alternately; return the shortest durations of the rounds.

    Alternating and taking the minimum keep the machine's load from choosing the precision of hours of training. Timing
    stops at the first clear result, and after LONGEST seconds.
    """
    best, began = {"fp32": math.inf, "bf16": math.inf}, clock()
    for _ in range(rounds):
        for precision in best:
            start = clock()
            step(precision)
            best[precision] = min(best[precision], clock() - start)
        ratio = best["fp32"] / (FASTER * best["bf16"])
        if not 1 / CLEAR < ratio < CLEAR or clock() - began > LONGEST:
            break
    return Trial(**best)
