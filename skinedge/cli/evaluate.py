"""skinedge evaluate"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, say, table
from skinedge.cli.options import (
    DataOption,
    FileOption,
    JobsOption,
    JsonOption,
    OutputOption,
    ResumeOption,
    RunOrFileArgument,
)
from skinedge.cli.predict import open_for_judging
from skinedge.core import json_io

if TYPE_CHECKING:
    from skinedge_bench.evaluate.evaluate import Evaluation
    from skinedge_bench.loaded_model import LoadedModel


@app.command()
def evaluate(
    run: RunOrFileArgument = None,
    data: DataOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help="Split: train, val, cal, test or all. [default: test if the run knows the images]",
        ),
    ] = None,
    file: FileOption = None,
    output: OutputOption = None,
    allow_train: Annotated[
        bool, typer.Option("--allow-train", help="Include images that the model was trained on; the output marks them.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write evaluation.json and plots to DIR (needs skinedge[plots])."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the evaluation at --out.")] = False,
    jobs: JobsOption = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Measure accuracy, AUC and sensitivity on labelled images."""
    from skinedge_bench.evaluate import plots
    from skinedge_bench.evaluate.evaluate import UNFINISHED
    from skinedge_bench.evaluate.evaluate import evaluate as run_evaluate
    from skinedge_bench.loaded_model import run_of
    from skinedge_bench.predict.resumable import Work

    work = Work(jobs, out and out / UNFINISHED, resume)
    if out is not None:
        plots.check(out, replace=force or resume)
    model = open_for_judging(run, file, output)
    result = run_evaluate(model, data, run_of(model.path), split=split, allow_train=allow_train, work=work)
    if out is not None:
        _write(out, result, model)
    if json:
        emit_json("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    else:
        show(result)


def _write(out: Path, result: Evaluation, model: LoadedModel) -> None:
    """Write the document, the Markdown page and the plots, all or none."""
    from skinedge_bench.evaluate import plots
    from skinedge_bench.evaluate.evaluate import UNFINISHED
    from skinedge_bench.evaluate.tables import markdown

    full = json_io.document("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    images = plots.draw(result)
    page = markdown(result.document, NOTICE, list(images))
    plots.write(out, {**images, "evaluation.md": page, "evaluation.json": json_io.to_text(full)})
    (out / UNFINISHED).unlink(missing_ok=True)
    note(f"written: evaluation.json, evaluation.md and plots in {out}")


def show(result: Evaluation) -> None:
    """Print the tables, and warn about images that the model has seen."""
    from skinedge_bench.evaluate.tables import absent_note, tables

    say(NOTICE)
    document: Mapping[str, Any] = result.document
    if absent := absent_note(document):
        note(f"warning: {absent}")
    if document["contaminated"]:
        note(f"CONTAMINATED: the model was trained on {document['contaminated']} of these images or their lesions")
    for split in ("val", "cal"):
        if split in (document["seen"] or {}):
            count = document["seen"][split]
            note(f"{count} of these images were in the {split} split, which decides checkpoints and thresholds")
    for one in tables(document):
        table(one.title, one.columns, one.rows)
