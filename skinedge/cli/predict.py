"""skinedge predict"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, JsonOption, emit_json, note, say
from skinedge.system.progress import bar

if TYPE_CHECKING:
    from skinedge_bench.loaded_model import LoadedModel
    from skinedge_bench.predict.predict import Prediction

ImagesArgument = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of images.")]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="Run directory, or a model file; default: the newest real run, else the shipped model."),
]
FileOption = Annotated[
    str | None, typer.Option("--file", metavar="NAME", help="Model file of the run; default: the manifest's.")
]


JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", help="Processes that judge images; default: one for each usable core."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted command with the same --out stopped.")
]


@app.command()
def predict(
    images: ImagesArgument,
    run: RunOption = None,
    file: FileOption = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")] = 3,
    jobs: JobsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Keep the JSON lines here as they come.")
    ] = None,
    resume: ResumeOption = False,
    json: JsonOption = False,
) -> None:
    """The likeliest classes and the malignant score. For images or folders of them, on all cores."""
    from skinedge_bench.predict.predict import find_images, sources
    from skinedge_bench.predict.resumable import Work, predictions

    work = Work(jobs, out, resume)
    found = find_images(images)
    model = open_for_judging(run, file)
    if not json:
        say(NOTICE)
    with closing(predictions(model, sources(found), len(found), work)) as coming:
        if out is None:
            failed = sum(_show(model, prediction, top, json) for prediction in coming)
        else:
            failed = _keep(coming, len(found), out)
    if failed:
        note(f"error: {failed} image(s) could not be judged")
        raise typer.Exit(1)


def _show(model: LoadedModel, prediction: Prediction, top: int, json: bool) -> bool:
    """Print what was said of one image; returns whether that is an error."""
    if json:
        emit_json("predict", prediction.document(model.labels), model_id=model.model_id, model_sha256=model.sha256)
    else:
        for line in describe(model, prediction, top):
            say(line)
    return prediction.error is not None


def _keep(coming: Iterator[Prediction], total: int, out: Path) -> int:
    """Let all come into their file, with a bar on screen; returns how many are errors."""
    with bar("judging", total) as advance:
        failed = 0
        for prediction in coming:
            failed += prediction.error is not None
            advance(1)
    note(f"{total} images: {out}")
    return failed


def open_for_judging(run: Path | None, file: str | None) -> LoadedModel:
    """The model to judge images with; says on screen which, and what had to be assumed of it."""
    from skinedge.cli.common import pick_run
    from skinedge.core.errors import ConfigError
    from skinedge_bench.loaded_model import open_file, open_listed

    if run is not None and run.is_file():
        if file is not None:
            raise ConfigError(f"--file {file} makes no sense beside a model file", where=str(run))
        model = open_file(run)
    else:
        model = open_listed(pick_run(run, allow_synthetic=False), file)
    introduce(model)
    return model


def introduce(model: LoadedModel) -> None:
    """Say on screen which model it is, and what had to be assumed of it."""
    note(f"model: {model.path} ({model.runtime})")
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    if model.saturation:
        note(f"warning: {model.saturation}")
    if model.synthetic:
        note("warning: this model was trained on synthetic drawings; what it says of a real image means nothing")


def describe(model: LoadedModel, prediction: Prediction, top: int) -> list[str]:
    """The lines that a person reads of one image."""
    if prediction.probabilities is None:
        return [f"{prediction.image}: error: {prediction.error and prediction.error.what}"]
    order = (-prediction.probabilities).argsort(kind="stable")[:top]
    best = ", ".join(f"{model.labels[i]} {prediction.probabilities[i]:.3f}" for i in order)
    lines = [f"{prediction.image}: {best}"]
    if prediction.malignant_probability is not None:
        score = prediction.malignant_probability
        verdict = ""
        if model.threshold is not None:
            relation = "FLAGGED, at or above" if score >= model.threshold else "below"
            verdict = f" ({relation} the threshold {model.threshold:.3f})"
        lines.append(f"  malignant or premalignant {score:.3f}{verdict}")
    if model.melanoma is not None:
        lines.append(f"  melanoma {prediction.probabilities[model.melanoma]:.3f}")
    return lines
