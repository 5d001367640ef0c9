"""Targets of a benchmark: threads, runtimes, third-party files, and runtimes that a machine may lack."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from conftest import REPOSITORY

from skinedge.core.errors import BundleError, ConfigError, UnavailableError
from skinedge.data.loading import load_prepared
from skinedge.run.plugins import RUNTIMES, load, runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge_bench.latency import bench as latency_bench
from skinedge_bench.latency import targets
from skinedge_bench.latency.accuracy import accuracies
from skinedge_bench.latency.bench import bench, bench_files
from skinedge_bench.latency.measure import open_all
from skinedge_bench.latency.targets import (
    BenchRequest,
    choose_runtimes,
    file_targets,
    run_targets,
    thread_counts,
    why_missing,
)
from skinedge_bench.runtimes.ort_providers import ProviderRuntime
from skinedge_bench.split_images import test_split as split_of

Cli = Callable[..., tuple[int, str, str]]
Foreign = Callable[..., Path]
QUICK = BenchRequest("quick")


def test_threads_are_numbers_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "usable_cores", lambda: 4)
    assert thread_counts("1") == (1,)
    assert thread_counts("1, 2,4,all") == (1, 2, 4)
    assert thread_counts("all,1") == (4, 1)
    for text in ("", "one", "1;2", "1.5", "1,,2"):
        with pytest.raises(ConfigError, match="must be numbers or 'all'"):
            thread_counts(text)
    BenchRequest(threads=(1, 4)).checked()
    for count in (0, -1, 5):
        with pytest.raises(ConfigError, match=rf"--threads {count}: must be between 1 and 4 \(available cores\)"):
            BenchRequest(threads=(1, count)).checked()


def test_an_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown runtime 'tensorrt'\nValid: litert, onnxruntime"):
        BenchRequest(runtimes=("tensorrt",)).checked()


def test_quick_skips_compiled_runtimes(tmp_path: Path) -> None:
    def runtimes(request: BenchRequest, name: str) -> list[str]:
        return [runtime.name for runtime in choose_runtimes(tmp_path / name, request)]

    assert runtimes(QUICK, "model.safetensors") == ["torch"]
    assert runtimes(BenchRequest("standard"), "model.safetensors") == ["torch", "torch-compile"]
    assert runtimes(BenchRequest("quick", runtimes=("torch-compile",)), "model.safetensors") == ["torch-compile"]
    assert runtimes(BenchRequest(runtimes=("torch-compile",)), "model.onnx") == []
    for request in (QUICK, BenchRequest()):  # ONNX Runtime's providers in this build
        import onnxruntime

        providers = {f"onnxruntime-{p}" for p in ("cuda", "coreml", "openvino", "xnnpack")}
        available = {name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers()}
        rows = runtimes(request, "model.onnx")
        assert (
            rows[0] == "onnxruntime"
            and {r for r in rows if r in providers} == {f"onnxruntime-{p}" for p in available} & providers
        )


def test_a_missing_provider_lists_the_available_ones() -> None:
    runtime = load(RUNTIMES, "onnxruntime-cuda")
    if why_missing(runtime) is None:
        pytest.skip("this build of ONNX Runtime has CUDA")
    with pytest.raises(UnavailableError, match=r"no CUDAExecutionProvider\nIt has: .*CPUExecutionProvider"):
        runtime.version()


def test_a_provider_that_leaves_nodes_to_the_cpu_is_refused(foreign: Foreign) -> None:
    """The Azure provider is part of the CPU build, and takes none of a network's nodes."""
    import onnxruntime

    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no provider that takes no nodes")
    silent = onnxruntime.InferenceSession(str(foreign()), providers=["AzureExecutionProvider"])
    assert "CPUExecutionProvider" in silent.get_providers()  # the silent default
    runtime = ProviderRuntime("azure", "AzureExecutionProvider")
    assert why_missing(runtime) is None
    with pytest.raises(UnavailableError, match="not wholly in AzureExecutionProvider"):
        runtime.open(foreign(), 1)


def test_a_missing_runtime_has_a_row_with_the_reason(foreign: Foreign, capsys: pytest.CaptureFixture[str]) -> None:
    request = BenchRequest("quick", runtimes=("onnxruntime", "onnxruntime-cuda"))
    if why_missing(load(RUNTIMES, "onnxruntime-cuda")) is None:
        pytest.skip("this build of ONNX Runtime has CUDA")
    timed, missing = bench_files([foreign()], request).rows
    assert timed.p50_ms is not None and timed.n == 120
    assert missing.p50_ms is None and missing.ratio_to_fp32 is None and not missing.trustworthy
    assert missing.reasons == ("this build of ONNX Runtime has no CUDAExecutionProvider",)
    assert "assumed" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="does not run in litert"):
        bench_files([foreign()], BenchRequest("quick", runtimes=("litert",)))


