"""skinedge bench: measurements, summaries and reasons to distrust them. No timing is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.files import sha256
from skinedge.run.plugins import runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge_bench import device
from skinedge_bench.latency import bench as latency_bench
from skinedge_bench.latency.accuracy import accuracies
from skinedge_bench.latency.probe import probe
from skinedge_bench.latency.protocol import Protocol, protocol_names, read_protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.targets import BenchRequest, run_targets
from skinedge_bench.latency.timer import SETTLE, interleave
from skinedge_bench.loaded_model import open_file
from skinedge_bench.runtimes.session import open_as
from skinedge_bench.verify import verify

QUICK = BenchRequest("quick")

Cli = Callable[..., tuple[int, str, str]]
ROW_KEYS = {
    *("file", "runtime", "precision", "threads", "p50_ms", "p90_ms", "p99_ms", "load_ms", "first_inference_ms"),
    *("peak_rss_mib", "size_bytes", "n", "balanced_accuracy", "trustworthy", "reasons"),
}


@pytest.fixture(scope="module")
def benched(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, LatencyReport]:
    import shutil

    bundle = Bundle.open(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("bench") / "run")))
    report = latency_bench.bench(bundle, QUICK)
    return bundle.reload(), report


def test_a_row_for_every_file_in_its_runtime(benched: tuple[Bundle, LatencyReport]) -> None:
    _, report = benched
    assert [(row.file, row.runtime, row.precision) for row in report.rows] == [
        ("model.safetensors", "torch", "fp32"),
        ("model.fp32.onnx", "onnxruntime", "fp32"),
        ("model.fp32.tflite", "litert", "fp32"),
        ("model.int8.onnx", "onnxruntime", "int8"),
        ("model.int8.tflite", "litert", "int8"),
    ]
    protocol = read_protocol("quick")
    for row in report.rows:
        assert row.n == protocol.block * protocol.blocks and row.p99_ms is None
        assert row.p50_ms is not None and row.p90_ms is not None and 0 < row.p50_ms <= row.p90_ms
        assert row.load_ms and row.first_inference_ms and row.golden in ("pass", "inconclusive")
        assert row.trustworthy == (not row.reasons)
    memory = {row.runtime: row.peak_rss_mib for row in report.rows}
    assert 20 < (memory["litert"] or 0) < (memory["torch"] or 0)  # in separate processes: only torch is large


def test_accuracy_and_size_of_each_file(benched: tuple[Bundle, LatencyReport]) -> None:
    bundle, report = benched
    figures = {file.name: file.figures for file in verify.verify(bundle).files}
    for row in report.rows:
        assert row.size_bytes == (bundle.root / row.file).stat().st_size
        if row.file == "model.safetensors":
            reference = np.load(bundle.root / "reference.npz")
            predicted, labels = reference["logits"].argmax(axis=1), reference["label"]
            assert row.accuracy_note == "reference.npz"
            assert row.balanced_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
            continue
        expected = figures[row.file]
        assert expected is not None and row.balanced_accuracy == pytest.approx(expected.balanced_accuracy)


def test_the_report_in_the_run_keeps_the_raw_samples(benched: tuple[Bundle, LatencyReport]) -> None:
    bundle, report = benched
    saved = json.loads(bundle.file("reports/latency.json").read_text())
    assert saved["schema"] == "skinedge.bench/1" and saved["model_id"] == bundle.manifest.id
    assert saved["model_sha256"] == bundle.entries()["model.safetensors"].sha256
    for row, saved_row in zip(report.rows, saved["rows"], strict=True):
        blocks = saved["samples_ms"][f"{row.runtime} {row.file}"]
        assert [len(block) for block in blocks] == [20] * 6
        assert saved_row["p50_ms"] == pytest.approx(float(np.median(np.concatenate(blocks))))


def test_accuracy_comes_from_a_parity_report_of_the_same_file(run: Bundle, tmp_path: Path) -> None:
    verify.verify(run)
    root = run.reload().manifest
    bundle = replace(run.reload(), manifest=replace(root, data_root=str(tmp_path / "gone")))
    targets = run_targets(bundle, QUICK)
    results = accuracies(bundle, None, targets, {})
    assert set(results) == {target.path.name for target in targets}
    assert results["model.int8.onnx"][1] == "reports/parity.json"
    others = [replace(target, sha256="another") for target in targets]
    assert set(accuracies(bundle, None, others, {})) == {"model.safetensors"}


def test_without_torch_and_without_images(cli: Cli, imageless: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a small device: other rows are measured, empty rows and null accuracies have a reason."""
    monkeypatch.setitem(sys.modules, "torch", None)  # `import torch` fails, as in an installation without torch
    code, out, err = cli("bench", imageless.root, "--protocol", "quick", "--json")
    document = json.loads(out)
    assert code == 0 and "Traceback" not in err
    assert document["schema"] == "skinedge.bench/1" and document["model_id"] == imageless.manifest.id
    assert {"cpu", "cores", "features", "int8_dot_product", "governor", "virtualization", "versions"} <= set(
        document["device"]
    )
    assert "torch" not in document["device"]["versions"]
    assert all(set(row) >= ROW_KEYS for row in document["rows"])
    first, *rest = document["rows"]
    assert first["file"] == "model.safetensors" and first["p50_ms"] is None and first["reasons"] == ["not installed"]
    assert not first["trustworthy"] and first["balanced_accuracy"] is not None
    for row in rest:
        assert row["p50_ms"] and row["ratio_to_eager"] is None
        assert row["balanced_accuracy"] is None and "golden vectors" in row["accuracy_note"]
        assert row["golden"] in ("pass", "inconclusive")


