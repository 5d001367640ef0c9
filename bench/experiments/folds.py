"""Measure the drop in balanced accuracy by int8 on out-of-fold predictions of every image.

K folds by lesion; each is held out once as the test split of its own run, whose int8 files and PyTorch fp32 reference
predict it. Pooled over the folds, every image counts once. An interval of a few tenths of a point needs that many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.cli.common import table
from skinedge.core import json_io
from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.files import write_atomic
from skinedge.data.dataset import Dataset, Sample, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.data.split import FRACTIONS, split
from skinedge.run.config import TrainConfig, load_config
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.stats.bootstrap import Units, image_weights, percentiles
from skinedge.stats.paired import Estimate, McNemar, mean_estimate
from skinedge.system.progress import note
from skinedge.training.job import TrainRequest
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.intervals import RESAMPLES, units_of

FILES = ("model.int8.tflite", "model.int8.onnx")
LIMIT = 0.003  # balanced accuracy: the target for the lower bound of the drop
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Predictions of one fold's held-out images.

    truth: (N,) int64; predicted: file (or 'fp32') -> predicted classes, (N,) int64; scores: file (or 'fp32') ->
    malignant scores, (N,) float64.
    """

    samples: tuple[Sample, ...]
    truth: Indices
    predicted: Mapping[str, Indices]
    scores: Mapping[str, NDArray[np.float64]]
    training_seconds: float


@dataclass(frozen=True)
class Int8Drop:
    """One int8 file against fp32, pooled over the folds.

    fp32, int8: balanced accuracy, 0..1; fall: its drop, positive is a loss; interval: two-sided 95 %, lower_bound:
    one-sided 95 %, both by paired bootstrap over lesions; agreement: share of equal classes, with Wilson's 95 %
    interval; only_fp32_right, only_int8_right: McNemar's counts, with the exact two-sided p; score_change: mean
    |difference| of the malignant score, with its 95 % interval; reached: lower_bound is at most LIMIT.
    """

    file: str
    n: int
    fp32: float
    int8: float
    fall: float
    interval: tuple[float, float]
    lower_bound: float
    agreement: float
    agreement_interval: tuple[float, float]
    only_fp32_right: int
    only_int8_right: int
    mcnemar_p: float
    score_change: Estimate
    reached: bool


def measure(data: Path, config: Path, out: Path, count: int, seed: int) -> None:
    """Train the missing folds, evaluate all, print the table, and write `out`/folds.json.

    Raises: DataError, ConfigError; BundleError when a finished fold has another split or other settings; GateError
    when a fold's file fails its gate: omitting that fold would bias the result.
    """
    settings = load_config(config)
    dataset = hash_images(read(data))
    out.mkdir(parents=True, exist_ok=True)
    folds = []
    for number, samples in enumerate(splits(dataset, count, seed)):
        note(f"fold {number + 1} of {count}")
        run = train_fold(data, out / f"fold{number}-of-{count}", replace(settings, seed=seed), samples)
        folds.append(predict_fold(run, tuple(sample for sample in samples if sample.split == "test")))
    units = units_of([sample for fold in folds for sample in fold.samples])
    drops = pooled_drops(folds, units)
    document = {
        "schema": "skinedge.folds/1",
        "data": str(data),
        "folds": count,
        "seed": seed,
        "config": settings.to_dict(),
        "training_seconds": [fold.training_seconds for fold in folds],
        "bootstrap": {"unit": units.name, "units": units.count, "resamples": RESAMPLES, "seed": 0},
        "limit": LIMIT,
        "files": [asdict(drop) for drop in drops],
    }
    write_atomic(out / "folds.json", json_io.to_text(document))
    show(document, drops)


def splits(dataset: Dataset, count: int, seed: int) -> list[tuple[Sample, ...]]:
    """Return one split per fold, by lesion: the fold is test, the rest is divided as `skinedge train` does.

    dataset: hashed. Raises: ConfigError for fewer than two folds; DataError for a class with too few lesions.
    """
    if count < 2:
        raise ConfigError(f"{count} folds: at least 2 are needed")
    unassigned = tuple(replace(sample, split="") for sample in dataset.samples)
    rest, held_out = unassigned, []
    for left in range(count, 1, -1):
        parts = split(replace(dataset, samples=rest), seed, {"test": 1 / left, "train": 1 - 1 / left})
        held_out.append(tuple(sample for sample in parts if sample.split == "test"))
        rest = tuple(replace(sample, split="") for sample in parts if sample.split == "train")
    held_out.append(tuple(replace(sample, split="test") for sample in rest))
    inner = {name: share for name, share in FRACTIONS.items() if name != "test"}
    folds = []
    for fold in held_out:
        paths = {sample.path for sample in fold}
        others = replace(dataset, samples=tuple(sample for sample in unassigned if sample.path not in paths))
        folds.append(tuple(sorted([*fold, *split(others, seed, inner)], key=lambda sample: sample.path)))
    return folds


def train_fold(data: Path, out: Path, config: TrainConfig, samples: tuple[Sample, ...]) -> Bundle:
    """Train and export one fold's run; finished stages are reused."""
    from skinedge.training.merge import merge
    from skinedge.training.train import train
    from skinedge_export.export import export
    from skinedge_export.target import export_targets, formats

    split_csv = out.with_name(f"{out.name}.split.csv")
    write_atomic(split_csv, write_split(samples))
    run = train(TrainRequest(data, out, replace(config, split=str(split_csv)), resume=True))
    check_split_of(run, samples)
    return export(merge(run, data), export_targets(formats(), precision="int8"), data=data)


def check_split_of(bundle: Bundle, samples: tuple[Sample, ...]) -> None:
    """Raise BundleError when the run was trained on another split than `samples`."""
    if write_split(read_split(bundle.file("split.csv"))) != write_split(samples):
        todo = "Choose another --out, or remove that run."
        raise BundleError("this run was trained on another split", where=str(bundle.root), todo=todo)


