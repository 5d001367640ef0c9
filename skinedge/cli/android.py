"""skinedge android."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run, say
from skinedge.cli.options import NEWEST, JsonOption


@app.command()
def android(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help=f"Run directory. [default: {NEWEST}]")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="NAME", help="A .tflite file of the run. [default: int8 with heatmap]"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Assets folder of an app. [default: android-demo's]")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Replace the Android app's model and card by a run's."""
    from skinedge.publish.android import assets_folder, copy_model

    folder = assets_folder(to)
    bundle = pick_run(model, allow_synthetic=model is not None)
    pair = copy_model(bundle, folder, file)
    if not pair.heatmap:
        note(f"{pair.model.name} has no heatmap, so the app shows none (add one with: skinedge export --heatmap)")
    if json:
        files = {"model": str(pair.model), "card": str(pair.card), "heatmap": pair.heatmap}
        emit_json("android", files, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        say(f"{pair.model} and {pair.card.name}")
        note(NOTICE)
