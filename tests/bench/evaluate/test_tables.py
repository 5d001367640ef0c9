"""Each cell of the tables is the document's value, under the right heading; the page has the same tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.data.dataset import Sample
from skinedge.stats import metrics
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.evaluate import Evaluation
from skinedge_bench.evaluate.selection import Selection
from skinedge_bench.evaluate.tables import Table, decision_tables, markdown, tables

LABELS = ("mel", "nv", "a|b")  # the last has no image


@pytest.fixture(scope="module")
def result() -> Evaluation:
    rng = np.random.default_rng(6)
    truth = rng.choice(2, 90)
    probabilities = metrics.softmax(rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[truth])
    samples = tuple(
        Sample(f"{i}", f"{i}.jpg", LABELS[t], f"L{i // 2}", meta={"sex": "female" if i % 15 else "male"})
        for i, t in enumerate(truth)
    )
    predictions = Predictions(LABELS, truth, probabilities, (0,), 0.5, (0.2, 0.5, 0.3), (0.6, 0.3, 0.1))
    return Evaluation("model.int8.onnx", True, predictions, Selection(Path(), samples, "test", {"train": 7}))


def cells(table: Table) -> dict[str, dict[str, Any]]:
    """First cell of a row -> heading -> cell."""
    assert all(len(row) == len(table.columns) for row in table.rows)
    return {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_cells_are_the_documents_values(result: Evaluation) -> None:
    document: Mapping[str, Any] = result.document
    classes, confusion, overall, sex = tables(document)
    assert classes.title == "90 images, split test (uniform prior)" and sex.title == "By sex"
    for label, row in document["per_class"].items():
        shown = cells(classes)[label]
        for name in ("precision", "sensitivity", "specificity", "f1", "auc", "average_precision"):
            value = row[name]
            assert shown[name.replace("_", " ")] == (f"{value:.3f}" if value == value else None)
        assert shown["images"] == row["support"]
        flagged, total = row["flagged"]
        assert shown["flagged"] == (f"{flagged} of {total}" if total else None)
    assert [list(row[1:]) for row in confusion.rows] == document["confusion"]
    low, high = document["intervals"]["malignant_sensitivity"]
    right, total = document["malignant"]["sensitivity_counts"]
    below, above = document["malignant"]["sensitivity_wilson"]
    assert cells(overall)["malignant sensitivity"] == {
        "figure": "malignant sensitivity",
        "value": f"{document['malignant']['sensitivity']:.4f}",
        "95 % by lesion": f"{low:.3f}-{high:.3f}",
        "images": f"{right} of {total}",
        "95 % by image (Wilson)": f"{below:.3f}-{above:.3f}",
    }
    assert "45 lesions, 2000 resamples" in overall.title and "own prior" in confusion.title
    for figure, name in {
        "accuracy, training prior": "accuracy",
        "balanced accuracy, uniform prior": "balanced_accuracy",
        "macro auc, uniform prior": "macro_auc",
        "macro auc, training prior": "macro_auc_training_prior",
        "calibration error (ECE)": "ece",
        "ECE at the class prior": "ece_at_class_prior",
    }.items():
        low, high = document["intervals"][name]
        row = cells(overall)[figure]
        assert (row["value"], row["95 % by lesion"]) == (f"{document[name]:.4f}", f"{low:.3f}-{high:.3f}")
    female = document["subgroups"]["sex"]["female"]
    share, (right, total) = female["specificity"], female["specificity_counts"]
    below, above = female["specificity_wilson"]
    shown = cells(sex)["female"]
    assert shown["malignant specificity, 95 %"] == f"{share:.3f} ({right}/{total}) {below:.3f}-{above:.3f}"
    assert list(cells(sex)["male"].values()) == ["male", 6, None, None, None, None]


def test_a_table_by_skin_tone_states_the_ends_of_its_scale(result: Evaluation) -> None:
    tones = {"fitzpatrick": {"1": {"n": 5}}, "milk10k_tone": {"0": {"n": 3}, "unknown": {"n": 2}}, "skin_tone": {}}
    *_, fitzpatrick, milk10k, other = tables({**result.document, "subgroups": tones})
    assert fitzpatrick.columns[:2] == ("fitzpatrick (1 lightest to 6 darkest)", "images")
    assert milk10k.columns[0] == "milk10k_tone (0 darkest to 5 lightest)" and other.columns[0] == "skin_tone"
    assert [row[:2] for row in milk10k.rows] == [["0", 3], ["unknown", 2]] and milk10k.title == "By milk10k_tone"


def test_without_a_known_prior_every_metric_is_at_the_files_own(result: Evaluation) -> None:
    alone = replace(result, predictions=replace(result.predictions, prior=None, training=None))
    overall = cells(tables(alone.document)[2])
    assert overall["accuracy, own prior"]["value"] == f"{alone.document['accuracy']:.4f}"
    assert overall["ECE at the class prior"]["value"] is None
    assert "balanced accuracy, own prior" in overall and not [name for name in overall if "training" in name]


def test_the_page_holds_every_table_the_warnings_and_the_pictures(result: Evaluation) -> None:
    page = markdown(result.document, "NOTICE", ["roc.png"])
    assert "images (split: " in page and result.summary.sentences()[1] in page
    assert page.startswith("# model.int8.onnx (trained on SYNTHETIC images)\n\nNOTICE\n")
    assert "CONTAMINATED: the model was trained on 7" in page and page.endswith("![roc](roc.png)\n")
    assert r"| a\|b | 0 | 0 | 0 |" in page and "| male | 6 | - | - | - |" in page
    low, high = result.document["per_class"]["mel"]["intervals"]["auc"]  # type: ignore[index]
    (row,) = [line for line in page.splitlines() if line.startswith("| mel |") and f"{low:.3f}-{high:.3f}" in line]
    assert row.count("|") == 8
    for table in tables(result.document):
        assert f"## {table.title}\n" in page
    clean = replace(result, synthetic=False, selection=replace(result.selection, seen={}))
    assert "CONTAMINATED" not in markdown(clean.document, "", []) and "SYNTHETIC" not in markdown(
        clean.document, "", []
    )


def test_flags_are_counted_by_class(result: Evaluation) -> None:
    predictions, document = result.predictions, result.document
    melanoma, nevus = (int(((predictions.truth == i) & (predictions.probabilities[:, 0] >= 0.5)).sum()) for i in (0, 1))
    classes: Mapping[str, Any] = document["per_class"]  # type: ignore[assignment]
    images = np.bincount(predictions.truth, minlength=3).tolist()
    flagged = {label: row["flagged"] for label, row in classes.items()}
    assert flagged == {"mel": [melanoma, images[0]], "nv": [nevus, images[1]], "a|b": [0, 0]}
    accuracy, flags, by_class = result.summary.sentences()
    assert document["summary"] == [accuracy, flags, by_class]
    assert accuracy.startswith("On 90 images (split: test): accuracy ")
    assert f"{melanoma} of {images[0]} malignant images, and {nevus} of {images[1]} benign ones" in flags
    assert by_class == f"Flagged by class: melanoma {melanoma} of {images[0]}."


@pytest.mark.parametrize("change", [{"threshold": None}, {"malignant": None}])
def test_nothing_is_flagged_without_a_threshold(result: Evaluation, change: dict[str, None]) -> None:
    other = replace(result, predictions=replace(result.predictions, **change))
    classes: Mapping[str, Any] = other.document["per_class"]  # type: ignore[assignment]
    assert {row["flagged"] for row in classes.values()} == {None}
    assert other.summary.sentences()[1].startswith("No image is flagged")
    titles = [table.title for table in decision_tables(other.document)]
    assert (titles == []) is ("malignant" in change) and not any(title.startswith("What a flag") for title in titles)


def test_tables_of_decisions_are_the_documents_values(result: Evaluation) -> None:
    document: Mapping[str, Any] = result.document
    thresholds, values, benefit, score = decision_tables(document)
    for table, column, name, rows in (
        (thresholds, "threshold", "threshold", document["decisions"]["operating_points"]),
        (values, "malignant among the flagged (PPV)", "ppv", document["decisions"]["predictive_values"]),
        (benefit, "model", "model", document["decisions"]["decision_curve"]),
        (score, "images", "images", document["decisions"]["score_reliability"]),
    ):
        shown = [row[table.columns.index(column)] for row in table.rows]
        assert shown == [row[name] if isinstance(row[name], int) else f"{row[name]:.3f}" for row in rows]
    assert sum(int(row[1] or 0) for row in score.rows) == 90
    assert all(table.title in markdown(document, "notice", []) for table in (thresholds, values, benefit, score))