def predict_fold(bundle: Bundle, samples: tuple[Sample, ...]) -> Fold:
    """Return the predictions of PyTorch and of each int8 file on the fold's test images, at the uniform prior."""
    from skinedge.run.class_order import read_reference
    from skinedge_bench.split_images import Located
    from skinedge_bench.verify.verify import open_session, run_all

    manifest, reference = bundle.manifest, read_reference(bundle)
    if tuple(sample.image_id for sample in samples) != reference.ids:
        raise BundleError("reference.npz and split.csv list different test images", where=str(bundle.root))
    sessions = {name: open_session(bundle, name) for name in FILES}
    outputs = run_all(sessions, Located(Path(manifest.data_root), samples), manifest.preprocess)
    probabilities = {"fp32": metrics.softmax(reference.logits)}
    probabilities |= {name: outputs[name].probabilities for name in FILES}
    prior = tuple(manifest.class_prior[label] for label in manifest.labels)
    predicted = {
        name: Predictions(manifest.labels, reference.labels, p, None, None, prior).uniform.argmax(axis=1)
        for name, p in probabilities.items()
    }
    scores = {name: metrics.malignant_score(p, manifest.malignant) for name, p in probabilities.items()}
    return Fold(samples, reference.labels, predicted, scores, float(manifest.training["seconds"]))


def pooled_drops(folds: list[Fold], units: Units) -> list[Int8Drop]:
    """Return one `Int8Drop` per int8 file, over the images of all folds. units: of these images, in this order."""
    truth = np.concatenate([fold.truth for fold in folds])
    classes = {name: np.concatenate([fold.predicted[name] for fold in folds]) for name in ("fp32", *FILES)}
    scores = {name: np.concatenate([fold.scores[name] for fold in folds]) for name in ("fp32", *FILES)}
    changes = {name: mean_estimate(np.abs(scores[name] - scores["fp32"])) for name in FILES}
    return [int8_drop(name, truth, classes["fp32"], classes[name], changes[name], units) for name in FILES]


def int8_drop(
    name: str, truth: Indices, fp32: Indices, int8: Indices, score_change: Estimate, units: Units
) -> Int8Drop:
    """Compare the classes of one int8 file with those of fp32. truth, fp32, int8: (N,) int64."""
    fp32_right, int8_right = fp32 == truth, int8 == truth
    lost = fp32_right.astype(float) - int8_right
    drops = np.concatenate([resampled_drops(truth, lost, weights) for weights in image_weights(units, RESAMPLES, 0)])
    accuracies = [metrics.balanced_accuracy(truth, classes) for classes in (fp32, int8)]
    mcnemar = McNemar.of(fp32_right, int8_right)
    agreeing = int((fp32 == int8).sum())
    bound = float(np.quantile(drops, 0.05))
    return Int8Drop(
        file=name,
        n=len(truth),
        fp32=accuracies[0],
        int8=accuracies[1],
        fall=accuracies[0] - accuracies[1],
        interval=percentiles(drops),
        lower_bound=bound,
        agreement=agreeing / len(truth),
        agreement_interval=metrics.wilson(agreeing, len(truth)),
        only_fp32_right=mcnemar.only_reference,
        only_int8_right=mcnemar.only_file,
        mcnemar_p=mcnemar.p,
        score_change=score_change,
        reached=bound <= LIMIT,
    )


def resampled_drops(truth: Indices, lost: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the drop of balanced accuracy, (R,), under weights (R, N): the mean over the classes of each resample.

    lost: (N,) 1 where only fp32 is right, -1 where only int8 is right, else 0.
    """
    one_hot = np.eye(int(truth.max()) + 1)[truth]
    counts = weights @ one_hot
    drops = np.divide(weights @ (one_hot * lost[:, None]), counts, out=np.zeros_like(counts), where=counts > 0)
    return np.asarray(drops.sum(axis=1) / (counts > 0).sum(axis=1), dtype=np.float64)


def show(document: Mapping[str, Any], drops: list[Int8Drop]) -> None:
    """Print the table."""
    bootstrap = document["bootstrap"]
    rows = [
        (
            drop.file,
            f"{drop.fp32:.4f}",
            f"{drop.int8:.4f}",
            f"{100 * drop.fall:+.2f}",
            f"{100 * drop.interval[0]:+.2f} to {100 * drop.interval[1]:+.2f}",
            f"{100 * drop.lower_bound:+.2f}",
            f"{drop.agreement:.4f} ({drop.agreement_interval[0]:.4f} to {drop.agreement_interval[1]:.4f})",
            f"{drop.score_change.value:.4f} ({drop.score_change.low:.4f} to {drop.score_change.high:.4f})",
            f"{drop.only_fp32_right} / {drop.only_int8_right} (p {drop.mcnemar_p:.2f})",
            "reached" if drop.reached else "MISSED",
        )
        for drop in drops
    ]
    minutes = sum(document["training_seconds"]) / 60
    print(
        f"{drops[0].n} images, each held out in one of {document['folds']} folds by lesion; seed {document['seed']}, "
        f"trained {minutes:.1f} min; bootstrap over {bootstrap['units']} {bootstrap['unit']}s, "
        f"{bootstrap['resamples']} resamples"
    )
    columns = (
        "file",
        "fp32",
        "int8",
        "drop, points",
        "95 %",
        "bound",
        "agreement",
        "malignant score",
        "only fp32 / int8 right",
    )
    title = f"Balanced accuracy, uniform prior; target: one-sided 95 % lower bound <= {100 * LIMIT:.1f} points"
    table(title, (*columns, ""), rows)
