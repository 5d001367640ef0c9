"""`skinedge.bench/1` has three writers (bench, the page of `skinedge web`, the app) and one reader.

The app's document is read in tests/android/test_desktop.py, where its classes run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from skinedge.publish import bundled_model
from skinedge.run.manifest import MANIFEST
from skinedge_bench.latency.bench import bench_files, save_report
from skinedge_bench.latency.regression import read_report
from skinedge_bench.latency.targets import BenchRequest
from skinedge_bench.loaded_model import LoadedModel, open_file
from skinedge_bench.web.site import _bench_settings

PAGE = Path(__file__).resolve().parents[3] / "bench" / "skinedge_bench" / "web" / "page" / "benchmark.js"
BROWSER = """
import {benchmark} from './benchmark.mjs';
import {readFileSync} from 'node:fs';
globalThis.document = {hidden: false, addEventListener() {}, removeEventListener() {}};
Object.defineProperty(globalThis, 'navigator', {value: NAVIGATOR});
const bench = JSON.parse(readFileSync('bench.json'));
const spin = () => { const until = performance.now() + 0.05; while (performance.now() < until); };
const model = {run: async () => spin(), loadMs: 5, firstMs: 2, backend: 'WebAssembly, 1 thread'};
console.log(JSON.stringify(await benchmark(model, [0, 1], {...bench.protocols[0], min_seconds: 0}, bench, () => {})));
"""


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    if not (bundled_model.FOLDER / MANIFEST).is_file():
        pytest.skip("no model ships with this checkout")
    return open_file(bundled_model.FOLDER / "model.int8.tflite")


@pytest.mark.parametrize(
    "navigator", ["{userAgent: 'A browser/1', platform: 'Linux', hardwareConcurrency: 8}", "{userAgent: 'B'}"]
)
def test_the_pages_document_is_read(model: LoadedModel, tmp_path: Path, navigator: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed; tests/browser reads the page's document too")
    settings = _bench_settings(model, "litert.js")
    (tmp_path / "bench.json").write_text(json.dumps(settings))
    shutil.copyfile(PAGE, tmp_path / "benchmark.mjs")
    (tmp_path / "run.mjs").write_text(BROWSER.replace("NAVIGATOR", navigator))
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (tmp_path / "page.json").write_text(done.stdout)
    report = read_report(tmp_path / "page.json")
    (row,) = report.rows
    assert row.runtime == "litert.js" and row.n == 120 and row.p50_ms is not None and row.sha256 == model.sha256
    assert report.device.backend == "WebAssembly, 1 thread" and report.device.clock_step_ms is not None
    assert report.device.cores == (8 if "8" in navigator else 1) and report.device.governor is None
    assert len(report.samples_ms[row.key]) == 6


def test_the_document_of_bench_is_read(model: LoadedModel, tmp_path: Path) -> None:
    report = bench_files([model.path], BenchRequest("quick"))
    save_report(report, tmp_path / "own.json")
    again = read_report(tmp_path / "own.json")
    assert again == report
    (row,) = again.rows
    assert row.runtime == "litert" and row.partitions == 1 and row.outside == ()
