"""Whether an emulated core said what this machine says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SOFTMAX = 1e-6  # what the float softmax at the end of an int8 .tflite may differ by
MARGIN = 0.1  # between the two likeliest classes: within it, ONNX Runtime's int8 may decide otherwise on another CPU
FIGURES = 1e-6


@dataclass(frozen=True)
class Result:
    """text: for the table; good: whether it is as it must be."""

    text: str
    good: bool


def same_answers(name: str, here: np.ndarray, there: np.ndarray) -> Result:
    """Probabilities (N, C) of one file. A .tflite must give the same, an .onnx decide the same where it is clear.

    ONNX Runtime computes int8 by other instructions on other CPUs, with other intermediate sums.
    """
    difference = float(np.abs(here - there).max())
    same = here.argmax(axis=1) == there.argmax(axis=1)
    if name.endswith(".tflite"):
        text = "identical" if difference == 0 else f"{same.sum()} of {len(same)} decisions, within {difference:.0e}"
        return Result(text, bool(same.all()) and difference <= SOFTMAX)
    best = np.sort(here, axis=1)[:, -2:]
    clear = best[:, 1] - best[:, 0] > MARGIN
    return Result(f"{same.sum()} of {len(same)} decisions, within {difference:.2f}", bool(same[clear].all()))


def same_predictions(here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]) -> Result:
    """The documents of `predict`, image by image."""
    pairs = list(zip(here, there, strict=True))
    same = all(a["label"] == b["label"] and a["model_sha256"] == b["model_sha256"] for a, b in pairs)
    differences = [abs(a["malignant_probability"] - b["malignant_probability"]) for a, b in pairs]
    return Result(f"{len(pairs)} images as here", same and bool(pairs) and max(differences) <= FIGURES)


def same_evaluation(here: Mapping[str, Any], there: Mapping[str, Any]) -> Result:
    """The documents of `evaluate`: the same confusion matrix, the same accuracy."""
    same = here["confusion"] == there["confusion"] and here["n"] == there["n"] > 0
    close = abs(here["balanced_accuracy"] - there["balanced_accuracy"]) <= FIGURES
    return Result(f"{there['n']} images as here", same and close)


def untimed(document: Mapping[str, Any]) -> Result:
    """The document of `bench`: it knows that it is emulated, and has rows without a single time."""
    times = [row[name] for row in document["rows"] for name in row if name.endswith("_ms")]
    good = bool(document["device"]["emulated"]) and bool(times) and not any(times)
    return Result("refuses to time" if good else "TIMED", good)
