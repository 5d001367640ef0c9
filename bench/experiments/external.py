"""Train on each of two sources and on both, and judge each model on held-out images: `make target ROW=external`.

One split of both sources serves all trainings, so that every model is judged on the same images. A model of one source
has never seen the other (leave one source out).
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skinedge.cli.common import figure, table
from skinedge.core import json_io
from skinedge.core.errors import DataError
from skinedge.core.files import write_atomic
from skinedge.data.dataset import Sample, read_split, write_split
from skinedge.data.hashing import hash_images
from skinedge.data.read_options import ReadOptions
from skinedge.data.readers import read
from skinedge.data.sources.folders import several
from skinedge.data.sources.label_map import LabelMap, read_map
from skinedge.data.split import split
from skinedge.run.config import TrainConfig
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge.training.job import TrainRequest
from skinedge.training.merge import merge
from skinedge.training.train import train
from skinedge_bench.evaluate.evaluate import evaluate
from skinedge_bench.loaded_model import open_listed
from skinedge_export.export import export
from skinedge_export.target import export_targets

FILE = "model.int8.tflite"
TARGETS = {"malignant_auc": 0.82, "macro_auc": 0.88}  # on the held-out images of the second source
COLUMNS = ("trained on", "judged on", "images", "malignant AUC", "mean AUC", "balanced acc.", "melanomas flagged")


@dataclass(frozen=True)
class Judged:
    """One model on the held-out images of one source. document: as `evaluate --json` prints it."""

    trained_on: str
    judged_on: str
    document: Mapping[str, Any]

    def row(self) -> tuple[str, ...]:
        """Return the row of the table."""
        malignant, per_class = self.document["malignant"], self.document["per_class"]
        hits, melanomas = per_class["mel"]["flagged"]
        return (
            self.trained_on,
            self.judged_on,
            str(self.document["n"]),
            self._interval(malignant["auc"], "malignant_auc"),
            self._interval(self.document["macro_auc"], "macro_auc"),
            self._interval(self.document["balanced_accuracy"], "balanced_accuracy"),
            f"{hits} of {melanomas}",
        )

    def _interval(self, value: float, name: str) -> str:
        low, high = (figure(bound) for bound in self.document["intervals"][name])
        return f"{figure(value)} ({low} to {high})"


def measure(data: Sequence[Path], map_file: Path, config: TrainConfig, out: Path) -> int:
    """Train, judge and print. Returns 1 when the model of both sources misses a target on the second one.

    data: folders of the two sources; map_file: of the second; out: folder of the three runs.
    """
    second = data[1].absolute().name
    root, options = several(data, {second: ReadOptions(label_map=read_map(map_file))})
    samples = joint_split(root, options, out / "split.csv", config.seed)
    names = [source.name for source in options.sources]
    held_out = {name: link_test(root, samples, name, out / "held-out" / name) for name in names}
    judged = []
    for trained_on in (names[:1], names[1:], names):
        bundle = train_on(root, options, trained_on, samples, config, out)
        for name in names:
            reading = ReadOptions(label_map=LabelMap(stretch=stretch_of(samples, name)))
            model = open_listed(bundle, FILE)
            document = evaluate(model, held_out[name], bundle, split="all", reading=reading).document
            judged.append(Judged(" + ".join(trained_on), name, document))
    write_atomic(out / "external.json", json_io.to_text({"rows": [vars(one) for one in judged]}))
    settings = f"{config.image_size} px, {config.epochs} epochs, seed {config.seed}"
    table(f"{FILE} on held-out images; {settings}; 95 % by lesion", COLUMNS, [one.row() for one in judged])
    return targets_missed(judged[-1])


def joint_split(root: Path, options: ReadOptions, file: Path, seed: int) -> tuple[Sample, ...]:
    """Split both sources once, and keep it in `file`."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, write_split(split(hash_images(read(root, options)), seed)))
    return read_split(file)


def train_on(
    root: Path, options: ReadOptions, names: Sequence[str], samples: Sequence[Sample], config: TrainConfig, out: Path
) -> Bundle:
    """Train on the images of these sources with their part of the joint split, and export the int8 file."""
    run = out / "-".join(names)
    own = tuple(sample for sample in samples if sample.source in names)
    split_file = out / f"{run.name}.split.csv"
    write_atomic(split_file, write_split(own))
    chosen = replace(options, sources=tuple(source for source in options.sources if source.name in names))
    request = TrainRequest(root, run, replace(config, split=str(split_file)), resume=True, reading=chosen)
    with contextlib.redirect_stdout(sys.stderr):  # standard output holds the table
        return export(merge(train(request), root), export_targets(["tflite"], int8=True), data=root)


def link_test(root: Path, samples: Sequence[Sample], source: str, folder: Path) -> Path:
    """Make class folders with links to the test images of a source; returns `folder`."""
    chosen = [sample for sample in samples if sample.source == source and sample.split == "test"]
    for sample in chosen:
        link = folder / sample.label / Path(sample.path).name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to((root / sample.path).resolve())
    if not chosen:
        raise DataError(f"no test image of {source}", where=str(folder))
    note(f"{source}: {len(chosen)} held-out images")
    return folder


def stretch_of(samples: Sequence[Sample], source: str) -> tuple[int, ...]:
    """Return the size that images of a source are stretched to, () for none."""
    size = next(sample.stretch for sample in samples if sample.source == source)
    return tuple(map(int, size.split("x"))) if size else ()


def targets_missed(joint: Judged) -> int:
    """Print whether the model of both sources reaches the targets on the second source; returns 1 if not."""
    values = {"malignant_auc": joint.document["malignant"]["auc"], "macro_auc": joint.document["macro_auc"]}
    for name, least in TARGETS.items():
        verdict = "reached" if values[name] >= least else "MISSED"
        print(f"target: {name.replace('_', ' ')} on {joint.judged_on} >= {least}: {values[name]:.3f}, {verdict}")
    return int(any(values[name] < least for name, least in TARGETS.items()))
