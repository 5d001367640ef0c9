"""How much of all cores `skinedge predict` and `evaluate` make use of: `make throughput`, or this file with options.

Each command is timed as a person starts it, from its start to its end, on links to labelled images: held to one core,
and on all that this process may use. efficiency = images/s on all cores / (cores x images/s on one). The peak of memory
is that of the resident sets of all its processes together, every .2 s, on fewer and on all images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

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
    """One command on so many images and cores; foreign_cpu: share of all cores' time that others took meanwhile."""

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
    options = parse(arguments)
    try:
        document = benchmark(options)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.out:
        options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        note(f"written: {options.out}")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="throughput.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of labelled images [default: {DATA}]")
    parser.add_argument("--run", type=Path, default=SHIPPED, help=f"[default: {SHIPPED}]")
    parser.add_argument("--file", help="model file of the run [default: the run's]")
    parser.add_argument("--images", type=int, default=10_000, help="[default: 10000]")
    parser.add_argument("--few", type=int, default=1_000, help="images of the second look at memory [default: 1000]")
    parser.add_argument("--out", type=Path, help="write everything as JSON here")
    return parser.parse_args(arguments)


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Measure, print, and return all of it."""
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
    """Links to `count` of the images, evenly over the folder, in class folders.

    Raises: DataError where there are fewer.
    """
    samples = read(data).samples
    if not 0 < count <= len(samples):
        raise DataError(f"{count} images are asked for, and {len(samples)} are here", where=str(data))
    for index in range(count):
        sample = samples[index * len(samples) // count]
        path = folder / sample.label / Path(sample.path).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to((data / sample.path).resolve())


def command_line(command: str, folder: Path, options: argparse.Namespace) -> list[str]:
    """The command as it would be typed."""
    chosen = ["--file", options.file] if options.file else []
    if command == "predict":
        return ["predict", str(folder), "--run", str(options.run), *chosen, "--json"]
    return ["evaluate", str(options.run), "--data", str(folder), *chosen, "--split", "all", "--allow-train", "--json"]


def timed(arguments: list[str], command: str, images: int, cores: frozenset[int]) -> Timing:
    """Run `skinedge` held to these cores. Raises: SkinedgeError when it fails."""
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
    """Resident memory of a process and its children, shared pages counted in each."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if root in (int(folder.name), parent):
                total += int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
    return total * PAGE_MIB


def efficiency(timings: list[Timing], command: str, images: int) -> float:
    """Rate on all cores over (cores x rate on one)."""
    rates = {timing.cores: timing.rate for timing in timings if (timing.command, timing.images) == (command, images)}
    cores = max(rates)
    return rates[cores] / (cores * rates[1])


def text(timings: list[Timing], efficiencies: dict[str, float]) -> str:
    """The table, and what it comes to."""
    lines = ["command   images  cores  seconds  images/s  peak RSS, MiB"]
    for t in timings:
        lines.append(f"{t.command:8} {t.images:7} {t.cores:6} {t.seconds:8.1f} {t.rate:9.1f} {t.peak_rss_mib:14.0f}")
    lines += [f"{command}: {value:.1%} of what all cores could do" for command, value in efficiencies.items()]
    busy = max((timing.foreign_cpu or 0.0 for timing in timings), default=0.0)
    if busy > FOREIGN:
        lines.append(f"doubtful: other processes took up to {busy:.0%} of the cores' time")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
