"""The second table of `skinedge bench`: roofline bounds, end-to-end latency and the recommendation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skinedge.cli.common import figure, note, table
from skinedge.core.terminal import say

if TYPE_CHECKING:
    from skinedge_bench.latency.report import LatencyReport
    from skinedge_bench.latency.row import Row

PARTS = ("decode", "resize", "infer", "label")


def show_context(report: LatencyReport, names: Sequence[str]) -> None:
    """Print the table and the recommendation; explain the bound on standard error. names: label of each row."""
    cells = [_cells(name, row) for name, row in zip(names, report.rows, strict=True) if row.floor or row.end_to_end]
    if cells:
        source = f"; end to end (image to label), ms and share of each part: {report.photos}" if report.photos else ""
        columns = ("file", "p50 ms", "bound ms", "x bound", "end to end", *PARTS)
        table(f"Roofline bound{source}", columns, cells)
    for reason in report.recommendation().reasons:
        say(reason)
    if report.peaks:
        reading = dict(report.peaks.read_gb_s)[report.peaks.memory_bytes]
        note(
            f"roofline bound: one core reached {report.peaks.int8_gmacs:.0f} (int8) and "
            f"{report.peaks.fp32_gmacs:.0f} (fp32) billion multiply-accumulates per second in a matrix product, and "
            f"read {reading:.0f} GB/s of memory; a lower bound of the latency, method in the JSON"
        )
    for name, row in zip(names, report.rows, strict=True):
        if row.floor and row.p50_ms and row.p50_ms < row.floor.ms:
            note(f"{name}: faster than its roofline bound: the machine's peak was measured too low")


def _cells(name: str, row: Row) -> list[str | None]:
    """Return a row of the table: medians in ms, and the share of each part."""
    bound, end_to_end = row.floor, row.end_to_end
    shares = end_to_end.shares if end_to_end else {}
    return [
        name,
        figure(row.p50_ms, 2),
        figure(bound.ms, 2) if bound else None,
        figure(row.p50_ms / bound.ms, 1) if bound and row.p50_ms else None,
        figure(end_to_end.p50_ms, 2) if end_to_end else None,
        *(f"{end_to_end.parts_ms[part]:.1f} {shares[part]:.0%}" if end_to_end else None for part in PARTS),
    ]
