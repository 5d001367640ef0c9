"""What int8 costs in balanced accuracy, on the predictions of every image by a network that did not see its lesion.

K folds by lesion; each is held out once as the test split of a run of its own, whose int8 files and whose reference
(PyTorch, fp32) judge it. Pooled over the folds, every image counts once: many more than any one test split has, which
is what an interval of a few tenths of a point needs.
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
LIMIT = 0.003  # balanced accuracy: the target for the lower bound of the fall
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """What was said of one fold's held-out images.

    truth, and of each file (and 'fp32') the class: (N,) int64; scores: of each the malignant score, (N,) float64.
    """

    samples: tuple[Sample, ...]
    truth: Indices
    predicted: Mapping[str, Indices]
    scores: Mapping[str, NDArray[np.float64]]
    training_seconds: float


@dataclass(frozen=True)
class Fall:
    """One int8 file against fp32, pooled. Balanced accuracy and its fall: 0..1, positive is a loss.

    interval: two-sided 95 %, lower_bound: one-sided 95 %, both by paired bootstrap over lesions; agreement with
    Wilson's 95 % interval; only_fp32_right, only_int8_right: McNemar's counts, with the exact two-sided p;
    score_change: mean |difference| of the malignant score, with its 95 % interval.
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
    """Train what is not trained yet, judge, print the table, and write `out`/folds.json.

    Raises: DataError, ConfigError; BundleError when a finished fold has another split or other settings; GateError
    when a fold's file fails its gate: leaving that fold out would make the rest look better.
    """
    settings = load_config(config)
    dataset = hash_images(read(data))
    out.mkdir(parents=True, exist_ok=True)
    done = []
    for number, samples in enumerate(splits(dataset, count, seed)):
        note(f"fold {number + 1} of {count}")
        place = out / f"fold{number}-of-{count}"
        run = trained(data, place, replace(settings, seed=seed), samples)
        done.append(judged(run, tuple(sample for sample in samples if sample.split == "test")))
    units = units_of([sample for fold in done for sample in fold.samples])
    falls = pooled(done, units)
    document = {
        "schema": "skinedge.folds/1",
        "data": str(data),
        "folds": count,
        "seed": seed,
        "config": settings.to_dict(),
        "training_seconds": [fold.training_seconds for fold in done],
        "bootstrap": {"unit": units.name, "units": units.count, "resamples": RESAMPLES, "seed": 0},
        "limit": LIMIT,
        "files": [asdict(fall) for fall in falls],
    }
    write_atomic(out / "folds.json", json_io.to_text(document))
    show(document, falls)


def splits(dataset: Dataset, count: int, seed: int) -> list[tuple[Sample, ...]]:
    """One split for each fold: test is the fold, the rest is divided as `skinedge train` does; whole lesions.

    dataset: hashed. Raises: ConfigError for fewer than two folds; DataError for a class with too few lesions.
    """
    if count < 2:
        raise ConfigError(f"{count} folds: it takes at least 2")
    whole = tuple(replace(sample, split="") for sample in dataset.samples)
    rest, held = whole, []
    for left in range(count, 1, -1):
        parts = split(replace(dataset, samples=rest), seed, {"test": 1 / left, "train": 1 - 1 / left})
        held.append(tuple(sample for sample in parts if sample.split == "test"))
        rest = tuple(replace(sample, split="") for sample in parts if sample.split == "train")
    held.append(tuple(replace(sample, split="test") for sample in rest))
    inner = {name: share for name, share in FRACTIONS.items() if name != "test"}
    done = []
    for fold in held:
        mine = {sample.path for sample in fold}
        others = replace(dataset, samples=tuple(sample for sample in whole if sample.path not in mine))
        done.append(tuple(sorted([*fold, *split(others, seed, inner)], key=lambda sample: sample.path)))
    return done


def trained(data: Path, out: Path, config: TrainConfig, samples: tuple[Sample, ...]) -> Bundle:
    """The run of one fold with its files; what is finished of it is kept."""
    from skinedge.training.merge import merge
    from skinedge.training.train import train
    from skinedge_export.export import export
    from skinedge_export.target import export_targets, formats

    place = out.with_name(f"{out.name}.split.csv")
    write_atomic(place, write_split(samples))
    run = train(TrainRequest(data, out, replace(config, split=str(place)), resume=True))
    check_split_of(run, samples)
    return export(merge(run, data), export_targets(formats(), precision="int8"), data=data)


def check_split_of(bundle: Bundle, samples: tuple[Sample, ...]) -> None:
    """Raises: BundleError when the run was trained on another split than `samples`."""
    if write_split(read_split(bundle.file("split.csv"))) != write_split(samples):
        todo = "Choose another --out, or remove that run."
        raise BundleError("this run was trained on another split", where=str(bundle.root), todo=todo)


