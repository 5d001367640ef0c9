"""skinedge evaluate"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, say, table
from skinedge.cli.option_groups import expand_groups
from skinedge.cli.options import (
    DataOption,
    FileOption,
    FolderOptions,
    JobsOption,
    JsonOption,
    OutputOption,
    ResumeOption,
    RunOrFileArgument,
)
from skinedge.cli.predict import open_classifier

if TYPE_CHECKING:
    from skinedge_bench.evaluate.evaluate import Evaluation


@app.command()
@expand_groups
def evaluate(
    folder: FolderOptions,
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
    from skinedge import api
    from skinedge_bench.evaluate.request import EvaluationRequest

    request = EvaluationRequest(data, split, allow_train, out, jobs, resume, folder.options(), force)
    classifier = open_classifier(run, file, output)
    result, model = api.evaluate(classifier, request), classifier.model
    if json:
        emit_json("evaluate", result.document, model_id=model.model_id, model_sha256=model.sha256)
    else:
        show(result)


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
    for sentence in result.summary.sentences():
        say(sentence)
