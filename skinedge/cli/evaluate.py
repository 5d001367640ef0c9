"""skinedge evaluate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
    json: JsonOption = False,
) -> None:
    """Accuracy, AUC and sensitivity on labelled images. And the confusion matrix."""
    from skinedge_bench.evaluate import evaluate as run_evaluate
    from skinedge_bench.model import run_of

    model = open_for_judging(run, file)
    result = run_evaluate(model, data, run_of(model.path), split=split, allow_train=allow_train)
    if json:
        emit_json("evaluate", result.document(), model_id=model.model_id, model_sha256=model.sha256)
    else:
        show(result)


def show(result: Evaluation) -> None:
    """The tables that a person reads."""
    document = result.document()
    per_class, confusion, malignant = document["per_class"], document["confusion"], document["malignant"]
    assert isinstance(per_class, dict) and isinstance(confusion, list) and isinstance(malignant, dict)
    print(NOTICE)
    if document["contaminated"]:
        note(f"CONTAMINATED: the model was trained on {document['contaminated']} of these images or their lesions")
    for place in ("val", "cal"):
        if result.selection.seen and place in result.selection.seen:
            note(f"{result.selection.seen[place]} of these images were in the split '{place}': they influenced choices")
    columns = ("precision", "recall", "f1", "auc")
    rows = [[label, *(figure(row[c]) for c in columns), row["support"]] for label, row in per_class.items()]
    table(f"{document['n']} images, split {document['split']}", ["class", *columns, "images"], rows)
    table(
        "Confusion (rows: truth)",
        ["", *result.labels],
        [[label, *counts] for label, counts in zip(result.labels, confusion, strict=True)],
    )
    overall = [
        [name.replace("_", " "), figure(document[name])] for name in ("accuracy", "balanced_accuracy", "macro_auc")
    ]
    score = [[f"malignant {name}", figure(value)] for name, value in malignant.items()]
    table("Overall", ["figure", "value"], overall + score)
