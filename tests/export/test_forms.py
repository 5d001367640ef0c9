"""Files of every I/O signature, end to end: inputs, outputs, names and manifest entries."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from skinedge.core.errors import ConfigError, GateError
from skinedge.core.files import sha256
from skinedge.core.input_format import CONTRACTS
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Preprocess
from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.network import model
from skinedge.run import golden, plugins
from skinedge.run.embedded_metadata import describe
from skinedge.run.plugins import TensorSpec
from skinedge.run.run_directory import Bundle
from skinedge.training import merge
from skinedge_bench.latency.accuracy import accuracies
from skinedge_bench.latency.measure import open_all
from skinedge_bench.latency.targets import BenchRequest, run_targets
from skinedge_bench.split_images import test_split as split_of
from skinedge_export.candidate_check import Reference, check_candidate
from skinedge_export.converter import Artifact, ExportJob
from skinedge_export.export import current, export
from skinedge_export.formats.metadata import describe_onnx
from skinedge_export.graph.graph import heatmaps, pixel_model
from skinedge_export.int8.activation_ranges import METHODS
from skinedge_export.int8.calibration_images import choose
from skinedge_export.recipe import CalibrationSettings, ExportRecipe
from skinedge_export.signature import IOSignature
from skinedge_export.target import SEARCH, ExportTarget, export_targets

GOOGLE = "model.int8.google.logits.heatmap.tflite"
BYTES = "model.fp32.uint8.heatmap.onnx"
ARM = "model.int8.arm.onnx"
MIXED = "model.int8-mixed.qualcomm.onnx"
ASKED = {
    GOOGLE: ExportTarget("tflite", SEARCH, IOSignature("google", logits=True, heatmap=True)),
    BYTES: ExportTarget("onnx", "fp32", IOSignature("uint8", heatmap=True)),
    ARM: ExportTarget("onnx", SEARCH, arm=True),
    MIXED: ExportTarget("onnx", "int8-mixed", IOSignature("qualcomm")),
}
LADDERS = (GOOGLE, ARM, MIXED)


@pytest.fixture(scope="module")
def run(merged_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The merged run with one file of each kind: the only conversions here. Shared: copy it before changing it."""
    root = tmp_path_factory.mktemp("forms") / "run"
    shutil.copytree(merged_run, root)
    return export(Bundle.open(root), list(ASKED.values()))


@pytest.fixture(scope="module")
def known(run: Bundle) -> golden.Golden:
    return golden.load(run.file("golden.npz"))


@pytest.fixture(scope="module")
def network(run: Bundle) -> Any:
    return merge.load_merged(run)


@pytest.fixture(scope="module")
def outputs(run: Bundle, known: golden.Golden) -> dict[str, Outputs]:
    """Outputs of our own sessions for the golden images, by file."""
    return {name: plugins.runtimes_for(Path(name))[0].open(run.file(name), 1).run(known.pixels) for name in ASKED}


def report(run: Bundle, name: str) -> dict[str, Any]:
    return json.loads(run.file(f"reports/ladder.{name.removeprefix('model.')}.json").read_text())


