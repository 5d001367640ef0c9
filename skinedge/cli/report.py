"""skinedge report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run
from skinedge.cli.options import DataOption, JsonOption, RunArgument
from skinedge.core.files import check_writable
from skinedge.core.installation import pip_install
from skinedge.core.terminal import say


@app.command()
def report(
    run: RunArgument = None,
    evaluation: Annotated[
        Path | None,
        typer.Option("--evaluation", metavar="DIR", help="Use what `evaluate --out DIR` wrote for this run."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", metavar="DIR", help="Run, or folder of runs, to compare with. Repeatable."),
    ] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Add test images with heatmaps: PATIENTS' IMAGES, in the page.")
    ] = False,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the page to FILE [RUN/reports/report.html].")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the reports of a run as one HTML page, and print its tables as Markdown."""
    from skinedge_bench.report import draw

    if out is not None:
        draw.can_write_page(required=True)
        check_writable(out.parent)
    bundle = pick_run(run, writes=out is None)
    request = draw.ReportRequest(evaluation, tuple(runs or ()), with_images, data)
    drawn = draw.draw(bundle, request, NOTICE)
    page = None if drawn.html is None else draw.save(bundle, drawn.html, out)
    if page is None:
        note(f"no HTML page, Markdown only: the page needs {pip_install('plots')}")
    else:
        note(f"page: {page}" + (", with PATIENTS' IMAGES" if with_images else ""))
    if json:
        body = {**drawn.document, "page": None if page is None else str(page)}
        emit_json("report", body, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        for line in drawn.markdown.rstrip("\n").split("\n"):
            say(line)
