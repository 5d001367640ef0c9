"""skinedge bench"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import DataOption, JsonOption, RunArgument, emit_json, note, pick_run, table

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
    """Latency, memory, size and accuracy of every file, in every runtime that is installed."""
    from skinedge_bench.latency import bench as run_bench
    from skinedge_bench.latency import bench_file
    from skinedge_bench.model import merged_sha256

    model_id: str | None = None
    digest: str | None
    if run is not None and run.is_file():
        report = bench_file(run, threads=threads, protocol=protocol)
        digest = report.rows[0].sha256
    else:
        bundle = pick_run(run)
        report = run_bench(bundle, data, threads=threads, protocol=protocol)
        model_id, digest = bundle.manifest.id, merged_sha256(bundle)
    if json:
        emit_json("bench", report.document(), model_id=model_id, model_sha256=digest)
    else:
        show(report)


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
    from skinedge.cli.evaluate import figure

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
