"""The tables of `skinedge bench`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from skinedge.cli.bench_table import label, machine, show
from skinedge_bench.device import describe_device
from skinedge_bench.latency.conditions import Conditions
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

HERE = replace(
    describe_device({"litert": "2.3.0"}), cpu="A CPU", virtualization=(), governor=None, max_frequency_mhz=None
)
ROW = Row("a.tflite", "litert", "int8", 1, 4_000_000, "0", 4.4, (4.3, 4.5), 4.9, 5.8, n=1024, trustworthy=True)
DOUBTED = replace(ROW, threads=2, trustworthy=False, reasons=("on battery", "slowed down by 20% during the benchmark"))
UNTIMED = Row("model.safetensors", "torch", "fp32", 1, 13_700_000, "1", reasons=("not installed", "on battery"))


def report(protocol: str, *rows: Row) -> LatencyReport:
    return LatencyReport(HERE, read_protocol(protocol), 0, rows)


@pytest.mark.parametrize(
    ("protocol", "first", "cells"), [("standard", "p50", ("4.40", "4.3")), ("mlperf", "p90", ("4.90", "4.40"))]
)
def test_the_headline_percentile_is_the_first_column(
    protocol: str, first: str, cells: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    show(report(protocol, ROW))
    title, _, heads, _, row, *_ = capsys.readouterr().out.splitlines()
    assert title.startswith(f"A CPU, 1 thread(s), 1024 samples per file ({protocol}); litert 2.3.0")
    assert [cell.strip() for cell in heads.strip("┃").split("┃")][1] == f"{first} ms"
    texts = [cell.strip() for cell in row.strip("│").split("│")]
    assert texts[0] == "a.tflite" and texts[1] == cells[0] and texts[2].startswith(cells[1])


def test_each_doubt_is_printed_once_with_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show(report("standard", replace(ROW, reasons=("on battery",)), DOUBTED, UNTIMED))
    printed = capsys.readouterr()
    assert "not timed" in printed.out
    assert "not trustworthy: every row: on battery\n" in printed.err
    assert "not trustworthy: a.tflite (2 threads): slowed down by 20% during the benchmark\n" in printed.err
    assert "not trustworthy: model.safetensors: not installed\n" in printed.err


def test_names_distinguish_rows() -> None:
    both = report("standard", ROW, DOUBTED, replace(ROW, runtime="other"))
    assert [label(both, row) for row in both.rows] == [
        "a.tflite (litert, 1 thread)",
        "a.tflite (litert, 2 threads)",
        "a.tflite (other, 1 thread)",
    ]
    assert label(report("standard", ROW), ROW) == "a.tflite"


def test_the_machines_state() -> None:
    assert machine(report("standard", ROW)) == "machine: nothing known; clock frequency or temperature not available"
    warm = Conditions(frequency_mhz=1500.0, temperature_c=60.6, power="mains")
    warm_report = replace(
        report("standard", ROW),
        device=replace(HERE, virtualization=("container",), governor="ondemand", max_frequency_mhz=1800.0),
        before=replace(warm, temperature_c=41.2),
        after=warm,
        foreign_cpu=0.02,
    )
    assert machine(warm_report) == (
        "machine: container, governor ondemand, 1500 MHz of 1800, 41 °C before, 61 °C after, on mains, "
        "other processes used 2% of the cores"
    )
