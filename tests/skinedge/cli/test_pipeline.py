"""The closing sentences of `skinedge run`."""

from __future__ import annotations

from skinedge.cli.pipeline import latency_sentence
from skinedge_bench.device import describe_device
from skinedge_bench.latency.protocol import read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

FILE = "model.int8.tflite"


def report(*rows: Row) -> LatencyReport:
    return LatencyReport(describe_device({}), read_protocol("quick"), 0, rows)


def row(milliseconds: float | None, threads: int = 1, *reasons: str) -> Row:
    return Row(FILE, "litert", "int8", threads, 1, "0" * 64, p50_ms=milliseconds, trustworthy=not reasons,
               reasons=reasons)  # fmt: skip


def test_the_latency_of_the_fastest_row() -> None:
    assert latency_sentence(report(row(4.0), row(2.46, 2)), FILE) == (
        "One image takes 2.5 ms (median, litert, 2 threads, this machine)."
    )
    assert latency_sentence(report(row(None)), FILE) is None and latency_sentence(report(row(4.0)), "other") is None


def test_a_latency_in_doubt_is_not_stated_alone() -> None:
    busy = "other processes used 60% of the 2 cores during the benchmark"
    sentence = latency_sentence(report(row(4.0, 1, busy, "noisy")), FILE)
    assert sentence is not None and sentence.startswith("One image takes 4.0 ms (median, litert, 1 thread, this")
    assert f"Not trustworthy: {busy}; noisy. Measure again on an idle machine: skinedge bench" in sentence
