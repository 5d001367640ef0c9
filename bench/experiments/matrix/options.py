"""Options of export and training in pairs; runs and images that were moved or renamed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.fuzz.case import Outcome
from experiments.fuzz.fixture import RUN
from experiments.matrix import environment, folders, photos
from experiments.matrix.cell import Cell, Plan, nothing_wrong, one_line, works
from experiments.matrix.pairs import Row, all_pairs

# The rows of the export pairs are those that fit together (`fit_together`); the others are in `refused`.
EXPORT: Mapping[str, Sequence[Any]] = {
    "format": ("onnx", "tflite"),
    "precision": ("fp32", "fp16", "int8", "int8-weight", "int8-mixed", "search"),
    "contract": ("pixels", "google", "qualcomm", "uint8"),
    "heatmap": (False, True),
    "logits": (False, True),
    "cpu": (None, "arm"),
    "prior": (None, "uniform", "training"),
    "sensitivity": (None, 0.5, 0.8, 1.0),
    "fallback": (None, "any"),
}
TRAIN: Mapping[str, Sequence[Any]] = {
    "image_size": (32, 48, 75, 160, 384),
    "rank": (1, 4, 16, 64),
    "batch_size": (1, 7, 500),
    "imbalance": ("logit-adjusted", "balanced-sampling", "focal", "none"),
    "precision": ("auto", "fp32", "bf16"),
    "average": (0.0, 0.99),
    "dora": (False, True),
    "rank_stabilized": (False, True),
}
TOLERANCE = {"fp32": 1e-3, "fp16": 0.02}  # of a probability; int8 files are judged by their gates
MINUTES = 15
LOST = "/lost/photos"  # where the images of a run are no longer


def cells(plan: Plan) -> list[Cell]:
    """Return the cells; the quick part has one training."""
    exports, trainings = all_pairs(EXPORT, plan.rng, fit_together), all_pairs(TRAIN, plan.rng)
    if plan.quick:
        return [trained(trainings[0])]
    drawn = [*(exported(plan, row) for row in exports), *(trained(row) for row in trainings)]
    return [*drawn, *moved(plan), *odd_names(), *refused(plan)]


def fit_together(row: Row) -> bool:
    """Return True for options of export that do not contradict each other."""
    quantized = row["precision"] in ("int8", "int8-mixed", "search")
    for_arm = row["cpu"] is None or (quantized and row["format"] == "onnx")
    return for_arm and (row["fallback"] is None or row["precision"] == "search")


def exported(plan: Plan, row: Row) -> Cell:
    """Return the cell of an export, whose files `verify` must pass too."""
    argv = ["export", "run", "--format", row["format"]]
    argv += ["--int8"] if row["precision"] == "search" else ["--precision", row["precision"]]
    for name in ("contract", "cpu", "prior", "sensitivity", "fallback"):
        argv += [f"--{name}", str(row[name])] if row[name] is not None else []
    argv += [f"--{name}" for name in ("heatmap", "logits") if row[name]]
    expected, prepare = works(partial(is_exported, row)), partial(_copy_merged, plan)
    return Cell(" ".join(argv[2:]), (tuple(argv), ("verify", "run")), expected, prepare, minutes=MINUTES)


def _copy_run(plan: Plan, work: Path) -> None:
    shutil.copytree(plan.fixture / RUN, work / "run")


def _copy_merged(plan: Plan, work: Path) -> None:
    """Copy the run as it was after `merge`: files of another prior would be converted again."""
    _copy_run(plan, work)
    path = work / "run/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["stages"] = {name: manifest["stages"][name] for name in ("train", "merge")}
    manifest |= {"default_file": None, "thresholds": {"default": manifest["thresholds"]["default"]}}
    path.write_text(json.dumps(manifest, indent=2))
    kept = {file["path"] for stage in manifest["stages"].values() for file in stage["files"]} | {"manifest.json"}
    for file in [file for file in path.parent.rglob("*") if file.is_file()]:
        if file.relative_to(path.parent).as_posix() not in kept:
            file.unlink()


def is_exported(row: Row, outcome: Outcome, work: Path) -> str | None:
    """Compare every file of the run with the reference, and the run's settings with the options."""
    from skinedge.core.outputs import Outputs
    from skinedge.run import golden
    from skinedge.run.run_directory import Bundle
    from skinedge.stats.metrics import softmax
    from skinedge_bench.loaded_model import open_listed

    bundle = Bundle.open(work / "run")
    reading, vectors = bundle.manifest.calibration["reading"], golden.of_run(bundle)
    for name in ("prior", "sensitivity"):
        if row[name] not in (None, reading[name]):
            return f"{name} is {reading[name]}"
    parts = {
        part for part in (row["contract"].replace("pixels", ""), *(n for n in ("heatmap", "logits") if row[n])) if part
    }
    made = [entry.path for entry in bundle.model_files() if set(entry.path.split(".")[2:-1]) - {"arm"} == parts]
    if not made:
        return f"no file with {parts} among {[entry.path for entry in bundle.model_files()]}"
    for entry in bundle.model_files():
        outputs: Outputs = open_listed(bundle, entry.path).run(vectors.pixels)
        requested = entry.path in made and parts
        if (outputs.heatmaps is None, outputs.logits is None) != (
            not (requested and row["heatmap"]),
            not (requested and row["logits"]),
        ):
            return f"{entry.path} has not the outputs that were asked for"
        tolerance = TOLERANCE.get(entry.info["precision"])
        difference = np.abs(outputs.probabilities - softmax(vectors.logits)).max()
        if tolerance is not None and not difference <= tolerance:
            return f"{entry.path} differs from PyTorch by {difference:.4f}"
    return None


