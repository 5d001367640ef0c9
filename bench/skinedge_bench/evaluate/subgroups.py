"""The figures by sex, age and body site, where the images' table tells them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from skinedge.data.dataset import Sample
from skinedge.stats import metrics
from skinedge_bench.evaluate.document import Predictions, flags_document

ATTRIBUTES = ("sex", "age", "site")
UNKNOWN = "unknown"
# Lower bound in years -> name of the age band.
AGES = {0: "<30", 30: "30-44", 45: "45-59", 60: "60-74", 75: ">=75"}
LEAST = 10  # images; a smaller group's figures would be noise, and could point at one person


def subgroups(said: Predictions, samples: Sequence[Sample]) -> dict[str, dict[str, dict[str, object]]]:
    """attribute -> value -> figures, for each attribute that is known of any image.

    samples: the N images, in the order of `said`. Age bands in order, else the largest group first; unknown last.
    """
    found: dict[str, dict[str, dict[str, object]]] = {}
    for attribute in ATTRIBUTES:
        values = [value_of(sample, attribute) for sample in samples]
        if any(value != UNKNOWN for value in values):
            found[attribute] = {
                value: _figures(said.where(np.array([v == value for v in values]))) for value in _ordered(values)
            }
    return found


def value_of(sample: Sample, attribute: str) -> str:
    """The group that an image is in: 'female', '45-59', 'back', ..., or 'unknown'."""
    value = sample.meta.get(attribute, "").strip().lower()
    return age_band(value) if attribute == "age" else value or UNKNOWN


def age_band(age: str) -> str:
    """The band of an age in years ('45.0'); 'unknown' for what is no age."""
    try:
        years = float(age)
    except ValueError:
        return UNKNOWN
    if not (math.isfinite(years) and years >= 0):
        return UNKNOWN
    return AGES[max(start for start in AGES if start <= years)]


def _ordered(values: Sequence[str]) -> list[str]:
    counts, bands = Counter(values), tuple(AGES.values())
    return sorted(counts, key=lambda v: (v == UNKNOWN, bands.index(v) if v in bands else len(bands), -counts[v], v))


def _figures(said: Predictions) -> dict[str, object]:
    """classes: how many of them occur; balanced accuracies over different classes do not compare."""
    n = len(said.truth)
    if n < LEAST:
        return {"n": n}
    return {
        "n": n,
        "classes": len(np.unique(said.truth)),
        "balanced_accuracy": metrics.balanced_accuracy(said.truth, said.uniform.argmax(axis=1)),
        **flags_document(said),
    }
