"""skinedge doctor."""

from __future__ import annotations

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, table
from skinedge.cli.options import JsonOption


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Check the installation for missing and incompatible parts.

    Exits with 1 if it finds a problem.
    """
    from dataclasses import asdict

    from skinedge.publish.doctor import Finding, examine
    from skinedge_bench.device import describe_device

    device = describe_device({})
    dot_product = {
        True: "with an int8 dot product",
        False: "no int8 dot product: int8 gains little here",
        None: "CPU features unknown",
    }[device.int8_dot_product]
    cpu = Finding("CPU", "ok", f"{device.cpu}, {device.cores} cores; {' '.join(device.features)}; {dot_product}")
    findings = [cpu, *examine()]
    problems = [finding for finding in findings if finding.state == "problem"]
    if json:
        document = {"findings": [asdict(finding) for finding in findings], "problems": len(problems)}
        emit_json("doctor", document, model_id=None, model_sha256=None)
    else:
        table("skinedge doctor", ("part", "state", "detail"), [(f.subject, f.state, f.detail) for f in findings])
    if problems:
        raise typer.Exit(1)
