"""What `skinedge bench` shows beside the latencies: the floor, the way from an image to its label, and what to use."""

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
    """A second table, and the recommendation; how the floor is meant goes to standard error. names: of the rows."""
    cells = [_cells(name, row) for name, row in zip(names, report.rows, strict=True) if row.floor or row.end_to_end]
    if cells:
        source = f"; from image to label, ms and share of each part: {report.photos}" if report.photos else ""
        table(f"the floor{source}", ("file", "p50 ms", "floor ms", "x floor", "image to label", *PARTS), cells)
    for reason in report.recommendation().reasons:
        say(reason)
    if report.peaks:
        reading = dict(report.peaks.read_gb_s)[report.peaks.memory_bytes]
        note(
            f"floor: one core reached {report.peaks.int8_gmacs:.0f} (int8) and {report.peaks.fp32_gmacs:.0f} (fp32) "
            f"billion multiply-accumulates a second in a matrix product, and read {reading:.0f} GB/s of memory; a "
            "bound from below, method in the JSON"
        )
    for name, row in zip(names, report.rows, strict=True):
        if row.floor and row.p50_ms and row.p50_ms < row.floor.ms:
            note(f"{name}: faster than its floor: this machine's peak was measured too low")


def _cells(name: str, row: Row) -> list[str | None]:
    """Medians in milliseconds; of the parts, also their shares."""
    floor, chain = row.floor, row.end_to_end
    shares = chain.shares if chain else {}
    return [
        name,
        figure(row.p50_ms, 2),
        figure(floor.ms, 2) if floor else None,
        figure(row.p50_ms / floor.ms, 1) if floor and row.p50_ms else None,
        figure(chain.p50_ms, 2) if chain else None,
        *(f"{chain.parts_ms[part]:.1f} {shares[part]:.0%}" if chain else None for part in PARTS),
    ]
