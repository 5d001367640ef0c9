"""What is measured: threads, runtimes, other tools' files; and the runtimes that a machine may not have."""

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
from skinedge_bench.latency.targets import BenchRequest, chosen, file_targets, run_targets, thread_counts, why_missing
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
        with pytest.raises(ConfigError, match="not numbers"):
            thread_counts(text)
    BenchRequest(threads=(1, 4)).checked()
    for count in (0, -1, 5):
        with pytest.raises(ConfigError, match=f"--threads {count}: this machine lets us use 1 to 4"):
            BenchRequest(threads=(1, count)).checked()


def test_an_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown runtime 'tensorrt'\nValid: litert, onnxruntime"):
        BenchRequest(runtimes=("tensorrt",)).checked()


def test_a_look_leaves_out_what_has_to_be_compiled(tmp_path: Path) -> None:
    def found(request: BenchRequest, name: str) -> list[str]:
        return [runtime.name for runtime in chosen(tmp_path / name, request)]

    assert found(QUICK, "model.safetensors") == ["torch"]
    assert found(BenchRequest("standard"), "model.safetensors") == ["torch", "torch-compile"]
    assert found(BenchRequest("quick", runtimes=("torch-compile",)), "model.safetensors") == ["torch-compile"]
    assert found(BenchRequest(runtimes=("torch-compile",)), "model.onnx") == []
    for request in (QUICK, BenchRequest()):  # of ONNX Runtime's providers, those that this build has
        import onnxruntime

        there = {f"onnxruntime-{p}" for p in ("cuda", "coreml", "openvino", "xnnpack")}
        offered = {name.removesuffix("ExecutionProvider").lower() for name in onnxruntime.get_available_providers()}
        rows = found(request, "model.onnx")
        assert (
            rows[0] == "onnxruntime"
            and {r for r in rows if r in there} == {f"onnxruntime-{p}" for p in offered} & there
        )


def test_a_provider_that_is_not_there_says_what_is() -> None:
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
    assert "CPUExecutionProvider" in silent.get_providers()  # what happens unasked
    runtime = ProviderRuntime("azure", "AzureExecutionProvider")
    assert why_missing(runtime) is None
    with pytest.raises(UnavailableError, match="not wholly in AzureExecutionProvider"):
        runtime.open(foreign(), 1)


def test_what_is_not_there_has_a_row_that_says_so(foreign: Foreign, capsys: pytest.CaptureFixture[str]) -> None:
    asked = BenchRequest("quick", runtimes=("onnxruntime", "onnxruntime-cuda"))
    if why_missing(load(RUNTIMES, "onnxruntime-cuda")) is None:
        pytest.skip("this build of ONNX Runtime has CUDA")
    timed, missing = bench_files([foreign()], asked).rows
    assert timed.p50_ms is not None and timed.n == 120
    assert missing.p50_ms is None and missing.ratio_to_fp32 is None and not missing.trustworthy
    assert missing.reasons == ("this build of ONNX Runtime has no CUDAExecutionProvider",)
    assert "assumed" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="does not run in litert"):
        bench_files([foreign()], BenchRequest("quick", runtimes=("litert",)))


def test_a_file_beside_that_no_asked_runtime_takes_is_not_left_out_silently(run: Bundle, foreign: Foreign) -> None:
    with pytest.raises(ConfigError, match="does not run in litert") as refused:
        bench(run, BenchRequest("quick", runtimes=("litert",), beside=(foreign(),)))
    assert refused.value.where == str(foreign()) and not (run.root / "reports/latency.json").exists()


def test_files_of_one_name_are_told_apart(foreign: Foreign, tmp_path: Path) -> None:
    for folder in ("a", "b", "x/b"):
        (tmp_path / folder).mkdir(parents=True)
    files = [Path(shutil.copy(foreign(), tmp_path / place / "m.onnx")) for place in ("a", "b", "x/b")]
    asked = BenchRequest("quick", threads=(1, 2)) if targets.usable_cores() > 1 else QUICK
    found = file_targets(files, [], asked)
    assert list(dict.fromkeys(target.name for target in found)) == ["m.onnx", "b/m.onnx", "x/b/m.onnx"]
    assert len({target.key for target in found}) == len(found) == 3 * len(asked.threads)
    assert not any(target.in_run for target in found)
    (again,) = file_targets(files[1:2], found[:1], QUICK)
    assert again.name == "b/m.onnx"
    for again_named in (file_targets(files[:1], [], QUICK), []):
        with pytest.raises(ConfigError, match="measured already"):
            file_targets([files[1], files[0], files[1]], again_named, QUICK)


def without_a_description(model: Path, to: Path, order: list[int], labels: list[str] | None) -> Path:
    """A run's ONNX file as another tool would have made it: its classes in another order, none of our metadata."""
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


def judged(bundle: Bundle, files: list[Path]) -> Mapping[str, tuple[float | None, str]]:
    asked = BenchRequest("quick", runtimes=("onnxruntime",))
    found = [*run_targets(bundle, asked), *file_targets(files, [], asked)]
    return accuracies(bundle, None, found, open_all(found)[0])


