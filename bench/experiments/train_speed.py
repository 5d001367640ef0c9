"""Compare the speed of `skinedge train` with a plain peft and timm loop: `make bench-train`, options in ARGS.

Each arm runs in its own process, so that its peak memory is its own; the arms take turns, and the first one changes
with the seed. Reports images/s, peak memory, balanced accuracy on the same validation images, the machine and its other
load. `--data ../shared/data/isic2018_224/train` trains on real images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from experiments.command import run_benchmark
from experiments.figures import ARMS, ArmRun, compare, text
from skinedge.core.errors import SkinedgeError
from skinedge.system.progress import note
from skinedge_bench.device import describe_device
from skinedge_bench.latency.conditions import FOREIGN, cpu_clock

SYNTHETIC = Path(".cache/bench-train-images")
SYNTHETIC_SIDE = 450  # pixels: HAM10000's photos have 600 x 450


def main(arguments: list[str] | None = None) -> int:
    return run_benchmark(benchmark, parse(arguments))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.train_speed", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--data", type=Path, help=f"folder of labelled images [default: synthetic images in {SYNTHETIC}]"
    )
    parser.add_argument("--images", type=positive, default=800, help="maximum, stratified [default: 800]")
    parser.add_argument("--size", type=sizes, default=(160, 224), help="input sides in pixels [default: 160,224]")
    parser.add_argument("--epochs", type=positive, default=2, help="[default: 2]")
    parser.add_argument("--seeds", type=positive, default=3, help="number of seeds [default: 3]")
    parser.add_argument("--batch", type=positive, default=32, help="batch size [default: 32]")
    parser.add_argument("--config", type=Path, help="TOML file with other settings, for both arms")
    parser.add_argument("--out", type=Path, help="write all results as JSON here")
    return parser.parse_args(arguments)


def positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return number


def sizes(value: str) -> tuple[int, ...]:
    return tuple(positive(part) for part in value.split(","))


def benchmark(options: argparse.Namespace) -> dict[str, Any]:
    """Run all arms, print the table, and return all results as a JSON document."""
    device = describe_device({name: metadata.version(name) for name in ("torch", "timm", "peft", "numpy", "pillow")})
    data = options.data or synthetic_images(options.images)
    with tempfile.TemporaryDirectory() as folder:
        common = {
            "data": str(data),
            "split": str(Path(folder) / "split.csv"),
            "config": str(options.config or ""),
            "images": options.images,
            "epochs": options.epochs,
            "batch": options.batch,
        }
        facts = child({"arm": "split", **common})
        runs = measure(common, options.size, options.seeds)
    comparisons = [compare(runs, size) for size in options.size]
    print(f"{device.cpu}, {device.cores} cores, {runs[0].threads} threads, {' '.join(device.features)}")
    print(", ".join(f"{name} {version}" for name, version in device.versions.items()), f"Python {device.python}")
    print(
        f"{facts['kind']}: {facts['train']} training and {facts['val']} validation images, the first of "
        f"{facts['first_image']} pixels; {options.epochs} epochs, batch {options.batch}, {options.seeds} seeds; "
        f"ours in {', '.join(sorted({run.precision for run in runs if run.arm == 'ours'}))}\n"
    )
    print(text(comparisons))
    busy = max((run.foreign_share or 0.0 for run in runs), default=0.0)
    if busy > FOREIGN:
        print(f"doubtful: other processes used up to {busy:.0%} of the cores' time")
    return {
        "schema": "skinedge.train_speed/1",
        "device": asdict(device),
        "data": {"path": str(data), **facts},
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()},
        "runs": [asdict(run) for run in runs],
        "comparisons": [asdict(comparison) for comparison in comparisons],
    }


def synthetic_images(count: int) -> Path:
    """Return a folder of synthetic JPEG images of about HAM10000's size; writes it unless it exists."""
    from skinedge.data.synthetic import write_dataset

    folder = SYNTHETIC.with_name(f"{SYNTHETIC.name}-{count}")
    if not folder.exists():
        note(f"writing {count} synthetic images into {folder}")
        write_dataset(folder, count, SYNTHETIC_SIDE, seed=0)
    return folder


def measure(common: dict[str, Any], sides: tuple[int, ...], seeds: int) -> list[ArmRun]:
    """Run both arms for every input side and seed, in turns."""
    runs = []
    for size in sides:
        for seed in range(seeds):
            for arm in ARMS if seed % 2 == 0 else reversed(ARMS):
                note(f"{size} px, seed {seed}, {arm}")
                before = cpu_clock()
                run = ArmRun(**child({"arm": arm, **common, "size": size, "seed": seed}))
                after = cpu_clock()
                share = before.foreign_share(after) if before and after else None
                runs.append(replace(run, foreign_share=share))
    return runs


def child(task: dict[str, Any]) -> dict[str, Any]:
    """Return the measurements of one process. Raises: SkinedgeError when it fails; the process prints why."""
    command = [sys.executable, "-m", "experiments.arms", json.dumps(task)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SkinedgeError(f"the arm '{task['arm']}' ended with status {done.returncode}")
    fields: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


if __name__ == "__main__":
    sys.exit(main())
