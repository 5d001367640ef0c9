"""Metrics by source, sex, age, body site and skin tone, if the images' folders and tables have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from skinedge.data.columns import TONE_SCALES
from skinedge.data.dataset import Sample
from skinedge.stats import metrics
from skinedge_bench.evaluate.document import Predictions, flags_document

ATTRIBUTES = ("source", "sex", "age", "site", *TONE_SCALES)
UNKNOWN = "unknown"
# Lower bound in years -> name of the age band.
AGES = {0: "<30", 30: "30-44", 45: "45-59", 60: "60-74", 75: ">=75"}
LEAST = 10  # images; metrics of a smaller group would be noise, and could identify a person


def subgroups(predictions: Predictions, samples: Sequence[Sample]) -> dict[str, dict[str, dict[str, object]]]:
    """attribute -> value -> metrics, for each attribute that is known for any image.

    samples: the N images, in the order of `predictions`. Age bands and grades of skin tone are in order, other groups
    largest first, unknown last.
    """
    document: dict[str, dict[str, dict[str, object]]] = {}
    for attribute in ATTRIBUTES:
        values = [value_of(sample, attribute) for sample in samples]
        if any(value != UNKNOWN for value in values):
            document[attribute] = {
                value: _metrics(predictions.where(np.array([v == value for v in values])))
                for value in _ordered(values, attribute in TONE_SCALES)
            }
    return document


def value_of(sample: Sample, attribute: str) -> str:
    """Return the group of an image: 'female', '45-59', 'back', ..., or 'unknown'."""
    value = sample.meta.get(attribute, "").strip().lower()
    return age_band(value) if attribute == "age" else value or UNKNOWN


def age_band(age: str) -> str:
    """Return the band of an age in years ('45.0'); 'unknown' if it is not an age."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    if not (math.isfinite(years) and years >= 0):
        return UNKNOWN
    return AGES[max(start for start in AGES if start <= years)]


def _ordered(values: Sequence[str], graded: bool) -> list[str]:
    counts, bands = Counter(values), tuple(AGES.values())
    if graded:
        return sorted(counts, key=lambda v: (v == UNKNOWN, int(v) if v.isdecimal() else 0, v))
    return sorted(counts, key=lambda v: (v == UNKNOWN, bands.index(v) if v in bands else len(bands), -counts[v], v))


def _metrics(predictions: Predictions) -> dict[str, object]:
    """classes: number that occur, since balanced accuracies over different classes are not comparable."""
    n = len(predictions.truth)
    if n < LEAST:
        return {"n": n}
    return {
        "n": n,
        "classes": len(np.unique(predictions.truth)),
        "balanced_accuracy": metrics.balanced_accuracy(predictions.truth, predictions.uniform.argmax(axis=1)),
        **flags_document(predictions),
    }
