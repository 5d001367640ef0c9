"""The latency tables of docs/results.md match the committed reports."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from experiments import tables
from skinedge.core.errors import SkinedgeError
from skinedge_bench.device import describe_device
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.regression import read_report
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

ROW = Row("model.fp32.onnx", "onnxruntime", "fp32", 1, 13_500_000, "0", n=1000, trustworthy=True)
TIMED = replace(
    ROW, p50_ms=9.404, p50_interval_ms=(9.35, 9.51), p90_ms=10.33, p99_ms=12.0, ratio_to_fp32=1.0, peak_rss_mib=98.6
)
MISSING = replace(ROW, file="model.safetensors", runtime="torch", n=0, trustworthy=False, reasons=("not installed",))


@pytest.fixture
def report(tmp_path: Path) -> Path:
    here = replace(describe_device({"onnxruntime": "1.32.0"}), cpu="A CPU", cores=4, virtualization=("container",))
    rows = (MISSING, TIMED)
    latency = LatencyReport(here, read_protocol("standard"), 0, rows, measured_at="2026-11-25T20:00:00+00:00")
    path = tmp_path / "a-device.json"
    path.write_text(latency.to_text())
    return path


def test_a_table_has_the_figures_of_its_report(report: Path) -> None:
    title, _, head, line, *rows = tables.tables([report]).splitlines()
    assert title == (
        "**A CPU, 4 cores, container**: 1 thread, 1,000 samples each in blocks that take turns, times as fast by p50; "
        "onnxruntime 1.32.0; 2026-11-25, `bench/results/a-device.json`"
    )
    assert head.count("|") == line.count("|") == rows[0].count("|") == rows[1].count("|") == 10
    assert rows[0] == "| `model.safetensors` |  |  |  |  |  |  |  | 13.5 |"
    assert rows[1] == "| `model.fp32.onnx` | 9.40 | 9.35 to 9.51 | 10.33 | 12.00 | 1.00 |  | 99 | 13.5 |"
    assert rows[2:] == ["", "`model.safetensors`: not installed."]


def test_only_the_text_between_the_markers_is_replaced(report: Path) -> None:
    text = f"before\n{tables.START}\nold\n{tables.END}\nafter\n"
    new = tables.updated(text, tables.tables([report]))
    assert new.startswith(f"before\n{tables.START}\n**A CPU") and new.endswith(f"{tables.END}\nafter\n")
    assert "old" not in new and tables.updated(new, tables.tables([report])) == new
    for wrong in ("no markers", f"{tables.START} only", text + text):
        with pytest.raises(SkinedgeError, match="markers"):
            tables.updated(wrong, "")


def test_a_missing_or_damaged_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SkinedgeError, match="make bench-device"):
        tables.tables([])
    for text in ("{", "[]", '{"schema": "skinedge.verify/1"}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(SkinedgeError, match=r"bad\.json: not a report of bench"):
            tables.tables([tmp_path / "bad.json"])


def test_the_page_matches_the_committed_reports() -> None:
    reports = sorted(tables.RESULTS.glob("*.json"))
    if not reports:
        pytest.skip("no report of a device is committed yet")
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.updated(page, tables.tables(reports)) == page, "run: make bench-table"
    for path in reports:
        text = path.read_text(encoding="utf-8")
        assert path.stat().st_size < 200_000
        assert not re.search(r"/(home|Users|root|tmp|work|mnt)/", text)  # no path of the author's machine
        report = read_report(path)
        assert all(len(report.samples_ms[row.key]) for row in report.rows if row.n)
