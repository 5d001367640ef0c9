"""skinedge predict"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run_or_file, say
from skinedge.cli.options import (
    FileOption,
    ImagesArgument,
    JobsOption,
    JsonOption,
    OutputOption,
    ResumeOption,
    RunOption,
)
from skinedge.core.errors import ConfigError
from skinedge.core.files import check_writable, write_atomic
from skinedge.system.cpu import start_no_blas_threads
from skinedge.system.progress import bar, note_error

if TYPE_CHECKING:
    from skinedge_bench.classifier import Classifier
    from skinedge_bench.loaded_model import LoadedModel
    from skinedge_bench.predict.predict import Prediction


@app.command()
def predict(
    images: ImagesArgument,
    run: RunOption = None,
    file: FileOption = None,
    output: OutputOption = None,
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="Number of classes to show.")] = 3,
    jobs: JobsOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the predictions to FILE: .csv, .json, or .jsonl, which can be resumed."
        ),
    ] = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """Predict the most probable classes and the malignant score of images."""
    start_no_blas_threads()
    from skinedge_bench.predict.predict import find_images
    from skinedge_bench.predict.resumable import Work

    at_end = check_out(out, resume)
    work = Work(jobs, None if at_end else out, resume)
    paths = find_images(images)
    classifier = open_classifier(run, file, output)
    if not json:
        (say if out is None else note)(NOTICE)
    with closing(classifier.predict_files(paths, work)) as results:
        if out is None:
            failed = sum(_show(classifier.model, prediction, top, json) for prediction in results)
        else:
            kept: list[Prediction] | None = [] if at_end else None
            failed = _consume(results, len(paths), kept)
            if kept is not None:
                write_atomic(out, _text(classifier.model, kept, out.suffix.lower()))
            note(f"{len(paths)} images, {failed} error(s): {out}")
    if failed:
        note_error(f"{failed} image(s) could not be judged")
        raise typer.Exit(1)


def _show(model: LoadedModel, prediction: Prediction, top: int, json: bool) -> bool:
    """Print one prediction. Returns whether it is an error."""
    if json:
        emit_json("predict", _body(model, prediction), model_id=model.model_id, model_sha256=model.sha256)
    else:
        for line in describe(model, prediction, top):
            say(line)
    return prediction.error is not None


def _body(model: LoadedModel, prediction: Prediction) -> dict[str, object]:
    return {**prediction.document(), **model.output_document}


def _text(model: LoadedModel, predictions: Sequence[Prediction], suffix: str) -> str:
    """Return a file's text: a CSV table, or a JSON array of the documents that `--json` prints."""
    if suffix == ".csv":
        from skinedge_bench.predict.csv_table import to_csv

        return to_csv(predictions, model.labels)
    from skinedge.core import json_io

    bodies = [_body(model, prediction) for prediction in predictions]
    ids = {"model_id": model.model_id, "model_sha256": model.sha256}
    return json_io.to_text([json_io.document("predict", body, **ids) for body in bodies])


def check_out(out: Path | None, resume: bool) -> bool:
    """Return True for a .csv or .json file, which is written at the end.

    Raises: ConfigError for another format, an existing file, or --resume with one; BundleError as `check_writable`.
    """
    suffix = "" if out is None else out.suffix.lower()
    if out is None or suffix == ".jsonl" or out.is_dir():  # of .jsonl and folders, `Work` decides
        return False
    if suffix not in (".csv", ".json"):
        todo = "Supported: .csv, .json and .jsonl (a JSON document in each line)."
        raise ConfigError(f"unknown suffix '{suffix}'", where=f"--out {out}", todo=todo)
    if resume:
        raise ConfigError(
            f"--resume requires a .jsonl file: a {suffix} file is written at the end", where=f"--out {out}"
        )
    if out.exists():
        raise ConfigError("exists already", where=str(out), todo="Remove it, or name another file.")
    check_writable(out.parent)
    return True


def _consume(results: Iterator[Prediction], total: int, kept: list[Prediction] | None) -> int:
    """Consume the predictions behind a progress bar, and add them to `kept`. Returns the number of errors."""
    with bar("predicting", total) as advance:
        failed = 0
        for prediction in results:
            failed += prediction.error is not None
            if kept is not None:
                kept.append(prediction)
            advance(1)
    return failed


def open_classifier(run: Path | None, file: str | None, output: str | None = None) -> Classifier:
    """Open the model for prediction, and print its name and the assumptions made about it. Raises: as `api.load`."""
    from skinedge import api

    classifier = api.load(pick_run_or_file(run), file, output)
    introduce(classifier.model)
    return classifier


def introduce(model: LoadedModel) -> None:
    """Print the model's name, the assumptions made about it and its warnings."""
    note(f"model: {model.path} ({model.runtime})")
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    if model.saturation:
        note(f"warning: {model.saturation}")
    if model.synthetic:
        note("warning: this model was trained on synthetic images; its predictions on real images are meaningless")


def describe(model: LoadedModel, prediction: Prediction, top: int) -> list[str]:
    """Return the lines that describe one prediction; top: number of classes."""
    if prediction.probabilities is None:
        return [f"{prediction.image}: error: {prediction.error and prediction.error.what}"]
    order = (-prediction.probabilities).argsort(kind="stable")[:top]
    best = ", ".join(f"{model.labels[i]} {prediction.probabilities[i]:.3f}" for i in order)
    lines = [f"{prediction.image}: {best}{'' if model.exclusive else ' (independent)'}"]
    if prediction.malignant_probability is not None:
        score = prediction.malignant_probability
        verdict = ""
        if prediction.flagged is not None:
            relation = "FLAGGED, at or above" if prediction.flagged else "below"
            verdict = f" ({relation} the threshold {model.threshold:.3f})"
        lines.append(f"  malignant or premalignant {score:.3f}{verdict}")
    if model.melanoma is not None:
        lines.append(f"  melanoma {prediction.probabilities[model.melanoma]:.3f}")
    return lines
