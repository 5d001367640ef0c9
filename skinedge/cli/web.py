"""skinedge web"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, note, pick_run, say
from skinedge.cli.options import NEWEST_REAL
from skinedge.core.files import check_writable


@app.command()
def web(
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help=f"Run directory. [default: {NEWEST_REAL}]")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="NAME", help="Model file of the run. [default: a .tflite with a heatmap]"),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Local port; 0 picks a free one.")
    ] = 8765,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the site to DIR instead, to host it elsewhere.")
    ] = None,
) -> None:
    """Serve a page that runs the model in the browser.

    It takes photos and camera frames; nothing is uploaded.
    """
    from skinedge_bench.web.server import serve
    from skinedge_bench.web.site import build, write

    if out is not None:
        check_writable(out.parent)
    site = build(pick_run(run, allow_synthetic=False), file)
    note(f"model: {site.model}")
    say(NOTICE)
    if out is None:
        serve(site, port, lambda url: say(f"{url}   (reachable from this machine only; Ctrl-C stops)"))
    else:
        write(site, out)
        say(f"{out}: {len(site.files)} files; serve them over https")
