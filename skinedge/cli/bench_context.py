"""What `skinedge bench` shows beside the latencies: the floor, the way from an image to its label, and what to use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from skinedge.cli.common import figure, note, table

if TYPE_CHECKING:
    from skinedge_bench.latency_report import LatencyReport, Row

PARTS = ("decode", "resize", "infer", "label")


def show_context(report: LatencyReport) -> None:
    """A second table, and the recommendation; how the floor is meant goes to standard error."""
    rows = [row for row in report.rows if row.floor or row.end_to_end]
    if rows:
        source = f": {report.photos}" if report.photos else ""
        columns = ("file", "runtime", "p50 ms", "floor ms", "x floor", "image to label", *PARTS)
        table(f"the floor, and from image to label{source}", columns, [_cells(row) for row in rows])
    for reason in report.recommendation().reasons:
        typer.echo(reason)
    if report.peaks:
        reading = dict(report.peaks.read_gb_s)[report.peaks.memory_bytes]
        note(
            f"floor: one core reached {report.peaks.int8_gmacs:.0f} (int8) and {report.peaks.fp32_gmacs:.0f} (fp32) "
            f"billion multiply-accumulates a second in a matrix product, and read {reading:.0f} GB/s of memory; a "
            "bound from below, method in the JSON"
        )
    for row in rows:
        if row.floor and row.p50_ms and row.p50_ms < row.floor.ms:
            note(f"{row.file} ({row.runtime}): faster than its floor: this machine's peak was measured too low")


def _cells(row: Row) -> list[str | None]:
    """Medians in milliseconds; of the parts, also their shares."""
    floor, chain = row.floor, row.end_to_end
    threads = f", {row.threads} threads" if row.threads > 1 else ""
    shares = chain.shares if chain else {}
    return [
        row.file,
        f"{row.runtime}{threads}",
        figure(row.p50_ms, 2),
        figure(floor.ms, 2) if floor else None,
        figure(row.p50_ms / floor.ms, 1) if floor and row.p50_ms else None,
        figure(chain.p50_ms, 2) if chain else None,
        *(f"{chain.parts_ms[part]:.2f} ({shares[part]:.0%})" if chain else None for part in PARTS),
    ]
