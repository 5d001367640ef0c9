"""skinedge report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run
from skinedge.cli.options import DataOption, JsonOption, RunArgument
from skinedge.core.files import check_writable
from skinedge.core.terminal import say


@app.command()
def report(
    run: RunArgument = None,
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", metavar="DIR", help="What `evaluate --out DIR` wrote of this run.")
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", metavar="DIR", help="A run, or a folder of runs, to stand beside it. Repeatable."),
    ] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Also test images with heatmaps: PATIENTS' IMAGES, in the page.")
    ] = False,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; default: RUN/reports/report.html.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """What a run's stages reported: one HTML page, and its tables as Markdown on standard output."""
    from skinedge_bench.report import draw

    if out is not None:
        check_writable(out.parent)
    bundle = pick_run(run, writes=out is None)
    asked = draw.ReportRequest(evaluation, tuple(runs or ()), with_images, data)
    drawn = draw.draw(bundle, asked, NOTICE)
    place = draw.save(bundle, drawn.html, out)
    note(f"page: {place}" + (", with PATIENTS' IMAGES" if with_images else ""))
    if json:
        body = {**drawn.document, "page": str(place)}
        emit_json("report", body, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        for line in drawn.markdown.rstrip("\n").split("\n"):
            say(line)
