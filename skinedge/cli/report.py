"""skinedge report."""

from __future__ import annotations

from skinedge.cli.app import app
from skinedge.cli.common import NOTICE, JsonOption, RunArgument, emit_json, pick_run


@app.command()
def report(run: RunArgument = None, json: JsonOption = False) -> None:
    """What train, verify and bench reported of a run, as Markdown."""
    from skinedge_bench.summary import markdown, read_reports

    bundle = pick_run(run)
    if json:
        emit_json("report", read_reports(bundle), model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    else:
        print(markdown(bundle, NOTICE), end="")