def test_a_file_for_none_of_the_requested_runtimes_is_refused(run: Bundle, foreign: Foreign) -> None:
    with pytest.raises(ConfigError, match="does not run in litert") as refused:
        bench(run, BenchRequest("quick", runtimes=("litert",), beside=(foreign(),)))
    assert refused.value.where == str(foreign()) and not (run.root / "reports/latency.json").exists()


def test_files_of_equal_names_get_distinct_names(foreign: Foreign, tmp_path: Path) -> None:
    for folder in ("a", "b", "x/b"):
        (tmp_path / folder).mkdir(parents=True)
    files = [Path(shutil.copy(foreign(), tmp_path / folder / "m.onnx")) for folder in ("a", "b", "x/b")]
    request = BenchRequest("quick", threads=(1, 2)) if targets.usable_cores() > 1 else QUICK
    found = file_targets(files, [], request)
    assert list(dict.fromkeys(target.name for target in found)) == ["m.onnx", "b/m.onnx", "x/b/m.onnx"]
    assert len({target.key for target in found}) == len(found) == 3 * len(request.threads)
    assert not any(target.in_run for target in found)
    (again,) = file_targets(files[1:2], found[:1], QUICK)
    assert again.name == "b/m.onnx"
    for again_named in (file_targets(files[:1], [], QUICK), []):
        with pytest.raises(ConfigError, match="measured already"):
            file_targets([files[1], files[0], files[1]], again_named, QUICK)


def without_a_description(model: Path, to: Path, order: list[int], labels: list[str] | None) -> Path:
    """Write a run's ONNX file as from another tool: classes in another order, none of our metadata."""
    import onnx
    from onnx import helper, numpy_helper

    net = onnx.load(model)
    del net.metadata_props[:]
    net.graph.initializer.append(numpy_helper.from_array(np.array(order, np.int64), "order"))
    net.graph.node.append(helper.make_node("Gather", ["probabilities", "order"], ["scores"], axis=1))
    del net.graph.output[:]
    net.graph.output.append(helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["n", len(order)]))
    if labels is not None:
        helper.set_model_props(net, {"labels": "\n".join(labels)})
    onnx.save(net, to)
    return to


def measured_accuracies(bundle: Bundle, files: list[Path]) -> Mapping[str, tuple[float | None, str]]:
    request = BenchRequest("quick", runtimes=("onnxruntime",))
    found = [*run_targets(bundle, request), *file_targets(files, [], request)]
    return accuracies(bundle, None, found, open_all(found)[0])


def test_a_third_party_file_is_evaluated_if_it_names_the_runs_classes(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_run)
    labels = list(bundle.manifest.labels)
    order = [3, 0, 6, 1, 5, 2, 4]
    own = tiny_run / "model.fp32.onnx"
    named = without_a_description(own, tmp_path / "named.onnx", order, [labels[i] for i in order])
    nameless = without_a_description(own, tmp_path / "nameless.onnx", order, None)
    others = without_a_description(own, tmp_path / "others.onnx", order, [f"kind {i}" for i in order])
    found = measured_accuracies(bundle, [named, nameless, others])
    assert found["named.onnx"] == (pytest.approx(found["model.fp32.onnx"][0]), "measured")
    assert found["nameless.onnx"] == (None, "nameless.onnx does not name its classes")
    assert found["others.onnx"][0] is None and "has other classes than the run: kind 3" in found["others.onnx"][1]


def test_accuracy_on_the_test_images(tiny_run: Path) -> None:
    """Each ONNX file of the run, against pixels prepared here and scikit-learn."""
    bundle = Bundle.open(tiny_run)
    samples = split_of(bundle)
    pixels = load_prepared(Path(bundle.manifest.data_root), samples, bundle.manifest.preprocess)
    truth = [bundle.manifest.labels.index(sample.label) for sample in samples]
    for name, (value, source) in measured_accuracies(bundle, []).items():
        if name == "model.safetensors":
            continue
        predicted = runtimes_for(tiny_run / name)[0].open(tiny_run / name, 1).run(pixels).probabilities.argmax(axis=1)
        assert value == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, predicted))
        assert source == "measured"


