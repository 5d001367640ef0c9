"""Check training on this machine's GPU in a few minutes: `make gpu-check`.

Trains the default network for about a minute on synthetic images, interrupts and resumes the training, exports a file
and verifies it, and prints a table for docs/log.md: images/s, share of the time that waits for data, peak memory.
--cpu runs the same steps at tiny size, to test this program.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinedge.core.errors import SkinedgeError
from skinedge.run.config import LoraSettings, TrainConfig

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge.training.job import TrainRequest


@dataclass(frozen=True)
class Scale:
    """Size of the check. side: of the images, pixels; seconds: of the interrupted training; batches: sizes to time."""

    device: str
    images: int
    side: int
    seconds: float
    batches: tuple[int, ...]
    config: TrainConfig


GPU = Scale("cuda", 1400, 256, 60.0, (32, 256), TrainConfig(epochs=3))
CPU = Scale(
    "cpu",
    70,
    40,
    0.1,
    (8,),
    TrainConfig("test_efficientnet", "random", 32, epochs=2, precision="fp32", lora=LoraSettings(rank=4)),
)


@dataclass
class Session:
    """One training: its batches and the seconds spent on loading them; bundle: None after an interruption."""

    batches: int = 0
    loading: float = 0.0
    bundle: Bundle | None = None

    @property
    def run(self) -> Bundle:
        """The trained run. Raises: SkinedgeError after an interruption."""
        if self.bundle is None:
            raise SkinedgeError("the training did not end")
        return self.bundle


def session(request: TrainRequest, stop_at: int | None = None) -> Session:
    """Train; Ctrl-C comes in batch number `stop_at`, if given."""
    from skinedge.training import train_step
    from skinedge.training.train import train

    running, load_batch = Session(), train_step.load_batch

    def timed(problem: Any, indices: Any) -> Any:
        synchronize(problem.device)  # else the time would include the previous step's
        started = time.perf_counter()
        loaded = load_batch(problem, indices)
        running.loading += time.perf_counter() - started
        running.batches += 1
        if running.batches == stop_at:
            signal.raise_signal(signal.SIGINT)
        return loaded

    train_step.load_batch = timed
    try:
        running.bundle = train(request)
    except KeyboardInterrupt:
        if stop_at is None:
            raise
    finally:
        train_step.load_batch = load_batch
    return running


def synchronize(device: str) -> None:
    """Wait until the GPU has finished its work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


class Table:
    """The steps so far: name, seconds, result."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, str]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Time a step; it appends the parts of its result to the list."""
        result: list[str] = []
        started = time.perf_counter()
        yield result
        self.rows.append((name, time.perf_counter() - started, ", ".join(result)))

    def text(self) -> str:
        """Return Markdown."""
        lines = [f"| {name} | {seconds:.1f} | {result} |" for name, seconds, result in self.rows]
        return "\n".join(["| step | seconds | result |", "|---|---|---|", *lines])


def check(scale: Scale, folder: Path) -> Table:
    """Run all steps in `folder`. Raises: SkinedgeError if one fails."""
    from skinedge.data.synthetic import write_dataset
    from skinedge.training.job import TrainRequest

    table, images = Table(), folder / "images"
    with table.step("images") as result:
        write_dataset(images, scale.images, scale.side, seed=0)
        result.append(f"{scale.images} synthetic images of {scale.side} px")
    rate = 0.0
    for size in scale.batches:
        with table.step(f"train, batch {size}") as result:
            reset_peak(scale.device)
            config = replace(scale.config, batch_size=size)
            speed = session(TrainRequest(images, folder / f"speed-{size}", config, scale.device))
            rate = rate or images_per_second(speed)
            result += figures(speed, scale.device)
    request = TrainRequest(images, folder / "run", scale.config, scale.device)
    training = counts(speed)["train"]
    epochs = max(2, round(scale.seconds * rate / training))
    request = replace(request, config=replace(scale.config, epochs=epochs, patience=epochs))
    total = epochs * math.ceil(training / request.config.batch_size)
    with table.step("train, interrupted") as result:
        if session(request, stop_at=total // 2).bundle is not None:
            raise SkinedgeError("Ctrl-C did not stop the training")
        result.append(f"Ctrl-C in batch {total // 2} of {total}")
    with table.step("resume") as result:
        rest = session(replace(request, resume=True))
        if rest.batches != total - total // 2:
            raise SkinedgeError(f"resumed with {rest.batches} batches to do, expected {total - total // 2}")
        result.append(f"the other {rest.batches} batches, {epochs} epochs")
    finish(table, rest.bundle, images)
    return table


def finish(table: Table, bundle: Any, images: Path) -> None:
    """Merge, export and verify. Raises: GateError if a gate fails."""
    from skinedge.training.merge import merge
    from skinedge_bench.verify.verify import verify
    from skinedge_export.export import export
    from skinedge_export.target import export_targets

    with table.step("merge") as result:
        bundle = merge(bundle)
        result.append("on the CPU")
    with table.step("export") as result:
        bundle = export(bundle, export_targets(("onnx",)))
        result.append("model.fp32.onnx, gates passed")
    with table.step("verify") as result:
        report = verify(bundle, images)
        report.require_passed()
        (file,) = (file for file in report.files if file.figures)
        result.append(f"passed, largest difference {file.figures.max_difference:.1e} on {file.figures.n} test images")


def reset_peak(device: str) -> None:
    """Start a new measurement of the peak memory."""
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def images_per_second(trained: Session) -> float:
    """Return the rate of the last epoch, which the warm-up of the first does not slow down."""
    import json

    history = json.loads(trained.run.file("reports/training.json").read_text(encoding="utf-8"))["history"]
    return float(history[-1]["images_per_second"])


def counts(trained: Session) -> dict[str, int]:
    """Return split -> number of images."""
    return {split: sum(row.values()) for split, row in trained.run.manifest.training["data"]["counts"].items()}


def figures(trained: Session, device: str) -> list[str]:
    """Return rate, precision, share of the training time that loads batches, and peak memory of a GPU."""
    import torch

    facts = trained.run.manifest.training
    share = trained.loading / max(facts["seconds"], trained.loading)
    parts = [
        f"{images_per_second(trained):.0f} images/s in {facts['precision']}",
        f"{share:.1%} of the time loads data",
    ]
    if device == "cuda":
        parts.append(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    return parts


def machine(device: str) -> str:
    """Describe the GPU or CPU, and PyTorch."""
    import torch

    if device == "cpu":
        return f"CPU, PyTorch {torch.__version__}"
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}), PyTorch {torch.__version__}"


def main(arguments: list[str] | None = None) -> int:
    """Run the check and print the table; return 1 without a GPU or if a step fails."""
    import torch

    parser = argparse.ArgumentParser(
        prog="python -m experiments.gpu_check", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--cpu", action="store_true", help="run the same steps on the CPU, at tiny size")
    options = parser.parse_args(arguments)
    if not options.cpu and not torch.cuda.is_available():
        print("error: PyTorch sees no usable GPU; --cpu runs the same steps at tiny size", file=sys.stderr)
        return 1
    scale = CPU if options.cpu else GPU
    try:
        with tempfile.TemporaryDirectory(prefix="skinedge-gpu-check-") as folder:
            table = check(scale, Path(folder))
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{machine(scale.device)}\n\n{table.text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
