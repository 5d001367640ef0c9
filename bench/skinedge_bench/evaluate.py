"""`skinedge evaluate`: how well a model does on a labelled folder, and whether it has seen it before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge import metrics
from skinedge.bundle import Bundle
from skinedge.data.prepared import prepared
from skinedge.errors import DataError
from skinedge.progress import bar
from skinedge_bench import figures
from skinedge_bench.figures import Predictions
from skinedge_bench.intervals import Interval, Intervals, bootstrap, units_of
from skinedge_bench.model import LoadedModel
from skinedge_bench.selection import Selection, select
from skinedge_bench.subgroups import subgroups


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` reports of one file.

    file: its name; synthetic: whether the model was trained on drawings; prior: (C,), the class shares that its
    probabilities assume, None where no run tells.
    """

    file: str
    synthetic: bool
    said: Predictions
    selection: Selection
    prior: tuple[float, ...] | None

    @cached_property
    def intervals(self) -> Intervals:
        """Bootstrap intervals of the figures; the same every time."""
        return bootstrap(self.said, units_of(self.selection.samples))

    @cached_property
    def document(self) -> dict[str, object]:
        """The JSON form; undefined figures are NaN (null once printed)."""
        said, intervals = self.said, self.intervals
        units = intervals.units
        return {
            "n": len(said.truth),
            "classes": list(said.labels),
            "file": self.file,
            "synthetic": self.synthetic,
            "split": self.selection.split,
            "seen": self.selection.seen,
            "contaminated": self.selection.trained_on,
            **figures.overall_document(said),
            **figures.reliability_document(said, self.prior),
            "per_class": _with_intervals(figures.per_class_document(said), intervals),
            "malignant": figures.malignant_document(said),
            "intervals": dict(intervals.overall),
            "bootstrap": {
                "unit": units.name,
                "units": units.count,
                "resamples": intervals.resamples,
                "seed": intervals.seed,
                "level": 0.95,
            },
            "subgroups": subgroups(said, self.selection.samples),
            "confusion": metrics.confusion(said.truth, said.predicted, len(said.labels)).tolist(),
        }


def evaluate(
    model: LoadedModel, data: Path | None, bundle: Bundle | None, *, split: str | None = None, allow_train: bool = False
) -> Evaluation:
    """Judge the images of `data` (default: where the run's own images are) and compare with their labels.

    Raises: DataError for unknown classes, unreadable images, nothing to judge, or images or lesions that
    the model was trained on (unless allow_train); ConfigError for an unknown split.
    """
    selection = select(model, data, bundle, split)
    if selection.trained_on and not allow_train:
        share = f"{selection.trained_on} of these {len(selection.samples)} images"
        raise DataError(
            f"the model was trained on {share}, or on their lesions",
            where=str(selection.root),
            todo="Choose another --split, or add --allow-train, which marks the result as contaminated.",
        )
    truth = np.array([model.labels.index(sample.label) for sample in selection.samples], dtype=np.int64)
    probabilities = run_on(model, selection)
    if not np.isfinite(probabilities).all():
        raise DataError("the model gave no numbers (NaN or infinite) for some images", where=str(model.path))
    said = Predictions(model.labels, truth, probabilities, model.malignant, model.threshold)
    prior = None if bundle is None else tuple(bundle.manifest.class_prior[label] for label in model.labels)
    return Evaluation(model.name, model.synthetic, said, selection, prior)


def run_on(model: LoadedModel, selection: Selection) -> NDArray[np.float32]:
    """(N, C) float32 probabilities of the selected images."""
    rows = []
    with bar("evaluating", len(selection.samples)) as advance:
        for pixels in prepared(selection.root, selection.samples, model.size):
            rows.append(model.run(pixels).probabilities)
            advance(len(pixels))
    return np.concatenate(rows)


def _with_intervals(rows: dict[str, dict[str, object]], found: Intervals) -> dict[str, dict[str, object]]:
    for_class: dict[str, dict[str, Interval]] = {
        label: {name: values[i] for name, values in found.per_class.items()} for i, label in enumerate(rows)
    }
    return {label: {**row, "intervals": for_class[label]} for label, row in rows.items()}