def test_third_party_files_and_threads(cli: Cli, imageless: Bundle, foreign: Foreign, tmp_path: Path) -> None:
    counts = [1, 2] if targets.usable_cores() > 1 else [1]
    path = tmp_path / "new" / "report.json"
    options = ("--threads", ",".join(map(str, counts)), "--runtime", "onnxruntime", "--protocol", "quick")
    code, out, _ = cli("bench", imageless.root, *options, "--with", foreign(), "--out", path, "--json")
    document = json.loads(out)
    rows = document["rows"]
    names = ["model.fp32.onnx", "model.int8.onnx", "NHWC_n_False_FLOAT.onnx"]
    assert code == 0 and [(row["file"], row["threads"]) for row in rows] == [(n, t) for n in names for t in counts]
    other = rows[-1]
    assert other["p50_ms"] and other["golden"] is None and not other["in_run"]
    assert other["balanced_accuracy"] is None and "does not name its classes" in other["accuracy_note"]
    assert rows[0]["golden"] in ("pass", "inconclusive")
    low, high = rows[0]["p50_interval_ms"]
    assert low <= high and rows[0]["ratio_to_fp32_interval"] == [1, 1]
    saved = json.loads(path.read_text())
    assert saved["rows"] == rows and saved["model_id"] == imageless.manifest.id
    assert saved["samples_ms"] == json.loads(imageless.reload().file("reports/latency.json").read_text())["samples_ms"]
    keys = [f"onnxruntime {row['file']}" + (", 2 threads" if row["threads"] == 2 else "") for row in rows]
    assert list(saved["samples_ms"]) == keys and str(tmp_path) not in path.read_text()
    assert {"before", "after"} == set(saved["conditions"]) and saved["measured_at"] <= document["measured_at"]


def test_a_run_with_missing_files_is_not_measured(run: Bundle) -> None:
    before = (run.root / "manifest.json").read_text()
    (run.root / "model.int8.tflite").unlink()
    with pytest.raises(BundleError, match=r"model\.int8\.tflite: file is listed in the manifest but missing"):
        bench(run, QUICK)
    assert (run.root / "manifest.json").read_text() == before and not (run.root / "reports/latency.json").exists()


@pytest.mark.parametrize("name", ["reference.npz", "reports/parity.json"])
def test_files_needed_after_the_timings_are_checked_before(
    run: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not run.has(name):
        with run.stage("verify", "test", {}) as stage:
            stage.path(name).write_text("{}")
    (run.root / name).unlink()
    monkeypatch.setattr(latency_bench, "measure", lambda *_: pytest.fail("a benchmark was started"))
    with pytest.raises(BundleError, match=f"{name}: file is listed in the manifest but missing"):
        bench(run.reload(), QUICK)


def test_a_damaged_third_party_file_is_refused_before_the_benchmark(run: Bundle, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"bad\.tflite"):
        bench(run, BenchRequest("quick", beside=(bad,)))
    with pytest.raises(BundleError, match="no such model file"):
        bench(run, BenchRequest("quick", beside=(tmp_path / "none.onnx",)))


def test_a_report_that_cannot_be_kept_costs_no_benchmark(cli: Cli, foreign: Foreign, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, out, err = cli("bench", foreign(), "--protocol", "quick", "--out", tmp_path / "file" / "kept.json")
    assert code == 1 and out == "" and f"{tmp_path / 'file'}: cannot write" in err and "assumed" not in err
    code, out, err = cli("bench", foreign(), "--protocol", "quick", "--out", tmp_path)
    assert code == 1 and out == "" and f"{tmp_path}: is a folder" in err and "assumed" not in err


COMPILE = """
import sys
from pathlib import Path
import numpy as np
from skinedge.run import golden
from skinedge_bench.runtimes import torch_compile, torch_eager
path = Path(sys.argv[1])
pixels = golden.load(path.with_name("golden.npz")).pixels[:3]
try:
    logits = torch_compile.runtime.open(path, 1).run(pixels).logits
except Exception as error:
    print(type(error).__name__, error)
else:
    expected = torch_eager.runtime.open(path, 1).run(pixels).logits
    print("difference", float(np.abs(logits - expected).max()))
"""


def compiled(run: Path, cache: Path, **environment: str) -> str:
    """Run in a separate process, since a compiler is cached once found."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE, str(run / "model.safetensors")],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_torch_compile_agrees_with_pytorch(tiny_run: Path) -> None:
    """The compiler's cache outlives the test: compiling takes half a minute, and does not depend on the weights."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    word, value = compiled(tiny_run, REPOSITORY / ".cache" / "torch-compile").split()
    assert word == "difference" and float(value) < 1e-4


def test_without_a_compiler_the_row_has_the_reason(tiny_run: Path, tmp_path: Path) -> None:
    output = compiled(tiny_run, tmp_path, PATH=str(tmp_path), CXX="")
    assert output.startswith("UnavailableError") and "torch.compile does not work here" in output and "g++" in output
