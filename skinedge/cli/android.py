"""skinedge android."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, JsonOption, emit_json, note, pick_run, say


@app.command()
def android(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="Default: the newest run, else the shipped model.")
    ] = None,
    file: Annotated[str | None, typer.Option("--file", help="A .tflite file; default: int8 with heatmap.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="The app's assets; default: android-demo's.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put a run's model and its card into the Android app, in place of the one that was there."""
    from skinedge.publish.android import assets_folder, copy_model

    folder = assets_folder(to)
    bundle = pick_run(model, allow_synthetic=model is not None)
    pair = copy_model(bundle, folder, file)
    if not pair.heatmap:
        note(f"{pair.model.name} has no heatmap: the app will show none (export --heatmap makes a file that has)")
    if json:
        files = {"model": str(pair.model), "card": str(pair.card), "heatmap": pair.heatmap}
        emit_json("android", files, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        say(f"{pair.model} and {pair.card.name}")
        note(NOTICE)