def test_a_wrong_file_is_not_trustworthy_and_the_command_fails(cli: Cli, imageless: Bundle) -> None:
    import onnx

    path = imageless.root / "model.fp32.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if "classifier" in tensor.name:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(-values, tensor.name))
    onnx.save(model, path)
    text = (imageless.root / "manifest.json").read_text()
    listed = imageless.entries()["model.fp32.onnx"].sha256
    (imageless.root / "manifest.json").write_text(text.replace(listed, sha256(path)))
    code, out, err = cli("bench", imageless.root, "--protocol", "quick", "--json")
    assert code == 1 and "golden vectors failed in: model.fp32.onnx (onnxruntime)" in err
    rows = {row["file"]: row for row in json.loads(out)["rows"]}
    wrong = rows["model.fp32.onnx"]
    assert wrong["golden"] == "fail" and not wrong["trustworthy"]
    assert any("golden" in reason for reason in wrong["reasons"])
    assert rows["model.fp32.tflite"]["golden"] == "pass"
    saved = json.loads(imageless.reload().file("reports/latency.json").read_text())
    assert [row["golden"] for row in saved["rows"]] == [row["golden"] for row in json.loads(out)["rows"]]


def test_blocks_are_interleaved_in_a_seeded_order_after_a_warm_up() -> None:
    def order(seed: int) -> tuple[list[str], dict[str, list[list[float]]]]:
        log: list[str] = []
        work = {name: lambda index, name=name: log.append(name) for name in "abc"}
        plan = Protocol("test", warmup=3, block=20, blocks=8, min_seconds=0.0)
        samples = interleave(work, plan, seed)
        return log, samples

    log, samples = order(1)
    assert log[:9] == list("aaabbbccc")
    step = SETTLE + 20
    rounds = [log[9 + start : 9 + start + 3 * step : step] for start in range(0, 8 * 3 * step, 3 * step)]
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds) and len({tuple(r) for r in rounds}) > 1
    assert all([len(block) for block in blocks] == [20] * 8 for blocks in samples.values())
    assert order(1)[0] == log and order(2)[0] != log


def test_more_blocks_until_the_minimum_time_is_reached() -> None:
    plan = Protocol("test", warmup=1, block=20, blocks=1, min_seconds=0.02)
    samples = interleave({"a": lambda index: None}, plan, 0)
    assert sum(map(sum, samples["a"])) >= 20 and len(samples["a"]) > 1