def snapshot(root: Path) -> dict[str, bytes]:
    """Read every file but the lock, by relative path."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_each_file_has_its_name(run: Bundle) -> None:
    assert {entry.path for entry in run.model_files()} == set(ASKED)
    on_disk = {path.name for path in run.root.glob("model.*") if path.suffix in (".onnx", ".tflite")}
    assert on_disk == set(ASKED), "a rejected rung became a file"
    assert not list(run.root.rglob("*.part"))


@pytest.mark.parametrize("name", ASKED)
def test_the_manifest_has_the_target_and_the_inputs_and_outputs(run: Bundle, name: str) -> None:
    info, form = run.entries()[name].info, ASKED[name].form
    assert info["precision"] == name.split(".")[1] and info["format"] == ASKED[name].format
    (taken,) = info["inputs"]
    assert (taken["name"], taken["dtype"], taken["shape"][1:]) == ("pixels", form.input.dtype, [64, 64, 3])
    assert {output["name"] for output in info["outputs"]} == set(form.outputs)
    assert all(output["dtype"] == "float32" for output in info["outputs"])
    assert ExportTarget.of(run.entries()[name]) == ASKED[name]
    assert ("kept_float" in info) == (name == MIXED) and ("calibration" in info) == (name in LADDERS)


@pytest.mark.parametrize("name", LADDERS)
def test_the_calibration_images_are_named_and_are_training_images(run: Bundle, name: str) -> None:
    samples = read_split(run.file("split.csv"))
    calibration = run.entries()[name].info["calibration"]
    wanted = sorted(sample.image_id for sample in choose(samples, CalibrationSettings()))
    assert calibration["ids"] == wanted and calibration["images"] == len(wanted) == 56
    assert set(wanted) <= {sample.image_id for sample in samples if sample.split == "train"}
    assert calibration["ids_sha256"] == hashlib.sha256("\n".join(wanted).encode()).hexdigest()
    chosen = next(rung for rung in report(run, name)["rungs"] if rung["rung"] == report(run, name)["chosen"])
    assert calibration["ranges"] == chosen["ranges"]


@pytest.mark.parametrize("name", LADDERS)
def test_the_report_lists_every_candidate(run: Bundle, name: str) -> None:
    document, entry = report(run, name), run.entries()[name]
    assert document["schema"] == "skinedge.ladder/1" and document["model_id"] == run.manifest.id
    assert (document["file"], document["validation_images"]) == (name, 42)
    rungs = {rung["rung"]: rung for rung in document["rungs"]}
    chosen = rungs[document["chosen"]]
    assert (chosen["precision"], chosen["passed"]) == (entry.info["precision"], True)
    assert chosen["gates"] == entry.info["gates"] and chosen["kept_float"] == entry.info.get("kept_float", [])
    if name == MIXED:
        assert len(chosen["kept_float"]) == max(len(rung["kept_float"]) for rung in rungs.values()) >= 1
    else:
        assert {rung["ranges"] for rung in rungs.values()} == set(METHODS)
        nearest = min(
            (rung for rung in rungs.values() if rung["convincing"]), key=lambda r: r["validation"]["distance"]
        )
        assert chosen == nearest
    for rung in rungs.values():
        assert rung["milliseconds"] > 0 and rung["size_bytes"] > 10_000 and rung["validation"]["images"] == 42
        assert (rung["partitions"] is None) == name.endswith(".onnx")


def test_an_fp32_file_has_no_search_report(run: Bundle) -> None:
    assert not [path for path in run.entries() if path.startswith("reports/ladder.") and "fp32" in path]


def test_int8_for_arm_has_int8_activations(run: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    kinds = {}
    for name in (ARM, MIXED):
        graph = onnx.load(run.file(name)).graph
        held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        zeros = [held[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
        kinds[name] = {zero.dtype.name for zero in zeros}
    assert kinds == {ARM: {"int8"}, MIXED: {"uint8"}}
    oldest = {name: run.entries()[name].info["oldest_runtime"] for name in (ARM, MIXED)}
    assert oldest == {ARM: "1.15", MIXED: "1.14"}  # 1.14.1 computes other probabilities from int8 activations


def test_mixed_has_layers_of_both_kinds(run: Bundle) -> None:
    """A layer in float has float weights; every other one takes them from a DequantizeLinear."""
    import onnx

    def rounded(name: str) -> list[bool]:
        graph = onnx.load(run.file(name)).graph
        made_by = {output: node.op_type for node in graph.node for output in node.output}
        return [made_by.get(n.input[1]) == "DequantizeLinear" for n in graph.node if n.op_type == "Conv"]

    kept = run.entries()[MIXED].info["kept_float"]
    assert all(rounded(ARM))
    assert rounded(MIXED).count(False) == len([path for path in kept if "fc" not in path]) >= 1
    assert any(rounded(MIXED))


def run_onnx(path: Path, fed: np.ndarray) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # without VNNI, int8 sums saturate otherwise
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {session.get_inputs()[0].name: fed})[0]


def run_tflite(path: Path, fed: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    return np.concatenate([runner(pixels=image[None])["probabilities"] for image in fed])


# Each consumer's own preprocessing, as its sample writes it, without a line of ours.
CONSUMERS = {
    GOOGLE: lambda bytes: (bytes.astype(np.float32) - np.float32(127.5)) / np.float32(127.5),
    MIXED: lambda bytes: bytes.astype(np.float32) / np.float32(255),
    BYTES: lambda bytes: bytes,
    ARM: lambda bytes: bytes.astype(np.float32),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_clients_own_preprocessing_gives_our_sessions_outputs(
    run: Bundle, known: golden.Golden, outputs: dict[str, Outputs], name: str
) -> None:
    fed = np.ascontiguousarray(CONSUMERS[name](known.pixels))
    found = (run_onnx if name.endswith(".onnx") else run_tflite)(run.file(name), fed)
    np.testing.assert_allclose(found, outputs[name].probabilities, rtol=0, atol=2e-6)


def test_bench_feeds_each_file_as_its_client_would(run: Bundle) -> None:
    asked = BenchRequest("quick", runtimes=("onnxruntime", "litert"))
    found = run_targets(run, asked)
    judged = accuracies(run, None, found, open_all(found)[0])
    samples, labels = split_of(run), run.manifest.labels
    pixels = load_prepared(Path(run.manifest.data_root), samples, run.manifest.preprocess)
    truth = [labels.index(sample.label) for sample in samples]
    for name, prepare in CONSUMERS.items():
        fed = np.ascontiguousarray(prepare(pixels))
        predicted = (run_onnx if name.endswith(".onnx") else run_tflite)(run.file(name), fed).argmax(axis=1)
        assert judged[name] == (pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, predicted)), "measured")


def test_another_clients_preprocessing_gives_other_outputs(
    run: Bundle, known: golden.Golden, outputs: dict[str, Outputs]
) -> None:
    """Else the test above could not fail."""
    found = run_tflite(run.file(GOOGLE), known.pixels.astype(np.float32) / 255)
    assert np.abs(found - outputs[GOOGLE].probabilities).max() > 0.1


@pytest.mark.parametrize("mean", [(127.0, 127.0, 127.0), (123.7, 116.3, 103.5)])
def test_every_contract_gives_the_same_probabilities(network: Any, known: golden.Golden, mean: Any) -> None:
    import torch

    rule = Preprocess(64, mean=mean, std=(58.4, 57.1, 57.4))
    found = {}
    for name, contract in CONTRACTS.items():
        with torch.inference_mode():
            fed = torch.from_numpy(contract.encode(known.pixels[:8]))
            found[name] = pixel_model(network, rule, IOSignature(name))(fed)["probabilities"].numpy()
    np.testing.assert_array_equal(found["uint8"], found["pixels"])
    for name in CONTRACTS:
        np.testing.assert_allclose(found[name], found["pixels"], rtol=0, atol=1e-5)


def test_the_uint8_files_probabilities_are_pytorchs(known: golden.Golden, outputs: dict[str, Outputs]) -> None:
    powers = np.exp(known.logits.astype(np.float64) - known.logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs[BYTES].probabilities, expected, atol=2e-5)


def test_outputs_are_exactly_those_of_the_signature(known: golden.Golden, outputs: dict[str, Outputs]) -> None:
    for name, target in ASKED.items():
        file_outputs = outputs[name]
        assert file_outputs.probabilities.shape == (len(known.pixels), 7)
        assert (file_outputs.logits is not None) == target.form.logits
        assert (file_outputs.heatmaps is not None) == target.form.heatmap
    logits = outputs[GOOGLE].logits
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), outputs[GOOGLE].probabilities, atol=1e-5)


@pytest.fixture(scope="module")
def maps(network: Any, known: golden.Golden, run: Bundle) -> np.ndarray:
    return heatmaps(network, known.pixels, run.manifest.preprocess)


def test_pytorchs_map_is_the_classifier_at_every_position(
    network: Any, maps: np.ndarray, known: golden.Golden, run: Bundle
) -> None:
    """Oracle: Zhou et al. 2016, equation 2, as a sum over features."""
    import torch

    with torch.inference_mode():
        features = torch.cat([network.forward_features(x) for x in model.inputs(known.pixels, run.manifest.preprocess)])
    weight = network.get_classifier().weight.detach().numpy()
    np.testing.assert_allclose(maps, np.einsum("nfhw,cf->nhwc", features.numpy(), weight), atol=1e-3 * maps.std())


def test_the_fp32_files_map_is_pytorchs(outputs: dict[str, Outputs], maps: np.ndarray) -> None:
    found = outputs[BYTES].heatmaps
    assert found.shape == maps.shape and maps.shape[1] > 1, "one place is no map"
    assert np.abs(found - maps).max() <= 1e-3 * maps.std()


def test_the_int8_files_map_is_near_pytorchs(outputs: dict[str, Outputs], maps: np.ndarray) -> None:
    found = outputs[GOOGLE].heatmaps
    assert found.shape == maps.shape
    assert np.sqrt(np.square(found - maps).mean()) <= 0.2 * maps.std()
    assert np.corrcoef(found.ravel(), maps.ravel())[0, 1] > 0.98


def test_the_mean_of_a_map_and_the_bias_are_the_logits(
    network: Any, outputs: dict[str, Outputs], known: golden.Golden
) -> None:
    bias = network.get_classifier().bias.detach().numpy()
    found = outputs[BYTES].heatmaps.mean(axis=(1, 2)) + bias
    np.testing.assert_allclose(found, known.logits, atol=1e-3)
    rounded = outputs[GOOGLE].heatmaps.mean(axis=(1, 2)) + bias
    assert np.sqrt(np.square(rounded - outputs[GOOGLE].logits).mean()) < 0.1 * outputs[GOOGLE].logits.std()


def test_int8_biases_are_far_from_the_int32_limit(run: Bundle) -> None:
    """One that overflows is clipped there, and the output of its channel is wrong."""
    from ai_edge_litert import schema_py_generated as schema

    tflite = schema.ModelT.InitFromObj(schema.Model.GetRootAs(run.file(GOOGLE).read_bytes(), 0))
    (graph,) = tflite.subgraphs
    biases = [
        np.frombuffer(bytes(tflite.buffers[tensor.buffer].data), np.int32)
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT32
        and tensor.quantization is not None
        and tensor.quantization.scale is not None
        and tflite.buffers[tensor.buffer].data is not None
    ]
    assert len(biases) >= 5
    assert max(int(np.abs(bias.astype(np.int64)).max()) for bias in biases) < 2**31 - 1


def test_a_file_without_its_map_is_refused(run: Bundle, known: golden.Golden, maps: np.ndarray) -> None:
    runtime = plugins.load(plugins.RUNTIMES, "onnxruntime")
    drawn = Reference(known.pixels, known.logits, heatmaps=maps)
    judged = check_candidate(run.file(ARM), describe(run.manifest, "int8"), runtime, drawn, None, 0.5)
    assert [gate.verdict for gate in judged.gates if gate.name == "heatmap"] == ["fail"]


def test_a_wrong_map_is_refused(run: Bundle, known: golden.Golden, maps: np.ndarray) -> None:
    runtime = plugins.load(plugins.RUNTIMES, "onnxruntime")
    description = describe(run.manifest, "fp32", "uint8")
    verdicts = []
    for wanted in (maps, np.roll(maps, 1, axis=3), maps[:, ::-1]):
        drawn = Reference(known.pixels, known.logits, heatmaps=wanted)
        gates = check_candidate(run.file(BYTES), description, runtime, drawn, None, 0.5).gates
        verdicts += [gate.verdict for gate in gates if gate.name == "heatmap"]
    assert verdicts == ["pass", "fail", "fail"]


def test_a_network_without_a_map_can_be_exported_only_without_heatmap() -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        other = model.build("mobilenetv3_small_050", 7)
    with pytest.raises(ConfigError, match=r"no class activation map[^\n]*\nExport without --heatmap"):
        pixel_model(other, Preprocess(64), IOSignature(heatmap=True))
    assert pixel_model(other, Preprocess(64), IOSignature(logits=True)) is not None


@pytest.mark.parametrize(
    ("target", "precision", "name"),
    [
        (ExportTarget("onnx", "fp32"), "fp32", "model.fp32.onnx"),
        (ExportTarget("onnx", SEARCH), "int8", "model.int8.onnx"),
        (ExportTarget("onnx", SEARCH, fallback=True), "fp16", "model.fp16.onnx"),
        (ExportTarget("tflite", SEARCH, IOSignature("uint8")), "int8-mixed", "model.int8-mixed.uint8.tflite"),
        (
            ExportTarget("onnx", SEARCH, IOSignature("google", True, True), arm=True),
            "int8",
            "model.int8.arm.google.logits.heatmap.onnx",
        ),
        (
            ExportTarget("tflite", "int8", IOSignature(logits=True), converter="onnx2tf"),
            "int8",
            "model.int8.logits.onnx2tf.tflite",
        ),
    ],
)
def test_a_file_name_contains_the_signature(target: ExportTarget, precision: str, name: str) -> None:
    assert target.file_name(precision, f".{target.format}") == name


@pytest.mark.parametrize(
    "target",
    [*ASKED.values(), ExportTarget("onnx", SEARCH, fallback=True), ExportTarget("tflite", "int8", converter="x")],
)
def test_a_target_is_read_back_from_the_manifest(run: Bundle, target: ExportTarget) -> None:
    info = json.loads(json.dumps({"asked": asdict(target)}))
    assert ExportTarget.of(replace(run.entries()[ARM], info=info)) == target


def test_files_of_the_first_version_have_a_target(run: Bundle) -> None:
    entry = run.entries()[ARM]
    for precision, wanted in (("int8", SEARCH), ("fp32", "fp32")):
        assert ExportTarget.of(replace(entry, info={"format": "onnx", "precision": precision})) == ExportTarget(
            "onnx", wanted
        )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown input contract 'apple'\nKnown: pixels, google, qualcomm, uint8"):
        IOSignature("apple")
    with pytest.raises(
        ConfigError, match=r"unknown --precision 'int4'\nValid: fp32, int8, int8-mixed, int8-weight, fp16"
    ):
        export_targets(("onnx",), precision="int4")
    with pytest.raises(ConfigError, match=r"unknown precision 'int4'\nValid: ladder, fp32, int8, int8-mixed, int8-w"):
        ExportTarget("onnx", "int4")
    with pytest.raises(ConfigError, match=r"unknown converter 'nobody'\nInstalled: onnx, onnx2tf, tflite"):
        export_targets(("tflite",), converter="nobody")
    with pytest.raises(ConfigError, match=r"'onnx2tf' makes tflite files, not onnx\nSay --format tflite"):
        export_targets(("onnx",), converter="onnx2tf")


def test_arm_adds_a_second_int8_file_and_no_other() -> None:
    assert export_targets(("onnx", "tflite"), int8=True, arm=True) == [
        ExportTarget("onnx", "fp32"),
        ExportTarget("onnx", SEARCH),
        ExportTarget("onnx", SEARCH, arm=True),
        ExportTarget("tflite", "fp32"),
        ExportTarget("tflite", SEARCH),
    ]
    for precision in ("fp32", "fp16", "int8-weight"):
        with pytest.raises(ConfigError, match="none of these files has a variant for ARM"):
            export_targets(("onnx",), precision=precision, arm=True)
    assert [target.arm for target in export_targets(("onnx",), precision="int8-mixed", arm=True)] == [False, True]


@dataclass
class Plugin:
    """A plug-in's converter: writes real int8 files, for some candidates with labels rolled.

    spoiled: candidates with wrong labels, as 'int8 mse' or 'int8-mixed 2'.
    """

    source: Path
    spoiled: set[str]
    sha: str = "1"
    made: list[str] = field(default_factory=list)
    format: str = "onnx"
    suffix: str = ".onnx"
    runtime: str = "onnxruntime"
    ranges: tuple[str, ...] = METHODS
    libraries: tuple[str, ...] = ()

    def recipe(self, precision: str) -> ExportRecipe:
        settings = CalibrationSettings(images=16, equalize=False, rounding="nearest")
        return ExportRecipe("onnx", precision, settings, sha256=self.sha)

    def convert(self, job: ExportJob, path: Path) -> Artifact:
        import onnx
        from onnx import numpy_helper

        recipe = job.recipe
        way = recipe.calibration.ranges if recipe.precision == "int8" else len(job.kept_float)
        self.made.append(f"{recipe.precision} {way}")
        made = onnx.load(self.source)
        if self.made[-1] in self.spoiled:
            head = [node for node in made.graph.node if node.op_type == "Gemm"][-1]
            for tensor in made.graph.initializer:
                if tensor.name in head.input:
                    rolled = np.roll(numpy_helper.to_array(tensor), 1, axis=0)
                    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rolled), tensor.name))
        describe_onnx(made, job.description)
        onnx.save(made, path)
        taken, given = TensorSpec("pixels", (-1, 64, 64, 3), "float32"), TensorSpec("probabilities", (-1, 7), "float32")
        return Artifact(path, recipe.precision, (taken,), (given,), ("Conv",), {"plugin": "1"})


@dataclass(frozen=True)
class EntryPoint:
    """An entry point of `Plugin`."""

    name: str
    behind: Plugin

    def load(self) -> Plugin:
        return self.behind


STATIC = {f"int8 {ranges}" for ranges in METHODS}


@pytest.fixture
def plugin(run: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    found, known = Plugin(run.file(ARM), set()), plugins.entry_points

    def entry_points(group: str) -> list[Any]:
        return [*known(group=group), *[EntryPoint("plugin", found)] * (group == plugins.CONVERTERS)]

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    yield found


@pytest.fixture
def copy(merged_run: Path, tmp_path: Path) -> Bundle:
    shutil.copytree(merged_run, tmp_path / "run")
    return Bundle.open(tmp_path / "run")


def test_a_rejected_candidate_is_in_the_report_only(
    copy: Bundle, plugin: Plugin, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin.spoiled = {*STATIC, "int8-mixed 1"}
    done = export(copy, [ExportTarget("onnx", SEARCH, converter="plugin")])
    (entry,) = done.model_files()
    assert entry.path == "model.int8-mixed.plugin.onnx"
    assert plugin.made == [*(f"int8 {ranges}" for ranges in METHODS), "int8-mixed 1", "int8-mixed 2"]
    rungs = report(done, entry.path)["rungs"]
    assert [rung["passed"] for rung in rungs] == [False] * 4 + [True]
    assert rungs[-1]["kept_float"] == entry.info["kept_float"] and len(rungs[-1]["kept_float"]) == 2
    assert " against int8 (min-max)" in report(done, entry.path)["given_up"]
    assert [path.name for path in done.root.glob("model.*.onnx")] == [entry.path]
    assert capsys.readouterr().err.count("failed, agreement") == 4


def test_a_file_that_replaces_another_precision_takes_its_place(copy: Bundle, plugin: Plugin) -> None:
    target = ExportTarget("onnx", SEARCH, converter="plugin")
    plugin.spoiled = {*STATIC}
    before = export(copy, [target])
    assert [entry.path for entry in before.model_files()] == ["model.int8-mixed.plugin.onnx"]
    plugin.spoiled = set()
    after = export(before, [target], force=True)
    assert [entry.path for entry in after.model_files()] == ["model.int8.plugin.onnx"]
    assert after.manifest.default_file == "model.int8.plugin.onnx"
    assert "model.int8-mixed.plugin.onnx" not in after.manifest.thresholds
    left = [path for path in snapshot(after.root) if "int8-mixed" in path]
    assert not left, "entries of the older file are still there"
    assert not [path for path in after.entries() if "int8-mixed" in path]
    listed = {*after.entries(), "manifest.json"}
    assert set(snapshot(after.root)) == listed


@pytest.mark.parametrize("precision", ["int8", "int8-mixed", SEARCH])
def test_if_no_candidate_passes_no_file_is_left(copy: Bundle, plugin: Plugin, precision: str) -> None:
    plugin.spoiled = {*STATIC, *(f"int8-mixed {number}" for number in range(64))}
    before = snapshot(copy.root)
    with pytest.raises(GateError, match=r"plugin\.onnx: .*\n  int8.*agreement") as caught:
        export(copy, [ExportTarget("onnx", precision, converter="plugin")])
    assert snapshot(copy.root) == before
    if precision == SEARCH:
        assert "--fallback any" in str(caught.value)


def test_one_refusal_stops_no_other_file(copy: Bundle, plugin: Plugin) -> None:
    plugin.spoiled = {*STATIC}
    with pytest.raises(GateError, match=r"model\.int8\.plugin\.onnx: no file kept the diagnosis"):
        export(
            copy,
            [
                ExportTarget("onnx", "int8", converter="plugin"),
                ExportTarget("onnx", "int8-mixed", converter="plugin"),
            ],
        )
    assert [entry.path for entry in copy.reload().model_files()] == ["model.int8-mixed.plugin.onnx"]


def test_a_refused_file_keeps_the_earlier_one(copy: Bundle, plugin: Plugin) -> None:
    target = ExportTarget("onnx", "int8", converter="plugin")
    before = snapshot(export(copy, [target]).root)
    plugin.spoiled = {*STATIC}
    with pytest.raises(GateError):
        export(copy.reload(), [target], force=True)
    assert snapshot(copy.root) == before


@pytest.mark.parametrize("precision", ["int8", "int8-mixed", SEARCH])
def test_a_file_is_current_until_its_recipe_changes(copy: Bundle, plugin: Plugin, precision: str) -> None:
    target = ExportTarget("onnx", precision, converter="plugin")
    done = export(copy, [target])
    kept = current(done, target)
    assert kept is not None and kept.sha256 == sha256(done.file(kept.path))
    plugin.sha = "2"
    assert current(done, target) is None
