"""The report's section on latency: times, memory and size on one device, and accuracy beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skinedge.run.class_order import read_reference
from skinedge.run.report_schemas import Latency, LatencyRow
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.latency.targets import sample_key
from skinedge_bench.report import pareto
from skinedge_bench.report.charts import Distributions, Timings
from skinedge_bench.report.content import Block, Chart, Charts, Missing, Section, Text
from skinedge_bench.report.pareto import Candidate, Pareto
from skinedge_bench.report.sources import REFERENCE, Sources

STEPS = ("decode", "resize", "infer", "label")
COLUMNS = (
    *("file", "p50 ms", "p90 ms", "p99 ms", "roofline bound ms", "x fp32", "x eager", "load ms", "first ms", "RSS MiB"),
    *("MB", "balanced accuracy", "samples"),
)


def latency(sources: Sources) -> Section:
    """Show times, memory and size on the device that measured, and accuracy against latency."""
    report = sources.latency
    if report is None:
        return Section("Latency", (Missing("Not measured", "skinedge bench RUN"),))
    rows, reasons = report.rows, report.recommendation.reasons if report.recommendation else ()
    blocks: list[Block] = [Text(_about(report))]
    blocks += [Text(f"{reason[:1].upper()}{reason[1:]}.") for reason in reasons]
    blocks += [*_outdated(sources, rows), _times(rows)]
    blocks += [
        Text(f"Not trustworthy, {_row_name(row, rows)}: {'; '.join(row.reasons)}.") for row in rows if row.reasons
    ]
    blocks += [Text(remark) for remark in (*report.remarks, report.floor_method) if remark]
    blocks += [*_charts(sources, report), *_end_to_end(rows)]
    return Section("Latency", tuple(blocks))


def _about(report: Latency) -> str:
    device = report.device
    libraries = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    host = f"{report.host}: " if report.host else ""
    return f"{host}{device.cpu}, {device.system}; {libraries}. Protocol: {report.protocol.name}."


def _outdated(sources: Sources, rows: Sequence[LatencyRow]) -> Iterator[Missing]:
    """Name the measured files that have changed since."""
    names = dict.fromkeys(row.file for row in rows if sources.is_outdated(row.file, row.sha256))
    if names:
        yield Missing(f"Measured on earlier files than the run has now: {', '.join(names)}", "skinedge bench RUN")


def _times(rows: Sequence[LatencyRow]) -> Table:
    return Table("Every file and runtime", COLUMNS, [_time_cells(row, _row_name(row, rows)) for row in rows])


def _time_cells(row: LatencyRow, name: str) -> list[Cell]:
    bound = None if row.floor is None else row.floor.ms
    times = (row.p50_ms, row.p90_ms, row.p99_ms, bound, row.ratio_to_fp32, row.ratio_to_eager)
    memory = (row.load_ms, row.first_inference_ms, row.peak_rss_mib)
    return [
        name,
        *(number(value, 2) for value in times),
        *(number(value, 1) for value in memory),
        f"{row.size_bytes / 1e6:.2f}" if row.size_bytes else None,
        number(row.balanced_accuracy),
        str(row.n),
    ]


def _end_to_end(rows: Sequence[LatencyRow]) -> Iterator[Table]:
    """Yield the end-to-end latency and its steps, of reports that measured it."""
    cells: list[list[Cell]] = []
    for row in rows:
        if (timing := row.end_to_end) is not None:
            total = [number(timing.p50_ms, 2), number(timing.p90_ms, 2), str(timing.n)]
            cells.append([_row_name(row, rows), *total, *(number(timing.parts_ms.get(step), 2) for step in STEPS)])
    if cells:
        columns = ("file", "p50 ms", "p90 ms", "images", *(f"{step} ms" for step in STEPS))
        yield Table("From encoded photo to label", columns, cells)


def _row_name(row: LatencyRow, rows: Sequence[LatencyRow]) -> str:
    several = len({other.threads for other in rows}) > 1
    return f"{row.file} ({row.runtime}" + (f", {row.threads} threads)" if several else ")")


def _charts(sources: Sources, report: Latency) -> Iterator[Block]:
    charts: list[Chart] = []
    if timings := tuple(_timings(report)):
        charts.append(Distributions("Distribution of latency", timings))
    ranked = pareto.ranked(list(candidates(sources, report)))
    if any(not candidate.incomparable for candidate in ranked):
        charts.append(Pareto(ranked))
    if charts:
        yield Charts(tuple(charts))
    if ranked:
        yield pareto.table(ranked)


def _timings(report: Latency) -> Iterator[Timings]:
    for row in report.rows:
        blocks = report.samples_ms.get(sample_key(row.runtime, row.file, row.threads), ())
        if samples := [ms for block in blocks for ms in block]:
            yield Timings(_row_name(row, report.rows), samples)


def candidates(sources: Sources, report: Latency) -> Iterator[Candidate]:
    """Yield every file with a latency and an accuracy: this run's, then those of the other runs."""
    own = sources.bundle
    yield from _candidates("", report, "")
    images = read_reference(own).ids if own.has(REFERENCE) else None
    for bundle, other in sources.others:
        other_images = read_reference(bundle).ids if bundle.has(REFERENCE) else None
        incomparable = f"other CPU: {other.device.cpu}" if other.device.cpu != report.device.cpu else ""
        incomparable = incomparable or ("" if other_images == images else "other test images")
        yield from _candidates(bundle.manifest.name, other, incomparable)


def _candidates(run: str, report: Latency, incomparable: str) -> Iterator[Candidate]:
    for row in report.rows:
        if row.p50_ms is not None and row.balanced_accuracy is not None:
            name = _row_name(row, report.rows).replace(f" ({row.runtime})", "")
            figures = (row.runtime, row.precision, row.p50_ms, row.balanced_accuracy, row.size_bytes)
            yield Candidate(run, name, *figures, incomparable)
