"""Write the latency tables of docs/results.md from the committed reports in bench/results: `make bench-table`.

Replaces the text between the two markers with one table per report, in the order of their names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.generated import replaced
from skinedge.cli.bench_table import label
from skinedge.core.errors import SkinedgeError
from skinedge.core.files import write_atomic
from skinedge_bench.latency.regression import read_report
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

ROOT = Path(__file__).resolve().parents[2]
PAGE, RESULTS = ROOT / "docs" / "results.md", ROOT / "bench" / "results"
START, END = "<!-- latency: `make bench-table` writes this from bench/results -->", "<!-- end of latency -->"
COLUMNS = ("file", "p50 ms", "95 %", "p90 ms", "p99 ms", "times its fp32", "times PyTorch eager", "MiB", "MB")


def main() -> int:
    description = (__doc__ or "").partition("\n")[0]
    argparse.ArgumentParser(prog="python -m experiments.tables", description=description).parse_args()
    try:
        text = PAGE.read_text(encoding="utf-8")
        write_atomic(PAGE, updated(text, tables(sorted(RESULTS.glob("*.json")))))
    except SkinedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def updated(text: str, between: str) -> str:
    """Replace the tables of the page. Raises: SkinedgeError unless it has both markers exactly once."""
    return replaced(text, START, END, between)


def tables(paths: Sequence[Path]) -> str:
    """Return the tables as Markdown. Raises: SkinedgeError without a report, or for a file that is not one."""
    if not paths:
        raise SkinedgeError("no latency report found", todo="Write one: make bench-device DEVICE=NAME")
    return "\n\n".join(table(read_report(path), path) for path in paths)


def table(report: LatencyReport, path: Path) -> str:
    """Return one device's table; notes below it explain untrustworthy rows."""
    lines = [title(report, path), "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [f"| {' | '.join(cells(report, row))} |" for row in report.rows]
    doubts = [f"{row_names(report, rows)}: {reason}." for reason, rows in report.doubts().items()]
    return "\n".join([*lines, *(["", "  \n".join(doubts)] if doubts else [])])


def title(report: LatencyReport, path: Path) -> str:
    device, counts = report.device, dict.fromkeys(row.threads for row in report.rows)
    machine = f"{device.cpu}, {device.cores} cores" + "".join(f", {kind}" for kind in device.virtualization)
    threads = " and ".join(map(str, counts)) + (" thread" if list(counts) == [1] else " threads")
    versions = ", ".join(f"{name} {version}" for name, version in device.versions.items())
    day = (report.measured_at or "")[:10]
    return (
        f"**{machine}**: {threads}, {max(row.n for row in report.rows):,} samples each in blocks that take turns, "
        f"times as fast by p{report.protocol.headline}; {versions}; {day}, `bench/results/{path.name}`"
    )


def cells(report: LatencyReport, row: Row) -> list[str]:
    interval = row.p50_interval_ms
    return [
        name(report, row),
        number(row.p50_ms, 2),
        f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "",
        number(row.p90_ms, 2),
        number(row.p99_ms, 2),
        number(row.ratio_to_fp32, 2),
        number(row.ratio_to_eager, 1),
        number(row.peak_rss_mib, 0),
        f"{row.size_bytes / 1e6:.1f}",
    ]


def name(report: LatencyReport, row: Row) -> str:
    return f"`{row.file}`" + label(report, row).removeprefix(row.file)


def row_names(report: LatencyReport, rows: Sequence[Row]) -> str:
    return "Every row" if len(rows) == len(report.rows) else ", ".join(name(report, row) for row in rows)


def number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
