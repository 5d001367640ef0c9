"""skinedge evaluate"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, DataOption, JsonOption, RunArgument, emit_json, note, say, table
from skinedge.cli.predict import FileOption, JobsOption, ResumeOption, open_for_judging
from skinedge.core import json_io

if TYPE_CHECKING:
    from skinedge_bench.evaluate.evaluate import Evaluation
    from skinedge_bench.loaded_model import LoadedModel


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
    jobs: JobsOption = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Accuracy, AUC and sensitivity on labelled images. And the confusion matrix."""
    from skinedge_bench.evaluate import plots
    from skinedge_bench.evaluate.evaluate import UNFINISHED
    from skinedge_bench.evaluate.evaluate import evaluate as run_evaluate
    from skinedge_bench.loaded_model import run_of
    from skinedge_bench.predict.resumable import Work

    work = Work(jobs, out and out / UNFINISHED, resume)
    if out is not None:
        plots.check(out)
    model = open_for_judging(run, file)
    result = run_evaluate(model, data, run_of(model.path), split=split, allow_train=allow_train, work=work)
    if out is not None:
        _write(out, result, model)
    if json:
        emit_json("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    else:
        show(result)


def _write(out: Path, result: Evaluation, model: LoadedModel) -> None:
    """The document, the page and the pictures, all or none."""
    from skinedge_bench.evaluate import plots
    from skinedge_bench.evaluate.evaluate import UNFINISHED
    from skinedge_bench.evaluate.tables import markdown

    full = json_io.document("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    drawn = plots.draw(result)
    page = markdown(result.document, NOTICE, list(drawn))
    plots.write(out, {**drawn, "evaluation.md": page, "evaluation.json": json_io.to_text(full)})
    (out / UNFINISHED).unlink(missing_ok=True)
    note(f"written: evaluation.json, evaluation.md and pictures in {out}")


def show(result: Evaluation) -> None:
    """The tables that a person reads."""
    from skinedge_bench.evaluate.tables import tables

    say(NOTICE)
    document: Mapping[str, Any] = result.document
    if document["contaminated"]:
        note(f"CONTAMINATED: the model was trained on {document['contaminated']} of these images or their lesions")
    for place in ("val", "cal"):
        if place in (document["seen"] or {}):
            note(f"{document['seen'][place]} of these images were in the split '{place}': they influenced choices")
    for found in tables(document):
        table(found.title, found.columns, found.rows)
