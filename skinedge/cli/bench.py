"""skinedge bench"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import DataOption, JsonOption, RunArgument, emit_json, figure, note, pick_run, table

if TYPE_CHECKING:
    from skinedge_bench.latency_report import LatencyReport, Row

COLUMNS = (
    "file",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "x fp32",
    "x eager",
    "load ms",
    "first ms",
    "RSS MiB",
    "size MB",
    "bal. acc.",
)


@app.command()
def bench(
    run: RunArgument = None,
    data: DataOption = None,
    threads: Annotated[int, typer.Option("--threads", help="Threads of each runtime.")] = 1,
    protocol: Annotated[str, typer.Option("--protocol", help="quick, standard or mlperf.")] = "standard",
    json: JsonOption = False,
) -> None:
    """Latency, memory, size and accuracy of every file. In every runtime; exit 1 when golden vectors fail."""
    from skinedge.errors import ConfigError, GateError
    from skinedge_bench.latency import bench as run_bench
    from skinedge_bench.latency import bench_file

    if run is not None and run.is_file():
        if data is not None:
            raise ConfigError("--data makes no sense beside a model file: it is timed, not judged", where=str(run))
        report = bench_file(run, threads=threads, protocol=protocol)
    else:
        report = run_bench(pick_run(run, writes=True), data, threads=threads, protocol=protocol)
    if json:
        emit_json("bench", report.document(), model_id=report.model_id, model_sha256=report.model_sha256)
    else:
        show(report)
    wrong = report.golden_failures()
    if wrong:
        raise GateError(f"the golden vectors fail in: {', '.join(wrong)}", todo="See why with: skinedge verify RUN")


def show(report: LatencyReport) -> None:
    """The table that a person reads; remarks and doubts go to standard error."""
    device, protocol = report.device, report.protocol
    libraries = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    threads, n = report.rows[0].threads, max(row.n for row in report.rows)
    title = f"{device.cpu}, {threads} thread(s), {n} samples a file ({protocol.name}); {libraries}"
    table(title, COLUMNS, [_cells(report, row) for row in report.rows])
    for row in report.rows:
        if row.reasons:
            note(f"{row.file} ({row.runtime}): not trustworthy: {'; '.join(row.reasons)}")
    for text in sorted({row.accuracy_note for row in report.rows if row.balanced_accuracy is None}):
        note(f"balanced accuracy: {text}")
    for remark in report.remarks():
        note(remark)


def _cells(report: LatencyReport, row: Row) -> list[str | None]:
    alone = sum(other.file == row.file for other in report.rows) == 1
    name = row.file if alone else f"{row.file} ({row.runtime})"
    if row.p50_ms is None:
        return [name, "; ".join(row.reasons) or None, *([None] * 9)]
    return [
        name,
        *(figure(value, 2) for value in (row.p50_ms, row.p90_ms, row.p99_ms)),
        *(figure(value, 2) for value in (report.ratio_to_fp32(row), report.ratio_to_eager(row))),
        *(figure(value, 1) for value in (row.load_ms, row.first_inference_ms, row.peak_rss_mib)),
        figure(row.size_bytes / 1e6, 2),
        figure(row.balanced_accuracy),
    ]