def trained(row: Row) -> Cell:
    """Return the cell of a training whose network is merged, exported and verified."""
    general = {name: row[name] for name in ("image_size", "batch_size", "imbalance", "precision")}
    lora = {name: row[name] for name in ("rank", "dora", "rank_stabilized")}
    config = toml({"backbone": "test_efficientnet", "weights": "random", "epochs": 1, **general})
    config += "[lora]\n" + toml(lora) + "[optimizer]\n" + toml({"average": row["average"]})
    commands = (
        ("train", "--data", "data", "--config", "config.toml", "--out", "run"),
        ("export", "run", "--format", "onnx"),
        ("verify", "run"),
    )
    name = ", ".join(f"{key} {value}" for key, value in row.items())
    return Cell(
        f"train: {name}", commands, works(environment.is_trained), partial(_write_training, config), minutes=MINUTES
    )


def toml(values: Row) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _write_training(config: str, work: Path) -> None:
    environment.prepare(work)
    (work / "config.toml").write_text(config)


def moved(plan: Plan) -> Iterator[Cell]:
    """Yield runs with other names, and images that are no longer where the run was trained on them."""
    images = str(plan.fixture / "data/few")
    for name in ("my run", "L\u00e4ufe/\u00e4 \u00f6", "a#1", 'it\'s 100% "q"', "a;b,c", "runs.v1.onnx"):
        commands = (
            ("verify", name),
            ("predict", images, "--run", name, "--jobs", "1", "--out", f"{name} predictions.jsonl"),
            ("export", name, "--format", "onnx", "--logits"),
            ("report", name, "--out", f"{name}.html"),
        )
        yield Cell(
            f"run renamed: {name}", commands, works(nothing_wrong), partial(_rename, plan, name), minutes=MINUTES
        )
    evaluate = ("evaluate", "run", "--split", "test", "--jobs", "1", "--out", "evaluation")
    export = ("export", "run", "--format", "tflite", "--precision", "int8", "--force")
    for command in (evaluate, export):
        move = partial(_move_images, plan)
        yield Cell(f"images moved: {command[0]}", (command,), one_line(LOST, "--data"), move, minutes=MINUTES)
        with_data = (*command, "--data", "my photos")
        yield Cell(f"images moved: {command[0]} --data", (with_data,), works(nothing_wrong), move, minutes=MINUTES)
    changed = (*evaluate, "--data", "my photos")
    yield Cell(
        "an image changed: evaluate",
        (changed,),
        works(nothing_wrong, "but other content"),
        partial(_change_images, plan),
    )


