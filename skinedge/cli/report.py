"""skinedge report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, emit_json, note, pick_run
from skinedge.cli.options import DataOption, JsonOption, RunArgument
from skinedge.core.files import check_writable
from skinedge.core.installation import pip_install
from skinedge.core.terminal import say
from skinedge.system.progress import is_verbose

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle
    from skinedge_bench.report.draw import ReportFiles


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
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write to FILE.html, or FILE.md. [default: RUN/reports/report.html]"
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the reports of a run as one HTML page, and print a summary and the page's path.

    With --verbose, all tables are printed as Markdown instead of the summary.
    """
    from skinedge_bench.report import draw

    if out is not None:
        draw.check_out(out)
    bundle = _open(run, out)
    request = draw.ReportRequest(evaluation, tuple(runs or ()), with_images, data)
    drawn = draw.draw(bundle, request, NOTICE)
    path = draw.save(bundle, drawn, out)
    if drawn.html is None:
        note(f"no HTML page, Markdown only: the page needs {pip_install('plots')}")
    if with_images and path is not None:
        note(f"{path} contains PATIENTS' IMAGES")
    if json:
        body = {**drawn.document, "page": None if path is None else str(path)}
        emit_json("report", body, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        _show(drawn, path)


def _open(run: Path | None, out: Path | None) -> Bundle:
    """Open the run; without one and --out, say that the bundled model keeps no page. Raises: BundleError."""
    bundle = pick_run(run, writes=out is None and run is not None)
    if out is None and bundle.read_only:
        note("the page is not kept: this model is part of the package; --out FILE.html writes it")
    elif out is None:
        check_writable(bundle.root)
    return bundle


def _show(drawn: ReportFiles, path: Path | None) -> None:
    """Print the summary, or all of it with --verbose or without a page; then the path."""
    complete = is_verbose() or drawn.html is None
    for line in drawn.markdown.rstrip("\n").split("\n") if complete else drawn.summary:
        say(line)
    if path is not None:
        say(path)
