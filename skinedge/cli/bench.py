"""skinedge bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.bench_device import OtherDevice, bench_on_device
from skinedge.cli.bench_table import show
from skinedge.cli.common import emit_json
from skinedge.cli.option_groups import expand_groups
from skinedge.cli.options import DataOption, JsonOption, OutputOption, RunOrFileArgument

ThreadsOption = Annotated[
    str, typer.Option("--threads", metavar="N,N,...", help="Thread counts of each runtime; 'all': every usable core.")
]
WithOption = Annotated[
    list[Path] | None,
    typer.Option("--with", metavar="FILE", help="Time this .tflite or .onnx file in the same benchmark. Repeatable."),
]
RuntimeOption = Annotated[
    list[str] | None,
    typer.Option("--runtime", metavar="NAME", help="Use only this runtime. Repeatable. [default: all available]"),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.json", help="Write the report with the raw samples to FILE.json.")
]


@app.command()
@expand_groups
def bench(
    device: OtherDevice,
    run: RunOrFileArgument = None,
    data: DataOption = None,
    threads: ThreadsOption = "1",
    protocol: Annotated[
        str, typer.Option("--protocol", metavar="NAME", help="Protocol: quick, standard or mlperf.")
    ] = "standard",
    beside: WithOption = None,
    output: OutputOption = None,
    runtime: RuntimeOption = None,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Benchmark every model file in every available runtime.

    Measures latency, memory, size and accuracy. Exits with 1 if golden vectors fail.
    """
    from skinedge import api
    from skinedge.core.errors import ConfigError, GateError
    from skinedge_bench.latency.bench import check_place, save_report
    from skinedge_bench.latency.targets import BenchRequest, thread_counts

    request = BenchRequest(protocol, thread_counts(threads), tuple(runtime or ()), tuple(beside or ()), output=output)
    if out is not None:
        check_place(out)
    if output is not None and not beside and (run is None or run.is_dir()):
        raise ConfigError("--output requires a file of another tool", todo="Name the file, or add it with --with FILE.")
    if device.named():
        if beside:
            raise ConfigError("--with is not available with --host or --adb")
        report = bench_on_device(device, run, data, protocol=protocol, threads=threads, runtimes=request.runtimes)
    else:
        report = api.bench(run, request, data)
    if out is not None:
        save_report(report, out)
    if json:
        emit_json("bench", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    else:
        show(report)
    wrong_files = report.golden_failures()
    if wrong_files:
        raise GateError(f"golden vectors failed in: {', '.join(wrong_files)}", todo="See why with: skinedge verify RUN")