def judged(bundle: Bundle, samples: tuple[Sample, ...]) -> Fold:
    """What PyTorch and each int8 file say of the fold's test images, at the uniform prior."""
    from skinedge.run.class_order import read_reference
    from skinedge_bench.verify.verify import open_session, run_all

    manifest, reference = bundle.manifest, read_reference(bundle)
    if tuple(sample.image_id for sample in samples) != reference.ids:
        raise BundleError("reference.npz and split.csv list different test images", where=str(bundle.root))
    sessions = {name: open_session(bundle, name) for name in FILES}
    outputs = run_all(sessions, Path(manifest.data_root), samples, manifest.preprocess.size)
    said = {"fp32": metrics.softmax(reference.logits), **{name: outputs[name].probabilities for name in FILES}}
    prior = tuple(manifest.class_prior[label] for label in manifest.labels)
    predicted = {
        name: Predictions(manifest.labels, reference.labels, p, None, None, prior).uniform.argmax(axis=1)
        for name, p in said.items()
    }
    scores = {name: metrics.malignant_score(p, manifest.malignant) for name, p in said.items()}
    return Fold(samples, reference.labels, predicted, scores, float(manifest.training["seconds"]))


def pooled(done: list[Fold], units: Units) -> list[Fall]:
    """One `Fall` for each int8 file, over the images of all folds. units: of these images, in the same order."""
    truth = np.concatenate([fold.truth for fold in done])
    said = {name: np.concatenate([fold.predicted[name] for fold in done]) for name in ("fp32", *FILES)}
    scores = {name: np.concatenate([fold.scores[name] for fold in done]) for name in ("fp32", *FILES)}
    return [
        fall_of(name, truth, said["fp32"], said[name], mean_estimate(np.abs(scores[name] - scores["fp32"])), units)
        for name in FILES
    ]


def fall_of(name: str, truth: Indices, before: Indices, after: Indices, score_change: Estimate, units: Units) -> Fall:
    """truth, before (fp32), after (int8): (N,) int64."""
    right, still = before == truth, after == truth
    chunks = image_weights(units, RESAMPLES, 0)
    falls = np.concatenate([resampled_fall(truth, right.astype(float) - still, weights) for weights in chunks])
    balanced = [metrics.balanced_accuracy(truth, said) for said in (before, after)]
    changed = McNemar.of(right, still)
    agree = int((before == after).sum())
    bound = float(np.quantile(falls, 0.05))
    return Fall(
        file=name,
        n=len(truth),
        fp32=balanced[0],
        int8=balanced[1],
        fall=balanced[0] - balanced[1],
        interval=percentiles(falls),
        lower_bound=bound,
        agreement=agree / len(truth),
        agreement_interval=metrics.wilson(agree, len(truth)),
        only_fp32_right=changed.only_reference,
        only_int8_right=changed.only_file,
        mcnemar_p=changed.p,
        score_change=score_change,
        reached=bound <= LIMIT,
    )


def resampled_fall(truth: Indices, lost: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) fall of balanced accuracy under weights (R, N). lost: (N,) 1 lost, -1 gained, 0 as before.

    The mean over the classes that a resample has.
    """
    of_class = np.eye(int(truth.max()) + 1)[truth]
    counts = weights @ of_class
    falls = np.divide(weights @ (of_class * lost[:, None]), counts, out=np.zeros_like(counts), where=counts > 0)
    return np.asarray(falls.sum(axis=1) / (counts > 0).sum(axis=1), dtype=np.float64)


def show(document: Mapping[str, Any], falls: list[Fall]) -> None:
    """The table, for people."""
    drawn = document["bootstrap"]
    rows = [
        (
            fall.file,
            f"{fall.fp32:.4f}",
            f"{fall.int8:.4f}",
            f"{100 * fall.fall:+.2f}",
            f"{100 * fall.interval[0]:+.2f} to {100 * fall.interval[1]:+.2f}",
            f"{100 * fall.lower_bound:+.2f}",
            f"{fall.agreement:.4f} ({fall.agreement_interval[0]:.4f} to {fall.agreement_interval[1]:.4f})",
            f"{fall.score_change.value:.4f} ({fall.score_change.low:.4f} to {fall.score_change.high:.4f})",
            f"{fall.only_fp32_right} / {fall.only_int8_right} (p {fall.mcnemar_p:.2f})",
            "reached" if fall.reached else "MISSED",
        )
        for fall in falls
    ]
    minutes = sum(document["training_seconds"]) / 60
    print(
        f"{falls[0].n} images, each held out in one of {document['folds']} folds by lesion; seed {document['seed']}, "
        f"trained {minutes:.1f} min; bootstrap over {drawn['units']} {drawn['unit']}s, {drawn['resamples']} resamples"
    )
    columns = (
        "file",
        "fp32",
        "int8",
        "fall, points",
        "95 %",
        "bound",
        "agreement",
        "malignant score",
        "only fp32 / int8 right",
    )
    title = f"Balanced accuracy, uniform prior; target: one-sided 95 % lower bound <= {100 * LIMIT:.1f} points"
    table(title, (*columns, ""), rows)
