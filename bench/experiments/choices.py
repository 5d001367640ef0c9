"""What training settings are worth, on images that judge nothing else: `make choices`, or this file with options.

The training part of a seed's split is divided again by lesion, three quarters to train on and a quarter to judge on, so
that no setting is chosen by images that a model's own val, cal or test split holds. Settings: choices.toml, beside this
file.
A setting whose teacher is another one of the file has that one trained before it, once a seed, on the same division.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from skinedge.cli.common import figure, table
from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.files import write_atomic
from skinedge.core.json_io import build, read_toml
from skinedge.data.dataset import Dataset, Sample, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.data.split import split
from skinedge.run.config import TrainConfig
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge.training.job import TrainRequest
from skinedge.training.merge import merge
from skinedge.training.train import train

HERE = Path(__file__).parent
FIGURES = ("val_balanced_accuracy", "val_accuracy", "val_macro_auc", "train_loss", "images_per_second")
FRACTIONS = {"train": 0.75, "val": 0.25}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="choices.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="settings to try [default: all of the file]")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/ham10000_200x150"), help="[%(default)s]")
    parser.add_argument("--settings", type=Path, default=HERE / "choices.toml", help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=1, help="of split and training [default: 1]")
    parser.add_argument("--out", type=Path, help="write every epoch as JSON here")
    options = parser.parse_args(arguments)
    try:
        found = measure(options.data, settings(options.settings, options.names), options.seeds)
        if options.out:
            write_atomic(options.out, json.dumps(found, indent=2) + "\n")
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def settings(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """name -> what it changes over the file's [common]; a teacher comes before whom it teaches.

    Raises: ConfigError for an unknown name, or settings that teach each other.
    """
    raw = read_toml(path, dict[str, dict[str, Any]])
    common, known = raw.pop("common", {}), raw
    found: dict[str, dict[str, Any]] = {}

    def add(name: str, taught: tuple[str, ...] = ()) -> None:
        if name not in known:
            raise ConfigError(f"unknown: {name}", where=str(path), todo=f"It has {', '.join(known)}.")
        if name in taught:
            raise ConfigError(f"'{name}' is taught by what it teaches", where=str(path))
        if teacher := known[name].get("teacher"):
            add(teacher, (*taught, name))
        found.setdefault(name, {**common, **known[name]})

    for name in names or known:
        add(name)
    return found


def measure(data: Path, tried: Mapping[str, Mapping[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Train each, print each one's last epoch (of its averaged weights), and return every epoch."""
    dataset, found = hash_images(read(data)), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            path = Path(folder) / f"{seed}.csv"
            path.write_text(write_split(divided(dataset, seed)), encoding="utf-8")
            for name, changes in tried.items():
                note(f"{name}, seed {seed}")
                chosen = build(changes, TrainConfig, name, error=ConfigError)
                config = chosen.with_options({"split": str(path), "seed": seed})
                config = replace(config, patience=config.epochs)
                if config.teacher:
                    tutor = Bundle.open(Path(folder) / f"{config.teacher}-{seed}")
                    config = replace(config, teacher=str(merge(tutor, data).root))
                bundle = train(TrainRequest(data, Path(folder) / f"{name}-{seed}", config, device="auto"))
                history = json.loads(bundle.file("reports/training.json").read_text(encoding="utf-8"))["history"]
                found.append({"name": name, "seed": seed, "changes": dict(changes), "history": history})
    rows = [(run["name"], run["seed"], *(figure(run["history"][-1][key]) for key in FIGURES)) for run in found]
    table("after the last epoch", ("settings", "seed", *(key.replace("_", " ") for key in FIGURES)), rows)
    return found


def divided(dataset: Dataset, seed: int) -> tuple[Sample, ...]:
    """The training part of `seed`'s split, divided again by lesion, stratified; cal and test, which training reads
    nothing of, stay as they are, since a split file without them is refused."""
    samples = split(dataset, seed)
    kept = [replace(sample, split="") for sample in samples if sample.split == "train"]
    unread = [sample for sample in samples if sample.split in ("cal", "test")]
    return (*split(replace(dataset, samples=tuple(kept)), seed, FRACTIONS), *unread)


if __name__ == "__main__":
    sys.exit(main())
