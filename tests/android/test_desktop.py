"""What the desktop tests left behind: the benchmark's JSON, which must be `skinedge bench`'s own."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from skinedge_bench.device import Device
from skinedge_bench.latency.conditions import Conditions
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row

OUT = Path(__file__).resolve().parents[2] / ".cache" / "android" / "build" / "oracle" / "bench.json"
if not OUT.is_file():
    pytest.skip("the desktop tests have not run: make android-test", allow_module_level=True)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found = json.loads(OUT.read_text())
    assert isinstance(found, dict)
    return found


def test_bench_reads_it_back() -> None:
    from skinedge_bench.latency.regression import read_report

    report = read_report(OUT)
    assert report.document()["rows"] and report.rows[0].runtime == "litert" and report.rows[0].n == 120


def names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}


def test_the_fields_are_those_of_bench(document: dict[str, Any]) -> None:
    assert document["schema"] == "skinedge.bench/1"
    report = LatencyReport(Device(**document["device"]), Protocol(**document["protocol"]), document["seed"], ())
    assert set(document) == {"schema", "model_id", "model_sha256", "samples_ms", *report.document()}
    (row,) = document["rows"]
    assert set(row) == names(Row)
    assert all(set(moment) == names(Conditions) for moment in document["conditions"].values())


def test_the_figures_are_what_bench_makes_of_the_samples(document: dict[str, Any]) -> None:
    from skinedge_bench.latency.block_stats import noise_reasons, summarize

    (row,) = document["rows"]
    blocks = document["samples_ms"][Row(**row).key]
    said = summarize(blocks)
    assert row["n"] == said.n == 120 and row["p99_ms"] is None
    assert row["p50_ms"] == pytest.approx(said.p50_ms, rel=1e-12)
    assert row["p90_ms"] == pytest.approx(said.p90_ms, rel=1e-12)
    assert tuple(row["reasons"]) == noise_reasons(blocks)
    assert said.p50_interval_ms is not None
    low, high = row["p50_interval_ms"]
    assert min(map(min, blocks)) <= low <= high <= max(map(max, blocks))
