"""Metrics by source, sex, age, body site and skin tone, if the images' folders and tables have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

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
            groups = {
                value: _metrics(predictions.where(np.array([v == value for v in values])))
                for value in _ordered(values, attribute in TONE_SCALES)
            }
            document[attribute] = _with_gaps(groups, flags_document(predictions))
    return document


def _with_gaps(groups: dict[str, dict[str, object]], everyone: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Add `sensitivity_gap` where a group and all other images have LEAST malignant ones: [difference, low, high]."""
    for group in groups.values():
        counts = group.get("sensitivity_counts")
        if isinstance(counts, list) and counts[1] >= LEAST:
            hits, n = everyone["sensitivity_counts"]
            others = (hits - counts[0], n - counts[1])
            gap = metrics.share_difference((counts[0], others[0]), (counts[1], others[1]))
            group["sensitivity_gap"] = list(gap) if others[1] >= LEAST else None
    return groups


def worst_group(document: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Name the group with the largest gap in sensitivity to all other images, in a sentence; '' if none is below them.

    document: as `subgroups` returns it. Of many groups one is low by chance too: the interval does not allow for that.
    """
    below = [
        (group["sensitivity_gap"], attribute, value, group["sensitivity_counts"])
        for attribute, groups in document.items()
        for value, group in groups.items()
        if value != UNKNOWN and group.get("sensitivity_gap") and group["sensitivity_gap"][0] < 0
    ]
    if not below:
        return ""
    (gap, low, high), attribute, value, (hits, n) = min(below, key=lambda row: row[0][0])
    return (
        f"Fewest malignant images are flagged in the group {attribute} {value}: {hits} of {n}, {-100 * gap:.1f} points "
        f"fewer than in all others (95 %: {100 * low:+.1f} to {100 * high:+.1f})."
    )


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
