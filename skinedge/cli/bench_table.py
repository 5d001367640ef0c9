"""The tables of `skinedge bench`; remarks and doubts go to standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skinedge.cli.bench_context import show_context
from skinedge.cli.common import figure, note, table

if TYPE_CHECKING:
    from skinedge_bench.latency.report import LatencyReport
    from skinedge_bench.latency.row import Row

TIMES = ("p50 ms", "95 %", "p90 ms", "p99 ms")
RATIOS = ("x fp32", "x eager", "bal. acc.")
COSTS = ("load ms", "first ms", "RSS MiB", "size MB")


def show(report: LatencyReport) -> None:
    """Print a latency report."""
    device, protocol = report.device, report.protocol
    libraries = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    counts = " and ".join(str(count) for count in dict.fromkeys(row.threads for row in report.rows))
    n = max(row.n for row in report.rows)
    host = f"{report.host}: " if report.host else ""
    title = f"{host}{device.cpu}, {counts} thread(s), {n} samples per file ({protocol.name}); {libraries}"
    times = TIMES if protocol.headline == 50 else ("p90 ms", "p50 ms", "95 %", "p99 ms")
    names = [label(report, row) for row in report.rows]
    table(
        title,
        ("file", *times, *RATIOS),
        [(name, *_times(report, row)) for name, row in zip(names, report.rows, strict=True)],
    )
    table(
        "Load time and memory, each file in its own process",
        ("file", *COSTS),
        [(name, *_costs(row)) for name, row in zip(names, report.rows, strict=True)],
    )
    show_context(report, names)
    note(machine(report))
    for reason, rows in report.doubts().items():
        affected = "every row" if len(rows) == len(report.rows) else ", ".join(label(report, row) for row in rows)
        note(f"not trustworthy: {affected}: {reason}")
    for text in sorted({row.accuracy_note for row in report.rows if row.balanced_accuracy is None}):
        note(f"balanced accuracy: {text}")
    for remark in report.remarks():
        note(remark)


def machine(report: LatencyReport) -> str:
    """Describe the machine's state during the benchmark, as far as it could be read."""
    device, before, after = report.device, report.before, report.after
    clock_mhz, celsius = (after.frequency_mhz, after.temperature_c) if after else (None, None)
    details = [
        *device.virtualization,
        f"governor {device.governor}" if device.governor else "",
        f"{clock_mhz:.0f} MHz" + (f" of {device.max_frequency_mhz:.0f}" if device.max_frequency_mhz else "")
        if clock_mhz
        else "",
        f"{before.temperature_c:.0f} °C before, {celsius:.0f} °C after"
        if before and before.temperature_c and celsius
        else "",
        f"on {after.power}" if after and after.power else "",
        "" if report.foreign_cpu is None else f"other processes used {report.foreign_cpu:.0%} of the cores",
    ]
    state = ", ".join(detail for detail in details if detail)
    if clock_mhz and celsius:
        return f"machine: {state}"
    return f"machine: {state or 'nothing known'}; clock frequency or temperature not available"


def label(report: LatencyReport, row: Row) -> str:
    """Return the file's name, with runtime and threads if the report has several rows of it."""
    same = [other for other in report.rows if other.file == row.file]
    runtime = row.runtime if len({other.runtime for other in same}) > 1 else ""
    threads = f"{row.threads} threads" if row.threads > 1 else "1 thread"
    details = [runtime, threads if len({other.threads for other in same}) > 1 else ""]
    suffix = ", ".join(detail for detail in details if detail)
    return f"{row.file} ({suffix})" if suffix else row.file


def _times(report: LatencyReport, row: Row) -> list[str | None]:
    accuracy = figure(row.balanced_accuracy)
    if row.p50_ms is None:
        return ["not timed", *[None] * 5, accuracy]
    p50, p90, p99 = (figure(value, 2) for value in (row.p50_ms, row.p90_ms, row.p99_ms))
    interval = " to ".join(f"{end:.2f}" for end in row.p50_interval_ms) if row.p50_interval_ms else None
    times = [p50, interval, p90, p99] if report.protocol.headline == 50 else [p90, p50, interval, p99]
    return [*times, figure(row.ratio_to_fp32, 2), figure(row.ratio_to_eager, 2), accuracy]


def _costs(row: Row) -> list[str | None]:
    times = [figure(value, 1) for value in (row.load_ms, row.first_inference_ms, row.peak_rss_mib)]
    return [*times, figure(row.size_bytes / 1e6, 2)]
