"""Folders that tell benign and malignant only, judged by the malignant score of a model with other classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from skinedge.data.dataset import Dataset
from skinedge.system.progress import note
from skinedge_bench.evaluate.document import Predictions

KINDS = ("benign", "malignant")
_SPELLINGS = {
    "benign": "benign",
    "benign lesions": "benign",
    "malignant": "malignant",
    "malignant lesions": "malignant",
    "premalignant": "malignant",
}


def by_kind(dataset: Dataset, labels: Sequence[str], malignant: Sequence[int] | None) -> Dataset | None:
    """Return the dataset with the labels `KINDS`; None if its classes can be compared with the model's.

    A folder is judged so if all of its classes are named benign or malignant, or if its map gives every one of them
    several classes of the model, all benign or all malignant.
    labels, malignant: of the model; indices of the malignant and premalignant classes, None if unknown.
    """
    if malignant is None or (len(dataset.labels) > 1 and set(dataset.labels) <= set(labels)):
        return None
    kinds = {name: _SPELLINGS.get(name.casefold(), "") for name in dataset.labels if name not in labels}
    kinds |= {name: KINDS[labels.index(name) in malignant] for name in dataset.labels if name in labels}
    for name, classes in dataset.partial.items():
        own = {KINDS[labels.index(one) in malignant] if one in labels else "" for one in classes}
        kinds[name] = own.pop() if len(own) == 1 else ""
    if not all(kinds.values()) or len(set(kinds.values())) < 2:
        return None
    note("the folder tells benign and malignant only: judged by the malignant score, not by class")
    samples = tuple(replace(sample, label=kinds[sample.label]) for sample in dataset.samples)
    return replace(dataset, labels=KINDS, samples=samples, partial={})


def collapse(predictions: Predictions) -> Predictions:
    """Return two-class predictions, for `truth` (N,) of indices of `KINDS`: 1 - score and the malignant score."""
    malignant = list(predictions.malignant or ())

    def both(prior: tuple[float, ...] | None) -> tuple[float, ...] | None:
        share = sum(prior[i] for i in malignant) if prior else None
        return None if share is None else (1 - share, share)

    score = predictions.score
    probabilities = np.stack([1 - score, score], axis=1).astype(np.float32)
    return replace(
        predictions,
        labels=KINDS,
        probabilities=probabilities,
        malignant=(1,),
        prior=both(predictions.prior),
        training=both(predictions.training),
    )
