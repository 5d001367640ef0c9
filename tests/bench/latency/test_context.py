"""Roofline bounds, end-to-end latencies, gates and the recommendation of a real benchmark."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from skinedge.core.files import sha256
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency import bench as latency_bench
from skinedge_bench.latency.accuracy import parity_verdicts
from skinedge_bench.latency.regression import read_report
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.targets import BenchRequest, run_targets
from skinedge_bench.split_images import test_split as samples_of
from skinedge_bench.verify import verify

Cli = Callable[..., tuple[int, str, str]]
REQUEST = BenchRequest(protocol="quick", runtimes=("litert", "onnxruntime"))


@pytest.fixture(scope="module")
def benched(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, LatencyReport]:
    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("context") / "run")))
    report = latency_bench.bench(bundle, REQUEST)
    return bundle.reload(), report


def test_every_file_has_a_roofline_bound(benched: tuple[Bundle, LatencyReport]) -> None:
    _, report = benched
    assert report.peaks is not None
    for row in report.rows:
        assert row.floor is not None and row.floor.ms > 0 and row.floor.bound_by in ("arithmetic", "memory")
        assert row.floor.workload.weight_bytes in dict(report.peaks.read_gb_s)
    assert len({row.floor.workload.macs for row in report.rows if row.floor}) == 1  # one network in four files
    assert "depthwise" in str(report.document()["floor_method"])


def test_every_file_was_timed_end_to_end(benched: tuple[Bundle, LatencyReport]) -> None:
    bundle, report = benched
    assert report.photos is not None and report.photos.source == "test images of the run"
    assert report.photos.n == min(16, len(samples_of(bundle)))
    assert report.test_images and report.document()["test_images"] == report.test_images
    assert all(row.end_to_end is not None and row.end_to_end.n == 5 * 20 for row in report.rows)


def test_the_report_survives_a_round_trip(benched: tuple[Bundle, LatencyReport]) -> None:
    bundle, report = benched
    saved = read_report(bundle.root)
    assert saved.rows == report.rows and saved.peaks == report.peaks and saved.photos == report.photos
    assert saved.recommendation() == report.recommendation()


def test_without_a_parity_report_nothing_is_recommended(benched: tuple[Bundle, LatencyReport]) -> None:
    _, report = benched
    assert all(row.parity is None for row in report.rows)
    recommendation = report.recommendation()
    assert recommendation.file is None and len(recommendation.reasons) == 5
    assert "skinedge verify" in recommendation.reasons[1]


def test_a_parity_report_counts_for_its_sha256_and_its_instruction_set(run: Bundle) -> None:
    verify.verify(run)
    bundle = run.reload()
    parity = json.loads(bundle.file("reports/parity.json").read_text())
    targets, here = run_targets(bundle, REQUEST), parity["instruction_set"]
    names = {target.name for target in targets}
    verdicts = parity_verdicts(bundle, targets, here)
    assert verdicts.pop("model.safetensors") == "reference"
    assert verdicts == {name: parity["files"][name]["verdict"] for name in names}
    elsewhere = parity_verdicts(bundle, targets, [*here, "another"])
    held = {name: verdict for name, verdict in verdicts.items() if verdict != "fail"}
    assert held and all(elsewhere[name] == f"{verdict}_elsewhere" for name, verdict in held.items())
    path = bundle.root / "reports" / "parity.json"
    for entry in parity["files"].values():
        entry["sha256"] = "0" * 64
    text = (bundle.root / "manifest.json").read_text()
    before = sha256(path)
    path.write_text(json.dumps(parity))
    (bundle.root / "manifest.json").write_text(text.replace(before, sha256(path)))
    assert set(parity_verdicts(bundle.reload(), targets, here)) == {"model.safetensors"}


def test_the_command_prints_it_after_the_table(cli: Cli, imageless: Bundle) -> None:
    code, out, err = cli("bench", imageless.root, "--protocol", "quick", "--runtime", "litert")
    assert code == 0 and "end to end" in out and "synthetic images as JPEG" in out and "600 x 450 px" in out
    assert out.index("x fp32") < out.index("end to end") < out.index("no recommendation")
    assert "billion multiply-accumulates" in err and "a lower bound of the latency" in err


def test_a_single_file_is_timed_on_synthetic_images_and_not_recommended(cli: Cli, foreign: Callable[..., Path]) -> None:
    code, out, _ = cli("bench", foreign(), "--protocol", "quick", "--json")
    document = json.loads(out)
    row = document["rows"][0]
    assert code == 0 and row["floor"] is None  # a mean: no convolution, no product
    assert "synthetic images" in document["photos"]["source"] and row["end_to_end"]["parts_ms"]["decode"] > 0
    assert document["recommendation"]["file"] is None and document["test_images"] is None
    assert "no golden vectors" in document["recommendation"]["reasons"][1]
