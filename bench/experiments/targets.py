"""Train and evaluate one accuracy target: `make target ROW=NAME`, options in ARGS.

A DermaMNIST row builds its split, trains, exports, verifies and benchmarks as `skinedge run` does, then evaluates the
int8 TFLite file on its test images and prints the row. The same command resumes an interrupted row.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments import dermamnist, external, folds
from skinedge.cli.common import figure, table
from skinedge.cli.pipeline import run_all
from skinedge.core import json_io
from skinedge.core.errors import GateError, SkinedgeError
from skinedge.core.files import write_atomic
from skinedge.run.config import load_config
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import PRIORS, Reading
from skinedge.system.progress import note
from skinedge.training.job import TrainRequest
from skinedge.training.merge import merge
from skinedge.training.train import train
from skinedge_bench.evaluate.evaluate import evaluate
from skinedge_bench.loaded_model import open_listed

HERE = Path(__file__).parent
SHARED = Path("../shared/data")
FILE = "model.int8.tflite"
PRIOR_HELP = "class prior to calibrate the files for; each metric keeps its own [default: uniform]"


@dataclass(frozen=True)
class Row:
    """One row of the table: the DermaMNIST split, the targets (metric -> minimum), and published results.

    AUC is computed at the training prior, which published figures assume (softmax after plain cross entropy).
    """

    split: str
    targets: Mapping[str, float]
    anchor: str


ROWS = {
    "dermamnist-lesion-free": Row(
        "lesion-free",
        {"accuracy": 0.850, "macro_auc_training_prior": 0.960},
        "ResNet-18 at 224 on DermaMNIST-C: .836 / .953",
    ),
    "dermamnist-official": Row(
        "official",
        {"accuracy": 0.850, "macro_auc_training_prior": 0.968},
        "DenseNet-121 at 224: .847 / .963; DINO ViT-B/16 at 224: .844 / .968",
    ),
}
SHOWN = ("accuracy", "macro_auc_training_prior", "macro_auc", "balanced_accuracy")


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        if options.row == "folds":
            folds.measure(options.data, options.config, options.out, options.folds, options.seed)
        elif options.row == "external":
            given = {"image_size": options.image_size, "epochs": options.epochs, "seed": options.seed}
            config = load_config(options.config).with_options(given)
            return external.measure(options.data, options.map, config, options.out)
        elif options.row == "dermamnist":
            dermamnist.build(options.split, options.data, options.table, options.out, options.seed)
        else:
            return dermamnist_row(options)
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: repeat the same command to resume", file=sys.stderr)
        return 130
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.targets", description=(__doc__ or "").partition("\n")[0]
    )
    rows = parser.add_subparsers(dest="row", required=True, metavar="ROW")
    split = rows.add_parser("dermamnist", help="write a DermaMNIST split.csv only")
    split.add_argument("--split", choices=tuple(dermamnist.COLUMNS), required=True)
    split.add_argument("--out", type=Path, required=True, help="the split.csv to write")
    for name, row in ROWS.items():
        command = rows.add_parser(name, help=f"train and evaluate on the {row.split} split")
        command.add_argument("--config", type=Path, default=HERE / f"{name}.toml", help="[default: %(default)s]")
        command.add_argument("--out", type=Path, help=f"run directory [default: runs/targets/{name}-sSEED]")
        command.add_argument("--prior", choices=PRIORS, default="uniform", help=PRIOR_HELP)
        command.add_argument("--force", action="store_true", help="train again even if a run exists")
    for name in ("dermamnist", *ROWS):
        command = rows.choices[name]
        command.add_argument("--data", type=Path, default=SHARED / "ham10000_200x150", help="[default: %(default)s]")
        table_path = SHARED / "dermamnist/split.csv"
        command.add_argument("--table", type=Path, default=table_path, help="[default: %(default)s]")
    cross = rows.add_parser("folds", help="measure the loss by int8 on pooled out-of-fold predictions")
    cross.add_argument("--data", type=Path, default=SHARED / "isic2018_224/train", help="[default: %(default)s]")
    cross.add_argument("--config", type=Path, default=HERE / "folds.toml", help="[default: %(default)s]")
    cross.add_argument("--out", type=Path, default=Path("runs/targets/folds"), help="[default: %(default)s]")
    cross.add_argument("--folds", type=int, default=3, help="[default: 3]")
    sources = rows.add_parser("external", help="leave one source out, and train on both")
    folders = [Path(".cache/flagship-images"), SHARED / "isic2017"]
    sources.add_argument("--data", type=Path, nargs=2, default=folders, help="[default: HAM10000 and ISIC 2017]")
    sources.add_argument(
        "--map", type=Path, default=HERE / "isic2017.toml", help="of the second [default: %(default)s]"
    )
    sources.add_argument("--config", type=Path, default=HERE / "external.toml", help="[default: %(default)s]")
    sources.add_argument("--image-size", type=int, help="[default: that of --config]")
    sources.add_argument("--epochs", type=int, help="[default: that of --config]")
    sources.add_argument("--out", type=Path, default=Path("runs/targets/external"), help="[default: %(default)s]")
    for name in rows.choices:
        rows.choices[name].add_argument("--seed", type=int, default=0, help="seed of split and training [default: 0]")
    return parser.parse_args(arguments)


def dermamnist_row(options: argparse.Namespace) -> int:
    """Build the split, train, evaluate and print. Returns 1 when a file failed a gate of `skinedge verify`."""
    row = ROWS[options.row]
    out = options.out or Path("runs/targets") / f"{options.row}-s{options.seed}"
    leaky = f"-{dermamnist.LEAKY}" if row.split == "official" else ""
    split = out.with_name(f"{out.name}{leaky}.split.csv")
    samples = dermamnist.build(row.split, options.data, options.table, split, options.seed)
    config = load_config(options.config).with_options({"split": str(split), "seed": options.seed})
    request = TrainRequest(options.data, out, config, resume=not options.force, force=options.force)
    passed = True
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output holds the row
            merge(train(request), options.data, Reading(options.prior))
            run_all(replace(request, resume=True, force=False), json=False)
    except GateError as error:
        passed = False
        note(f"gate failed: {error}")
    bundle = Bundle.open(out)
    folds.check_split_of(bundle, samples)
    if not bundle.has(FILE):
        raise GateError(f"no {FILE} to evaluate: it failed a gate", where=str(out))
    evaluation = evaluate(open_listed(bundle, FILE), None, bundle, split="test", allow_train=bool(leaky)).document
    document = result(options.row, bundle, evaluation)
    write_atomic(out.with_name(f"{out.name}.json"), json_io.to_text(document))
    show(options.row, document)
    return 0 if passed else 1


def result(name: str, bundle: Bundle, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as JSON: the targets and whether each is reached, facts of the training, and the evaluation."""
    training, targets = bundle.manifest.training, ROWS[name].targets
    return {
        "schema": "skinedge.target/1",
        "row": name,
        "anchor": ROWS[name].anchor,
        "targets": {key: {"least": least, "reached": evaluation[key] >= least} for key, least in targets.items()},
        "seed": training["config"]["seed"],
        "calibrated_for": bundle.manifest.calibration["reading"]["prior"],
        "image_size": bundle.manifest.preprocess.size,
        "training_seconds": training["seconds"],
        "device": training["device"],
        "precision": training["precision"],
        "best": training["best"],
        "evaluation": evaluation,
    }


