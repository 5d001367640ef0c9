"""Predictions as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from skinedge.data.csv_cells import to_cell
from skinedge_bench.predict.predict import Prediction

COLUMNS = ("image", "label", "probability", "malignant_probability", "threshold", "flagged", "error")


def to_csv(predictions: Iterable[Prediction], labels: Sequence[str]) -> str:
    """Return a row for each image, with a column for the probability of each class; formulas are escaped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *(to_cell(f"p_{label}") for label in labels)])
    writer.writerows(_cells(prediction, labels) for prediction in predictions)
    return text.getvalue()


def _cells(prediction: Prediction, labels: Sequence[str]) -> list[str]:
    """Return the cells of one image; unknown values are empty."""
    row = prediction.probabilities
    flagged = {True: "yes", False: "no", None: ""}[prediction.flagged]
    values = [None if row is None else float(row.max()), prediction.malignant_probability, prediction.threshold]
    return [
        to_cell(prediction.image),
        to_cell(prediction.label or ""),
        *("" if value is None else repr(float(value)) for value in values),
        flagged,
        to_cell(prediction.error.what if prediction.error else ""),
        *(["" for _ in labels] if row is None else [repr(float(p)) for p in row]),
    ]
