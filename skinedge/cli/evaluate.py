"""skinedge evaluate"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge import documents
from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, DataOption, JsonOption, RunArgument, emit_json, figure, note, table
from skinedge.cli.predict import FileOption, open_for_judging

if TYPE_CHECKING:
    from skinedge_bench.evaluate import Evaluation


@app.command()
def evaluate(
    run: RunArgument = None,
    data: DataOption = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="train, val, cal, test or all; default: test if the run knows the images."),
    ] = None,
    file: FileOption = None,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Judge images that the model was trained on too (marked so).")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evaluation.json and pictures (needs skinedge[plots]).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Accuracy, AUC and sensitivity on labelled images. And the confusion matrix."""
    from skinedge_bench import pictures
    from skinedge_bench.evaluate import evaluate as run_evaluate
    from skinedge_bench.model import run_of

    if out is not None:
        pictures.check(out)
    model = open_for_judging(run, file)
    result = run_evaluate(model, data, run_of(model.path), split=split, allow_train=allow_train)
    if out is not None:
        full = documents.document("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
        pictures.write(out, {**pictures.draw(result), "evaluation.json": documents.to_text(full)})
        note(f"written: evaluation.json and pictures in {out}")
    if json:
        emit_json("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    else:
        show(result)


def show(result: Evaluation) -> None:
    """The tables that a person reads."""
    document: Mapping[str, Any] = result.document
    print(NOTICE)
    _say_what_was_seen(document)
    columns = ("precision", "sensitivity", "specificity", "f1", "auc", "average_precision")
    rows = [
        [label, *(figure(row[c], 3) for c in columns), row["support"]] for label, row in document["per_class"].items()
    ]
    title = f"{document['n']} images, split {document['split']}"
    table(title, ["class", *(column.replace("_", " ") for column in columns), "images"], rows)
    table(
        "Confusion (rows: truth)",
        ["", *result.said.labels],
        [[label, *counts] for label, counts in zip(result.said.labels, document["confusion"], strict=True)],
    )
    drawn = document["bootstrap"]
    resampled = f"{drawn['units']} {drawn['unit']}s, {drawn['resamples']} resamples"
    heads = ("figure", "value", f"95 % by {drawn['unit']}", "images", "95 % by image (Wilson)")
    table(f"Overall (bootstrap over {resampled})", heads, _overall(document))
    for attribute, groups in document["subgroups"].items():
        table(f"By {attribute}", (attribute, "images", *_GROUP), [_group(*group) for group in groups.items()])


_GROUP = ("balanced accuracy (classes)", "malignant sensitivity, 95 %", "malignant specificity, 95 %")


def _say_what_was_seen(document: Mapping[str, Any]) -> None:
    if document["contaminated"]:
        note(f"CONTAMINATED: the model was trained on {document['contaminated']} of these images or their lesions")
    for place in ("val", "cal"):
        if place in (document["seen"] or {}):
            note(f"{document['seen'][place]} of these images were in the split '{place}': they influenced choices")


def _overall(document: Mapping[str, Any]) -> list[list[object]]:
    """Rows: name, value, bootstrap interval, counts, Wilson's interval."""
    intervals, malignant = document["intervals"], document["malignant"]
    names = ("accuracy", "balanced_accuracy", "macro_auc", "macro_average_precision")
    rows: list[list[object]] = [
        [name.replace("_", " "), figure(document[name]), _interval(intervals[name]), None, None] for name in names
    ]
    for name in ("sensitivity", "specificity", "auc", "average_precision"):
        interval = _interval(intervals.get(f"malignant_{name}"))
        counts, wilson = malignant.get(f"{name}_counts"), _interval(malignant.get(f"{name}_wilson"))
        right = f"{counts[0]} of {counts[1]}" if counts else None
        rows.append([f"malignant {name.replace('_', ' ')}", figure(malignant[name]), interval, right, wilson])
    rows.append(["malignant threshold", figure(malignant["threshold"]), None, None, None])
    rows.append(["calibration error (ECE)", figure(document["ece"]), None, None, None])
    rows.append(["ECE at the class prior", figure(document["ece_at_class_prior"]), None, None, None])
    return rows


def _group(value: str, group: Mapping[str, Any]) -> list[object]:
    """One row of a subgroup table; a group that is too small shows how many images it has."""
    if "balanced_accuracy" not in group:
        return [value, group["n"], None, None, None]
    accuracy = f"{figure(group['balanced_accuracy'], 3)} ({group['classes']})"
    return [value, group["n"], accuracy, _rate(group, "sensitivity"), _rate(group, "specificity")]


def _rate(group: Mapping[str, Any], name: str) -> str | None:
    """'0.812 (13/16) 0.570-0.934'; None where nothing is flagged, or nothing could be."""
    share, counts = figure(group[name], 3), group[f"{name}_counts"]
    return f"{share} ({counts[0]}/{counts[1]}) {_interval(group[f'{name}_wilson'])}" if share else None


def _interval(pair: tuple[float, float] | None) -> str | None:
    """'0.570-0.934'; None where it is undefined."""
    low, high = map(figure, pair or (None, None), (3, 3))
    return f"{low}-{high}" if low and high else None
