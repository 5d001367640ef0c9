"""Measure how well `skinedge predict` and `evaluate` use all cores: `make throughput`, options in ARGS.

Each command is timed from its start to its end, on links to labelled images: on one core, and on all cores available to
this process. efficiency = images/s on all cores / (cores x images/s on one core). Peak memory is the resident memory of
all processes of the command together, sampled every 0.2 s, on few and on all images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.command import run_benchmark
from skinedge.core.errors import DataError, SkinedgeError
from skinedge.data.readers import read
from skinedge.system.cpu import usable
from skinedge.system.progress import note
from skinedge_bench.device import describe_device
from skinedge_bench.latency.conditions import FOREIGN, cpu_clock

DATA = Path("../shared/data/ham10000_200x150")
SHIPPED = Path("skinedge/flagship")
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
COMMANDS = ("predict", "evaluate")


@dataclass(frozen=True)
class Timing:
    """One timed command. foreign_cpu: share of all cores' time used by other processes, 0..1; None if unknown."""

    command: str
    images: int
    cores: int
    seconds: float
    peak_rss_mib: float
    foreign_cpu: float | None

    @property
    def rate(self) -> float:
        return self.images / self.seconds


def main(arguments: list[str] | None = None) -> int:
    return run_benchmark(benchmark, parse(arguments))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.throughput", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of labelled images [default: {DATA}]")
    parser.add_argument("--run", type=Path, default=SHIPPED, help=f"run directory [default: {SHIPPED}]")
    parser.add_argument("--file", help="model file of the run [default: the run's default file]")
    parser.add_argument("--images", type=int, default=10_000, help="number of images [default: 10000]")
    parser.add_argument(
        "--few", type=int, default=1_000, help="images of the second memory measurement [default: 1000]"
    )
    parser.add_argument("--out", type=Path, help="write all results as JSON here")
    return parser.parse_args(arguments)


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Time every command, print the table, and return all results as a JSON document."""
    device = describe_device({name: metadata.version(name) for name in ("ai-edge-litert", "onnxruntime", "pillow")})
    with tempfile.TemporaryDirectory() as name:
        many, few = Path(name) / "many", Path(name) / "few"
        link(options.data, options.images, many)
        link(options.data, options.few, few)
        timings = []
        for command in COMMANDS:
            one = min(usable())
            timings += [
                timed(command_line(command, few, options), command, options.few, usable()),
                timed(command_line(command, many, options), command, options.images, usable()),
                timed(command_line(command, many, options), command, options.images, frozenset({one})),
            ]
    efficiencies = {command: efficiency(timings, command, options.images) for command in COMMANDS}
    print(f"{device.cpu}, {device.cores} cores, {' '.join(device.features)}")
    print(", ".join(f"{name} {version}" for name, version in device.versions.items()), f"Python {device.python}\n")
    print(text(timings, efficiencies))
    return {
        "schema": "skinedge.throughput/1",
        "device": asdict(device),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "timings": [{**asdict(timing), "images_per_second": timing.rate} for timing in timings],
        "efficiency": efficiencies,
    }


def link(data: Path, count: int, folder: Path) -> None:
    """Link `count` of the images, evenly spaced over the dataset, into class folders.

    Raises: DataError if there are fewer.
    """
    samples = read(data).samples
    if not 0 < count <= len(samples):
        raise DataError(f"{count} images requested, {len(samples)} found", where=str(data))
    for index in range(count):
        sample = samples[index * len(samples) // count]
        path = folder / sample.label / Path(sample.path).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to((data / sample.path).resolve())


def command_line(command: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """Return the arguments of `skinedge`."""
    file = ["--file", options.file] if options.file else []
    if command == "predict":
        return ["predict", str(folder), "--run", str(options.run), *file, "--json"]
    return ["evaluate", str(options.run), "--data", str(folder), *file, "--split", "all", "--allow-train", "--json"]


def timed(arguments: list[str], command: str, images: int, cores: frozenset[int]) -> Timing:
    """Run `skinedge` on these cores only. Raises: SkinedgeError when it fails."""
    note(f"{command}: {images} images on {len(cores)} core(s)")
    before, started = cpu_clock(), time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "skinedge", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        peak = 0.0
        while True:
            try:
                code = process.wait(0.2)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, resident_mib(process.pid))
        seconds = time.monotonic() - started
        errors.seek(0)
        if code:
            raise SkinedgeError(f"skinedge {command} ended with status {code}:\n{errors.read().decode()}")
    after = cpu_clock()
    foreign = before.foreign_share(after) if before and after else None
    return Timing(command, images, len(cores), seconds, peak, foreign)


def resident_mib(root: int) -> float:
    """Return the resident memory of a process and its children in MiB; shared pages count in each."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if root in (int(folder.name), parent):
                total += int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):  # the process has ended
            continue
    return total * PAGE_MIB


def efficiency(timings: list[Timing], command: str, images: int) -> float:
    """Return the rate on all cores / (cores x rate on one)."""
    rates = {timing.cores: timing.rate for timing in timings if (timing.command, timing.images) == (command, images)}
    cores = max(rates)
    return rates[cores] / (cores * rates[1])


def text(timings: list[Timing], efficiencies: dict[str, float]) -> str:
    """Return the table and the efficiencies as text."""
    lines = ["command   images  cores  seconds  images/s  peak RSS, MiB"]
    for t in timings:
        lines.append(f"{t.command:8} {t.images:7} {t.cores:6} {t.seconds:8.1f} {t.rate:9.1f} {t.peak_rss_mib:14.0f}")
    lines += [f"{command}: {value:.1%} efficiency on all cores" for command, value in efficiencies.items()]
    busy = max((timing.foreign_cpu or 0.0 for timing in timings), default=0.0)
    if busy > FOREIGN:
        lines.append(f"doubtful: other processes used up to {busy:.0%} of the cores' time")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
