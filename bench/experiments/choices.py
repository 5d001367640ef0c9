"""Compare training settings on images that no model is evaluated on: `make choices`, or ARGS="--help" for options.

The training part of each seed's split is divided again by lesion: three quarters to train on, one quarter to evaluate
on. So no setting is chosen on images of a model's own val, cal or test split. The settings are in choices.toml.
If a setting names another one as its teacher, the teacher is trained first, once per seed, on the same division.
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
from skinedge.training.ensemble import teacher_runs
from skinedge.training.job import TrainRequest
from skinedge.training.merge import merge
from skinedge.training.train import train

HERE = Path(__file__).parent
FIGURES = ("val_balanced_accuracy", "val_accuracy", "val_macro_auc", "train_loss", "images_per_second")
FRACTIONS = {"train": 0.75, "val": 0.25}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.choices", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", help="settings to train [default: all in the settings file]")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/ham10000_200x150"), help="[default: %(default)s]"
    )
    parser.add_argument("--settings", type=Path, default=HERE / "choices.toml", help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds of split and training [default: 1]")
    parser.add_argument("--out", type=Path, help="write every epoch as JSON here")
    options = parser.parse_args(arguments)
    try:
        histories = measure(options.data, settings(options.settings, options.names), options.seeds)
        if options.out:
            write_atomic(options.out, json.dumps(histories, indent=2) + "\n")
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def settings(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Map each setting's name to its values over the file's [common]; a teacher comes before its students.

    Raises: ConfigError for an unknown name, or settings that teach each other.
    """
    tables = read_toml(path, dict[str, dict[str, Any]])
    common = tables.pop("common", {})
    ordered: dict[str, dict[str, Any]] = {}

    def add(name: str, students: tuple[str, ...] = ()) -> None:
        if name not in tables:
            raise ConfigError(f"unknown: {name}", where=str(path), todo=f"It has {', '.join(tables)}.")
        if name in students:
            raise ConfigError(f"'{name}' is its own teacher, directly or through others", where=str(path))
        teachers = tables[name].get("teacher", "")
        for teacher in [teachers] * bool(teachers) if isinstance(teachers, str) else teachers:
            add(teacher, (*students, name))
        ordered.setdefault(name, {**common, **tables[name]})

    for name in names or tables:
        add(name)
    return ordered


def measure(data: Path, candidates: Mapping[str, Mapping[str, Any]], seeds: int) -> list[dict[str, Any]]:
    """Train every setting, print its last epoch (of its averaged weights), and return every epoch."""
    dataset, histories = hash_images(read(data)), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            path = Path(folder) / f"{seed}.csv"
            path.write_text(write_split(nested_split(dataset, seed)), encoding="utf-8")
            for name, changes in candidates.items():
                note(f"{name}, seed {seed}")
                base = build(changes, TrainConfig, name, error=ConfigError)
                config = base.with_options({"split": str(path), "seed": seed})
                config = replace(config, patience=config.epochs)
                runs = [Bundle.open(Path(folder) / f"{teacher}-{seed}") for teacher in teacher_runs(config)]
                if runs:
                    config = replace(config, teacher=tuple(str(merge(run, data).root) for run in runs))
                bundle = train(TrainRequest(data, Path(folder) / f"{name}-{seed}", config, device="auto"))
                history = json.loads(bundle.file("reports/training.json").read_text(encoding="utf-8"))["history"]
                histories.append({"name": name, "seed": seed, "changes": dict(changes), "history": history})
    rows = [(run["name"], run["seed"], *(figure(run["history"][-1][key]) for key in FIGURES)) for run in histories]
    table("after the last epoch", ("settings", "seed", *(key.replace("_", " ") for key in FIGURES)), rows)
    return histories


def nested_split(dataset: Dataset, seed: int) -> tuple[Sample, ...]:
    """Divide the training part of `seed`'s split again into train and val, by lesion and stratified.

    cal and test stay as they are: training does not read them, but a split file without them is refused.
    """
    samples = split(dataset, seed)
    training = [replace(sample, split="") for sample in samples if sample.split == "train"]
    unread = [sample for sample in samples if sample.split in ("cal", "test")]
    return (*split(replace(dataset, samples=tuple(training)), seed, FRACTIONS), *unread)


if __name__ == "__main__":
    sys.exit(main())