def _rename(plan: Plan, name: str, work: Path) -> None:
    shutil.copytree(plan.fixture / RUN, work / name)


def _move_images(plan: Plan, work: Path) -> None:
    """Copy the run and its images; the run remembers a folder that is not there."""
    _copy_run(plan, work)
    shutil.copytree(plan.fixture / "data/ham", work / "my photos")
    path = work / "run/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "data_root": LOST}, indent=2))


def _change_images(plan: Plan, work: Path) -> None:
    _move_images(plan, work)
    for number, path in enumerate(sorted((work / "my photos").glob("*.jpg"))):
        path.write_bytes(photos.photo(300 + number))


def odd_names() -> Iterator[Cell]:
    """Yield a training on every odd file name, whose split file must lead back to the images."""
    names = [*folders.NAMES.values(), *folders.BREAKING.values()]
    folder = folders.Folder({f"{label}/{name}{label}.jpg": (label, "") for label in ("mel", "nv") for name in names})
    commands = (
        ("train", "--data", "data", "--config", "config.toml", "--out", "run"),
        ("merge", "run"),
        ("evaluate", "run", "--file", "model.safetensors", "--split", "all", "--allow-train", "--jobs", "1"),
    )

    def prepare(work: Path) -> None:
        folder.write(work / "data")
        (work / "config.toml").write_text(environment.CONFIG)

    yield Cell("train on odd names", commands, works(partial(_has_split, folder)), prepare, minutes=MINUTES)


def _has_split(folder: folders.Folder, outcome: Outcome, work: Path) -> str | None:
    from skinedge.data.dataset import read_split

    actual = {sample.path: sample.label for sample in read_split(work / "run/split.csv")}
    return None if actual == {path: label for path, (label, _) in folder.images.items()} else "split.csv names others"


def refused(plan: Plan) -> Iterator[Cell]:
    """Yield values out of range, and options that contradict each other."""
    for lines, words in (
        ("image_size = 31", "image_size"), ("image_size = 5000", "image_size"), ("batch_size = 0", "batch_size"),
        ("epochs = 0", "epochs"), ('imbalance = "best"', "imbalance"), ('precision = "fp8"', "precision"),
        ("limit = 3", "limit"), ("colour = 1", "colour"), ("[lora]\nrank = 0", "rank"),
        ("[lora]\ntargets = []", "targets"),
        ('[lora]\ntargets = ["x"]', "targets"), ("[optimizer]\naverage = 1.0", "average"), ("epochs = nan", "epochs"),
        ("[optimizer]\nlearning_rate = inf", "learning_rate"), ('[taxonomy]\nmel = "bad"', "bad"),
        ("[lora", "config.toml"),
    ):  # fmt: skip
        known = "".join(f"{line}\n" for line in environment.CONFIG.splitlines() if line.split()[0] != lines.split()[0])
        config = lines + "\n" + known if not lines.startswith("[") else known + lines + "\n"
        command = ("train", "--data", "data", "--config", "config.toml", "--out", "run")
        yield Cell(f"train: {lines}", (command,), one_line(words), partial(_write_training, config))
    for options, words in (
        (("--sensitivity", "0"), "sensitivity"), (("--sensitivity", "1.5"), "sensitivity"),
        (("--sensitivity", "nan"), "sensitivity"), (("--prior", "x"), "prior"), (("--contract", "bgr"), "contract"),
        (("--precision", "int4"), "precision"), (("--format", "coreml"), "coreml"), (("--cpu", "x86"), "--cpu"),
        (("--int8", "--precision", "int8"), "--int8"), (("--precision", "int8", "--fallback", "any"), "--fallback"),
        (("--format", "tflite", "--int8", "--cpu", "arm"), "--cpu"), (("--precision", "fp32", "--cpu", "arm"), "--cpu"),
        (("--converter", "nothing"), "nothing"),
        (("--format", "onnx", "--converter", "onnx2tf"), "--format tflite"), (("--fallback", "all"), "--fallback"),
    ):  # fmt: skip
        yield Cell(
            f"export {' '.join(options)}", (("export", "run", *options),), one_line(words), partial(_copy_run, plan)
        )