def show(name: str, document: Mapping[str, Any]) -> None:
    """Print the row."""
    evaluation = document["evaluation"]
    unit = evaluation["bootstrap"]["unit"]
    rows = []
    for key in SHOWN:
        low, high = (figure(value) for value in evaluation["intervals"][key])
        target = document["targets"].get(key)
        cells = (f">= {target['least']:.3f}", "reached" if target["reached"] else "MISSED") if target else (None, None)
        title = key.removesuffix("_training_prior").replace("_", " ")
        prior = evaluation["assumed_prior"][key]
        rows.append((f"{title}, {prior} prior", figure(evaluation[key]), f"{low} to {high}", *cells))
    print(
        f"{name}: {evaluation['file']} on {evaluation['n']} test images (HAM10000 rebuilt from 200x150, "
        f"{document['image_size']} px); calibrated for the {document['calibrated_for']} prior; "
        f"seed {document['seed']}, trained {document['training_seconds'] / 60:.1f} min "
        f"({document['device']}, {document['precision']})"
    )
    if leaked := evaluation["contaminated"]:
        print(f"LEAK: {leaked} of them show a lesion that is in train: compare with published figures only")
    print(f"published, accuracy / AUC: {document['anchor']}")
    table("", ("metric", "value", f"95 % by {unit}", "target", ""), rows)


if __name__ == "__main__":
    sys.exit(main())
