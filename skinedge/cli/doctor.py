"""skinedge doctor."""

from __future__ import annotations

import typer

from skinedge.cli.app import app
from skinedge.cli.common import JsonOption, emit_json, table


@app.command()
def doctor(json_: JsonOption = False) -> None:
    """What is installed, missing or known not to work. Exit 1 when something is known not to work."""
    from dataclasses import asdict

    from skinedge.publish.doctor import Finding, examine
    from skinedge_bench.device import describe_device

    device = describe_device({})
    dot = {
        True: "with an int8 dot product",
        False: "no int8 dot product: int8 gains little here",
        None: "its features cannot be read",
    }[device.int8_dot_product]
    cpu = Finding("CPU", "ok", f"{device.cpu}, {device.cores} cores; {' '.join(device.features)}; {dot}")
    findings = [cpu, *examine()]
    problems = [finding for finding in findings if finding.state == "problem"]
    if json_:
        document = {"findings": [asdict(finding) for finding in findings], "problems": len(problems)}
        emit_json("doctor", document, model_id=None, model_sha256=None)
    else:
        table("skinedge doctor", ("what", "state", "detail"), [(f.subject, f.state, f.detail) for f in findings])
    if problems:
        raise typer.Exit(1)
