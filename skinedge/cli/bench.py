"""skinedge bench"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.bench_compare import (
    AccuracyBudget,
    AllowOption,
    CompareOption,
    LatencyBudget,
    Limits,
    StrictOption,
    compare_reports,
    refuse_measuring,
)
from skinedge.cli.bench_elsewhere import (
    AdbOption,
    HostOption,
    Place,
    PortOption,
    PythonOption,
    SerialOption,
    ToolOption,
    WithDataOption,
    bench_there,
)
from skinedge.cli.bench_table import show
from skinedge.cli.common import DataOption, JsonOption, RunArgument, emit_json, pick_run

ThreadsOption = Annotated[
    str, typer.Option("--threads", metavar="N,N,...", help="Threads of each runtime: a number, several, or 'all'.")
]
WithOption = Annotated[
    list[Path] | None, typer.Option("--with", metavar="FILE", help="A .tflite or .onnx file to time among them.")
]
RuntimeOption = Annotated[
    list[str] | None, typer.Option("--runtime", metavar="NAME", help="Only this runtime (several: repeat it).")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Keep report and raw samples here.")]


@app.command()
def bench(
    context: typer.Context,
    run: RunArgument = None,
    data: DataOption = None,
    threads: ThreadsOption = "1",
    protocol: Annotated[str, typer.Option("--protocol", help="quick, standard or mlperf.")] = "standard",
    beside: WithOption = None,
    runtime: RuntimeOption = None,
    out: OutOption = None,
    host: HostOption = None,
    port: PortOption = None,
    python: PythonOption = None,
    with_data: WithDataOption = False,
    adb: AdbOption = False,
    serial: SerialOption = None,
    tool: ToolOption = None,
    compare: CompareOption = None,
    budget_latency: LatencyBudget = None,
    budget_accuracy: AccuracyBudget = None,
    allow_different: AllowOption = None,
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Latency, memory, size and accuracy of every file. In every runtime; exit 1 when golden vectors fail."""
    from skinedge.core.errors import ConfigError, GateError
    from skinedge_bench.latency.bench import bench as bench_run
    from skinedge_bench.latency.bench import bench_files, check_place, save_report
    from skinedge_bench.latency.targets import BenchRequest, thread_counts

    limits = Limits(budget_latency, budget_accuracy, tuple(allow_different or ()), strict)
    if compare is not None:
        refuse_measuring(context)
        compare_reports(compare, limits, json=json)
        return
    limits.refuse_alone()
    request = BenchRequest(protocol, thread_counts(threads), tuple(runtime or ()), tuple(beside or ()))
    if out is not None:
        check_place(out)
    place = Place(host, port, python, with_data, adb, serial, tool)
    if not place.is_here():
        if beside:
            raise ConfigError("--with times a file here only")
        report = bench_there(place, run, data, protocol=protocol, threads=threads, runtimes=request.runtimes)
    elif run is not None and run.is_file():
        if data is not None:
            raise ConfigError("--data makes no sense beside a model file: it is timed, not judged", where=str(run))
        report = bench_files([run, *request.beside], request)
    else:
        report = bench_run(pick_run(run, writes=True), request, data)
    if out is not None:
        save_report(report, out)
    if json:
        emit_json("bench", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    else:
        show(report)
    wrong = report.golden_failures()
    if wrong:
        raise GateError(f"the golden vectors fail in: {', '.join(wrong)}", todo="See why with: skinedge verify RUN")