def test_another_tools_file_is_judged_where_it_names_the_runs_classes(tiny_run: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_run)
    labels = list(bundle.manifest.labels)
    order = [3, 0, 6, 1, 5, 2, 4]
    own = tiny_run / "model.fp32.onnx"
    named = without_a_description(own, tmp_path / "named.onnx", order, [labels[i] for i in order])
    nameless = without_a_description(own, tmp_path / "nameless.onnx", order, None)
    others = without_a_description(own, tmp_path / "others.onnx", order, [f"kind {i}" for i in order])
    found = judged(bundle, [named, nameless, others])
    assert found["named.onnx"] == (pytest.approx(found["model.fp32.onnx"][0]), "measured")
    assert found["nameless.onnx"] == (None, "nameless.onnx does not name its classes")
    assert found["others.onnx"][0] is None and "has other classes than the run: kind 3" in found["others.onnx"][1]


def test_accuracy_is_that_of_the_images_themselves(tiny_run: Path) -> None:
    """Of each of the run's ONNX files, against pixels prepared here and scikit-learn."""
    bundle = Bundle.open(tiny_run)
    samples = split_of(bundle)
    pixels = load_prepared(Path(bundle.manifest.data_root), samples, bundle.manifest.preprocess.size)
    truth = [bundle.manifest.labels.index(sample.label) for sample in samples]
    for name, (value, where) in judged(bundle, []).items():
        if name == "model.safetensors":
            continue
        said = runtimes_for(tiny_run / name)[0].open(tiny_run / name, 1).run(pixels).probabilities.argmax(axis=1)
        assert value == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, said)) and where == "measured"


def test_others_files_and_threads_among_the_runs(cli: Cli, imageless: Bundle, foreign: Foreign, tmp_path: Path) -> None:
    counts = [1, 2] if targets.usable_cores() > 1 else [1]
    kept = tmp_path / "new" / "kept.json"
    options = ("--threads", ",".join(map(str, counts)), "--runtime", "onnxruntime", "--protocol", "quick")
    code, out, _ = cli("bench", imageless.root, *options, "--with", foreign(), "--out", kept, "--json")
    document = json.loads(out)
    rows = document["rows"]
    names = ["model.fp32.onnx", "model.int8.onnx", "NHWC_n_False_FLOAT.onnx"]
    assert code == 0 and [(row["file"], row["threads"]) for row in rows] == [(n, t) for n in names for t in counts]
    stranger = rows[-1]
    assert stranger["p50_ms"] and stranger["golden"] is None and not stranger["in_run"]
    assert stranger["balanced_accuracy"] is None and "does not name its classes" in stranger["accuracy_note"]
    assert rows[0]["golden"] in ("pass", "underpowered")
    low, high = rows[0]["p50_interval_ms"]
    assert low <= high and rows[0]["ratio_to_fp32_interval"] == [1, 1]
    saved = json.loads(kept.read_text())
    assert saved["rows"] == rows and saved["model_id"] == imageless.manifest.id
    assert saved["samples_ms"] == json.loads(imageless.reload().file("reports/latency.json").read_text())["samples_ms"]
    keys = [f"onnxruntime {row['file']}" + (", 2 threads" if row["threads"] == 2 else "") for row in rows]
    assert list(saved["samples_ms"]) == keys and str(tmp_path) not in kept.read_text()
    assert {"before", "after"} == set(saved["conditions"]) and saved["measured_at"] <= document["measured_at"]


def test_a_run_with_missing_files_is_not_measured(run: Bundle) -> None:
    before = (run.root / "manifest.json").read_text()
    (run.root / "model.int8.tflite").unlink()
    with pytest.raises(BundleError, match=r"model\.int8\.tflite: file is listed in the manifest but missing"):
        bench(run, QUICK)
    assert (run.root / "manifest.json").read_text() == before and not (run.root / "reports/latency.json").exists()


@pytest.mark.parametrize("name", ["reference.npz", "reports/parity.json"])
def test_what_is_read_after_the_timings_is_looked_at_before(
    run: Bundle, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not run.has(name):
        with run.stage("verify", "test", {}) as stage:
            stage.path(name).write_text("{}")
    (run.root / name).unlink()
    monkeypatch.setattr(latency_bench, "measure", lambda *_: pytest.fail("a benchmark was made"))
    with pytest.raises(BundleError, match=f"{name}: file is listed in the manifest but missing"):
        bench(run.reload(), QUICK)


def test_a_file_beside_that_is_damaged_costs_no_benchmark(run: Bundle, tmp_path: Path) -> None:
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
    said = torch_compile.runtime.open(path, 1).run(pixels).logits
except Exception as error:
    print(type(error).__name__, error)
else:
    expected = torch_eager.runtime.open(path, 1).run(pixels).logits
    print("difference", float(np.abs(said - expected).max()))
"""


def compiled(run: Path, cache: Path, **environment: str) -> str:
    """In a process of its own: a compiler that was found once is remembered."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMPILE, str(run / "model.safetensors")],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_torch_compile_says_what_pytorch_says(tiny_run: Path) -> None:
    """The compiler's cache outlives the test: compiling takes half a minute, and the weights are no part of it."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler here")
    word, value = compiled(tiny_run, REPOSITORY / ".cache" / "torch-compile").split()
    assert word == "difference" and float(value) < 1e-4


def test_without_a_compiler_the_row_says_so(tiny_run: Path, tmp_path: Path) -> None:
    said = compiled(tiny_run, tmp_path, PATH=str(tmp_path), CXX="")
    assert said.startswith("UnavailableError") and "torch.compile does not work here" in said and "g++" in said