def test_an_emulator_is_not_timed(cli: Cli, imageless: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden vectors are checked, and no time is reported; `make pi` shows the same under a real emulator."""
    monkeypatch.setattr(device, "emulation", lambda: "aarch64 on x86_64")
    code, out, err = cli("bench", imageless.root, "--protocol", "quick", "--json")
    document = json.loads(out)
    assert code == 0 and "latency is not measured" in err and document["device"]["emulated"] == "aarch64 on x86_64"
    assert len(document["rows"]) >= 5
    for row in document["rows"]:
        assert row["p50_ms"] is row["load_ms"] is row["p90_ms"] is row["end_to_end"] is None and not row["trustworthy"]
        assert "emulated (aarch64 on x86_64): not timed" in row["reasons"] and row["n"] == 0
        assert row["golden"] in ("pass", "inconclusive")
    saved = json.loads(imageless.reload().file("reports/latency.json").read_text())
    assert saved["samples_ms"] == {} and saved["conditions"] == {"before": None, "after": None}


def test_protocols_and_refusals(cli: Cli, tiny_run: Path) -> None:
    assert protocol_names() == ["mlperf", "quick", "standard"]
    for name in protocol_names():
        assert read_protocol(name).block >= 20
    quick, standard, mlperf = (read_protocol(name) for name in ("quick", "standard", "mlperf"))
    assert standard.block * standard.blocks >= 1000 > quick.block * quick.blocks
    assert (mlperf.block * mlperf.blocks, mlperf.min_seconds) == (1024, 60)
    assert (quick.headline, standard.headline, mlperf.headline) == (50, 50, 90)
    code, _, err = cli("bench", tiny_run, "--protocol", "fast")
    assert code == 1 and "mlperf, quick, standard" in err
    code, _, err = cli("bench", tiny_run, "--threads", 4096)
    assert code == 1 and "--threads 4096" in err
    with pytest.raises(ConfigError, match="threads 0"):
        latency_bench.bench(Bundle.open(tiny_run), BenchRequest(threads=(0,)))


def test_a_failed_probe_gives_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(SkinedgeError, match=r"bad\.onnx"):
        probe("onnxruntime", tmp_path / "bad.onnx", 1)


def test_a_single_file(cli: Cli, foreign: Callable[..., Path]) -> None:
    code, out, err = cli("bench", foreign(), "--protocol", "quick")
    assert code == 0 and ".onnx" in out and "single files" in err
    code, out, err = cli("bench", foreign(), "--data", ".")
    assert code == 1 and out == "" and "--data" in err


def test_a_single_file_of_ours_names_its_model(cli: Cli, tiny_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "copied.tflite"
    path.write_bytes((tiny_run / "model.int8.tflite").read_bytes())
    code, out, _ = cli("bench", path, "--protocol", "quick", "--json")
    document = json.loads(out)
    assert code == 0 and document["model_id"] == Bundle.open(tiny_run).manifest.id
    assert document["model_sha256"] == document["rows"][0]["sha256"] == sha256(path)
    assert document["rows"][0]["precision"] == "int8" and document["rows"][0]["partitions"] == 1


def test_a_probe_does_not_time_the_detection_of_logits(foreign: Callable[..., Path]) -> None:
    """The first run of a third-party file infers eight more images, unless another session has found its format."""
    path, pixels = foreign(), np.zeros((1, 8, 8, 3), np.uint8)
    runtime, known = runtimes_for(path)[0], open_file(path).output_format
    for output_format, expected in ((None, [8, 1, 1]), (known, [1, 1])):
        session = open_as(runtime, path, 1, output_format)
        calls: list[int] = []
        real = session._call  # type: ignore[attr-defined]
        session._call = lambda pixels: (calls.append(len(pixels)), real(pixels))[1]  # type: ignore[attr-defined]  # noqa: B023
        assert session.run(pixels).logits is not None
        session.run(pixels)
        assert calls == expected
