"""skinedge web"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, note, pick_run, say
from skinedge.core.files import check_writable


@app.command()
def web(
    run: Annotated[
        Path | None, typer.Option("--run", help="Run directory; default: the newest real run, else the shipped model.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="NAME", help="Model file of the run; default: a .tflite that draws heatmaps."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of this machine; 0: any.")] = 8765,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the site there instead, to be hosted elsewhere.")
    ] = None,
) -> None:
    """A page in which the model judges photos and camera frames. In your browser; nothing is uploaded."""
    from skinedge_bench.web.server import serve
    from skinedge_bench.web.site import build, write

    if out is not None:
        check_writable(out.parent)
    site = build(pick_run(run, allow_synthetic=False), file)
    note(f"model: {site.model}")
    say(NOTICE)
    if out is None:
        serve(site, port, lambda url: say(f"{url}   (this machine only; Ctrl-C stops)"))
    else:
        write(site, out)
        say(f"{out}: {len(site.files)} files; serve them over https")
