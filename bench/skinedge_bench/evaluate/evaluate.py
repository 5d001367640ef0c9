"""`skinedge evaluate`: metrics of a model on labelled images, and whether it was trained on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, DataError
from skinedge.data.loading import Source
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.stats.bootstrap import Interval
from skinedge.system.progress import bar
from skinedge_bench.evaluate import document
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.intervals import Intervals, intervals_of, units_of
from skinedge_bench.evaluate.kinds import KINDS, collapse
from skinedge_bench.evaluate.selection import Selection, select
from skinedge_bench.evaluate.subgroups import subgroups, worst_group
from skinedge_bench.evaluate.summary import Summary
from skinedge_bench.loaded_model import LoadedModel
from skinedge_bench.predict.resumable import Work, predictions

UNFINISHED = "unfinished.jsonl"  # in the folder of --out, until the evaluation is written
Prior = tuple[float, ...] | None


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one model file.

    file: its name; synthetic: whether the model was trained on synthetic images; runtime: that ran the model, '' if
    stored predictions were used.
    """

    file: str
    synthetic: bool
    predictions: Predictions
    selection: Selection
    runtime: str = ""

    @cached_property
    def intervals(self) -> Intervals:
        """Bootstrap intervals of the metrics, with a fixed seed."""
        return intervals_of(self.predictions, units_of(self.selection.samples))

    @property
    def summary(self) -> Summary:
        """The evaluation in sentences."""
        predictions = self.predictions
        answers = predictions.truth, predictions.predicted  # the file's own, as in the confusion table and in `verify`
        return Summary(
            f"{len(predictions.truth):,} images (split: {self.selection.split})",
            metrics.accuracy(*answers),
            metrics.balanced_accuracy(*answers),
            predictions.threshold,
            document.flagged_document(predictions),
            [predictions.labels[i] for i in predictions.malignant or ()],
            worst_group(self.subgroups),
        )

    @cached_property
    def subgroups(self) -> dict[str, dict[str, dict[str, object]]]:
        """Metrics by attribute and value (`subgroups.subgroups`)."""
        return subgroups(self.predictions, self.selection.samples)

    @cached_property
    def document(self) -> dict[str, object]:
        """The evaluation as JSON; undefined metrics are NaN (null once printed)."""
        predictions, intervals = self.predictions, self.intervals
        units = intervals.units
        return {
            "n": len(predictions.truth),
            "classes": list(predictions.labels),
            "absent_classes": list(predictions.absent),
            "file": self.file,
            "runtime": self.runtime,
            "synthetic": self.synthetic,
            "split": self.selection.split,
            "summary": self.summary.sentences(),
            "seen": self.selection.seen,
            "contaminated": self.selection.trained_on,
            **document.priors_document(predictions),
            **document.overall_document(predictions),
            **document.reliability_document(predictions),
            **document.roc_document(predictions),
            "per_class": _with_intervals(document.per_class_document(predictions), intervals),
            "malignant": document.malignant_document(predictions),
            "decisions": document.decisions_document(predictions),
            "intervals": dict(intervals.overall),
            "bootstrap": {
                "unit": units.name,
                "units": units.count,
                "resamples": intervals.resamples,
                "seed": intervals.seed,
                "level": 0.95,
            },
            "subgroups": self.subgroups,
            "confusion": metrics.confusion(predictions.truth, predictions.predicted, len(predictions.labels)).tolist(),
        }


def evaluate(
    model: LoadedModel,
    data: Path | None,
    bundle: Bundle | None,
    *,
    split: str | None = None,
    allow_train: bool = False,
    work: Work = Work(),  # noqa: B008  frozen
    reading: ReadOptions = DEFAULT,
) -> Evaluation:
    """Run the model on the images of `data` (default: the run's data root) and compare predictions with labels.

    reading: how to read the folder, by default as recorded in the run.
    Raises: DataError for unknown classes, unreadable images, no images, or images or lesions that the model was trained
    on (unless allow_train); ConfigError for an unknown split or a multi-label model; the errors of `predictions`.
    """
    if not model.exclusive:
        what = "its classes do not exclude each other (multi-label); accuracy and AUC of one true class are undefined"
        raise ConfigError(what, where=str(model.path), todo="See its scores with: skinedge predict IMAGES --run FILE")
    selection = select(model, data, bundle, split, reading)
    if selection.trained_on and not allow_train:
        share = f"{selection.trained_on} of these {len(selection.samples)} images"
        raise DataError(
            f"the model was trained on {share}, or on their lesions",
            where=str(selection.root),
            todo="Choose another --split, or add --allow-train, which marks the result as contaminated.",
        )
    labels = KINDS if selection.by_kind else model.labels
    truth = np.array([labels.index(sample.label) for sample in selection.samples], dtype=np.int64)
    probabilities = run_on(model, selection, work)
    own, training = priors_of(model, bundle)
    judged = Predictions(model.labels, truth, probabilities, model.malignant, model.threshold, own, training)
    judged = collapse(judged) if selection.by_kind else judged
    return Evaluation(model.name, model.synthetic, judged, selection, model.runtime)


def priors_of(model: LoadedModel, bundle: Bundle | None) -> tuple[Prior, Prior]:
    """Return the class prior that the probabilities assume, and the class shares of the training images, (C,) each.

    Without its run, a file gives the first only; a third-party file gives neither; None if unknown.
    Raises: DataError if a share is missing or not positive, or the shares do not sum to 1.
    """
    if bundle is not None:
        training = bundle.manifest.training["data"]["training_prior"]
        return _shares(bundle.manifest.class_prior, model), _shares(training, model)
    if KEY in model.session.metadata:
        own = ModelDescription.from_json(model.session.metadata[KEY], str(model.path))
        return _shares(own.class_prior, model), None
    return None, None


def _shares(prior: Mapping[str, float], model: LoadedModel) -> tuple[float, ...]:
    shares = tuple(prior.get(label, 0.0) for label in model.labels)
    if not (all(share > 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)):
        what = f"the class prior {dict(prior)} does not give each of {', '.join(model.labels)} its share of 1"
        raise DataError(what, where=str(model.path), todo="Make the file again: skinedge export RUN --force")
    return shares


def run_on(model: LoadedModel, selection: Selection, work: Work) -> NDArray[np.float32]:
    """Return (N, C) float32 probabilities of the selected images; raise DataError at the first unreadable image."""
    total = len(selection.samples)
    probabilities = np.empty((total, len(model.labels)), dtype=np.float32)
    sources = (Source.of(selection.root, sample) for sample in selection.samples)
    with bar("evaluating", total) as advance, closing(predictions(model, sources, total, work)) as results:
        for row, prediction in zip(probabilities, results, strict=True):
            if prediction.error is not None:
                raise prediction.error
            row[:] = prediction.probabilities
            advance(1)
    return probabilities


def _with_intervals(rows: dict[str, dict[str, object]], intervals: Intervals) -> dict[str, dict[str, object]]:
    for_class: dict[str, dict[str, Interval]] = {
        label: {name: values[i] for name, values in intervals.per_class.items()} for i, label in enumerate(rows)
    }
    return {label: {**row, "intervals": for_class[label]} for label, row in rows.items()}
