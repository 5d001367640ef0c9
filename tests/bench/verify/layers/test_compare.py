"""skinedge verify --layers: values by definition, a damaged layer comes first, clear errors without a reference."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skinedge.core.errors import BundleError, MissingDependencyError
from skinedge.run.file_card import card_name
from skinedge.run.plugins import runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge_bench.verify.layers import compare as subject
from skinedge_bench.verify.layers import plot as layers_plot
from skinedge_bench.verify.layers.graph import MOVES, Operation, computed, matched, steps
from skinedge_bench.verify.layers.sqnr import SqnrStatistics, cosines, noise, sqnr
from skinedge_bench.verify.layers.tflite import readable

Cli = Callable[..., tuple[int, str, str]]
INT8 = ("model.int8.onnx", "model.int8.tflite")
VICTIM = "blocks.2.0.conv_pwl"  # without activation and residual after it, the next layer reads its sign
FEW = 8


def put(bundle: Bundle, name: str, data: bytes) -> Bundle:
    """Put other content under a listed name, with a card of it."""
    entries = bundle.entries()
    card = json.loads(bundle.file(card_name(name)).read_text()) | {"sha256": hashlib.sha256(data).hexdigest()}
    with bundle.stage("changed", "test", entries[name].made_from) as stage:
        stage.path(name, **entries[name].info).write_bytes(data)
        stage.path(card_name(name), **entries[card_name(name)].info).write_text(json.dumps(card))
    return bundle.reload()


def without(bundle: Bundle, *names: str) -> Bundle:
    """Remove these files from the run's manifest."""
    path = bundle.root / "manifest.json"
    raw = json.loads(path.read_text())
    for stage in raw["stages"].values():
        stage["files"] = [entry for entry in stage["files"] if entry["path"] not in names]
    path.write_text(json.dumps(raw))
    return bundle.reload()


def negated(path: Path) -> bytes:
    """Negate the weights of one layer of the int8 file."""
    return {".onnx": _negated_onnx, ".tflite": _negated_tflite}[path.suffix](path)


def _negated_onnx(path: Path) -> bytes:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (weight,) = (t for t in model.graph.initializer if t.name == f"network.{VICTIM}.weight_quantized")
    values = numpy_helper.to_array(weight)
    assert values.dtype == np.int8
    weight.CopyFrom(numpy_helper.from_array(-np.maximum(values, -127), weight.name))
    return bytes(model.SerializeToString())


def _negated_tflite(path: Path) -> bytes:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    reader = Interpreter(model_path=str(path), experimental_op_resolver_type=plain)
    names = {tensor["index"]: tensor["name"] for tensor in reader.get_tensor_details()}
    (op,) = (
        op
        for op in reader._get_ops_details()
        if op["op_name"] == "CONV_2D" and readable(names[op["outputs"][0]]) == VICTIM
    )
    data = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(data, 0)
    buffer = model.Buffers(model.Subgraphs(0).Tensors(op["inputs"][1]).Buffer())
    if buffer.Offset() > 1:  # the weights follow the flatbuffer
        values = np.frombuffer(data, np.int8, buffer.Size(), buffer.Offset())
    else:
        values = buffer.DataAsNumpy().view(np.int8)
    values[:] = -np.maximum(values, -127)
    assert bytes(data) != path.read_bytes()
    return bytes(data)


def plain_probabilities(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Run the file in a session without graph optimizations."""
    images = pixels.astype(np.float32)
    if path.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {session.get_inputs()[0].name: images})[0]
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runner = Interpreter(model_path=str(path), experimental_op_resolver_type=plain).get_signature_runner()
    return np.concatenate([runner(pixels=image[np.newaxis])["probabilities"] for image in images])


def test_the_sqnr_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    places, factors = 500, np.array([0.1, 1.0, 7.0, 16.0])
    s = rng.normal(size=(places, 4)) * [1, 2, 3, 4]
    q = s * factors + rng.normal(size=s.shape) * factors * 0.1
    exact, small = s.astype(np.float32), q.astype(np.float32)
    halves = SqnrStatistics.of(exact[:200], small[:200]).plus(SqnrStatistics.of(exact[200:], small[200:]))
    left = [np.linalg.lstsq(small[:, [c]].astype(float), exact[:, c].astype(float), rcond=None)[1][0] for c in range(4)]
    assert noise(halves, free=True) == pytest.approx(np.array(left) * places / (places - 1), rel=1e-6)
    expected = 10 * np.log10((s**2).sum() / (np.sum(left) * places / (places - 1)))
    assert sqnr(halves, free=True) == pytest.approx(expected, abs=1e-4)
    assert sqnr(halves, free=False) == pytest.approx(10 * np.log10((s**2).sum() / ((s - q) ** 2).sum()), abs=1e-4)
    apart = [np.dot(s[:, c], q[:, c]) / np.linalg.norm(s[:, c]) / np.linalg.norm(q[:, c]) for c in range(4)]
    assert cosines(halves) == pytest.approx(np.array(apart), abs=1e-6)


def test_dead_channels_do_not_count_and_lost_ones_do() -> None:
    s = np.random.default_rng(2).normal(size=(300, 3)).astype(np.float32)
    q = s * np.float32(3)
    s[:, 0] = 0  # silent in fp32, not in the small file
    assert sqnr(SqnrStatistics.of(s, q), free=True) == pytest.approx(120, abs=1)
    assert len(cosines(SqnrStatistics.of(s, q))) == 2
    q[:, 1] = 0  # lost: half of the signal is gone
    assert noise(SqnrStatistics.of(s, q), free=True)[1] == pytest.approx((s[:, 1] ** 2).sum(), rel=1e-6)
    assert sqnr(SqnrStatistics.of(s, q), free=True) == pytest.approx(3, abs=0.5)
    assert cosines(SqnrStatistics.of(s, q))[0] == 0
    assert sqnr(SqnrStatistics.of(s, -s), free=True) == pytest.approx(0, abs=1e-9)  # the factor is never negative
    assert sqnr(SqnrStatistics.of(s, s), free=False) == 120
    assert np.isnan(sqnr(SqnrStatistics.of(s * 0, s), free=True))


def test_operations_that_only_move_numbers_are_skipped() -> None:
    class Graph:
        operations = tuple(
            Operation(kind, name, tuple(inputs), output, key=name)
            for kind, name, inputs, output in (
                ("ADD", "add", ("pixels", "offset"), "a"),
                ("CONV_2D", "conv", ("a", "w"), "c"),
                ("QUANTIZE", "", ("c",), "c2"),
                ("HARD_SWISH", "unknown to fp32", ("c2",), "h"),
                ("ADD", "sum", ("h", "a"), "s"),
                ("FULLY_CONNECTED", "head", ("s", "w2"), "l"),
                ("RESHAPE", "", ("l",), "l2"),
                ("SOFTMAX", "softmax", ("l2",), "p"),
            )
        )
        outputs = ("p",)

        def values(self, pixels: Any, tensors: Any) -> dict[str, Any]:
            raise NotImplementedError

    found = {step.name: step for step in steps(Graph(), {"a", "c", "s", "l", "p"})}
    assert list(found) == ["add", "conv", "sum", "head", "softmax"]
    assert found["sum"].reads == ("a", "c") and found["softmax"].reads == ("l",) and found["add"].reads == ()
    assert [name for name, step in found.items() if step.free] == ["conv", "sum"]
    headless = {step.name: step.free for step in steps(Graph(), {"a", "c", "s"})}
    assert headless == {"add": False, "conv": True, "sum": True}  # the layers before the missing logits
    assert set(computed(Graph())) == {"a", "c", "h", "s", "l", "p"}


def test_operations_of_one_key_are_paired_in_order_if_their_counts_agree() -> None:
    class Graph:
        outputs = ()

        def __init__(self, *made: tuple[str, str]) -> None:
            self.operations = tuple(Operation("ADD", key, (), tensor, key) for tensor, key in made)

        def values(self, pixels: Any, tensors: Any) -> dict[str, Any]:
            raise NotImplementedError

    mine = Graph(("x;1", "x"), ("x;2", "x"), ("y", "y"), ("z", "z"), ("z2", "z"), ("t", "t"), ("t", "u"))
    theirs = Graph(("x;2", "x"), ("y", "y"), ("x;3", "x"), ("z", "z"), ("t", "t"), ("u", "u"))
    assert matched(mine, theirs) == {"x;1": "x;2", "x;2": "x;3", "y": "y"}


def test_module_names_of_tensors() -> None:
    module = "x.<locals>.PixelModel/timm.models.Net_network/torch.Sequential_blocks/torch.Sequential_3/timm.IR_1"
    assert readable(f"{module}/norm.BatchNormAct2d_bn1;;{module}/torch.nn.Conv2d_conv_pw;1") == "blocks.3.1.conv_pw"
    assert readable(f"{module};") == "blocks.3.1"
    assert readable("serving_default_output") == "serving_default_output"


def test_both_formats_have_the_same_inner_values(tiny_run: Path) -> None:
    """Two converters, runtimes and layouts: layers of the same name agree, channel by channel."""
    bundle = Bundle.open(tiny_run)
    pixels, _ = subject.pick_images(bundle, None, 1)
    found = []
    for name in ("model.fp32.onnx", "model.fp32.tflite"):
        inside = subject._reader(subject.open_listed(bundle, name))
        wanted = ("conv_pwl", "classifier")
        weighted = [op for op in inside.operations if op.kind not in MOVES and op.name.endswith(wanted)]
        values = inside.values(pixels, [op.output for op in weighted])
        found.append({op.name: values[op.output] for op in weighted})
    onnx, tflite = found
    assert onnx.keys() == tflite.keys() and len(onnx) == 16
    for name in onnx:
        assert sqnr(SqnrStatistics.of(onnx[name], tflite[name]), free=False) > 70, name


@pytest.mark.parametrize("name", INT8)
def test_the_last_layer_is_that_of_two_plain_sessions(tiny_run: Path, name: str) -> None:
    bundle = Bundle.open(tiny_run)
    report = subject.compare(bundle, [name], images=FEW)
    pixels, description = subject.pick_images(bundle, None, FEW)
    assert report.images == description == "8 validation images" and report.n == len(pixels) == FEW
    (file,) = report.files
    assert file.reference == name.replace("int8", "fp32") and not file.unmatched and len(file.layers) == 62
    exact, small = (plain_probabilities(bundle.root / which, pixels) for which in (file.reference, name))
    expected = 10 * np.log10((exact.astype(float) ** 2).sum() / ((exact - small).astype(float) ** 2).sum())
    last = file.layers[-1]
    assert last.kind.lower() == "softmax" and not last.rescaled
    assert last.sqnr_db == pytest.approx(expected, abs=1e-2)
    # the session that predicts rounds elsewhere, and is close to it
    answers = runtimes_for(bundle.root / name)[0].open(bundle.root / name, 1).run(pixels).probabilities
    assert np.abs(answers - small).max() < 0.1
    assert [layer.place for layer in file.layers] == list(range(62))
    assert all(layer.sqnr_db > 10 and layer.cosine > 0.9 for layer in file.layers)  # equalization does not lower it


@pytest.mark.parametrize("name", INT8)
def test_a_damaged_layer_is_found(cli: Cli, run: Bundle, name: str) -> None:
    bundle = put(run, name, negated(run.root / name))
    code, out, err = cli("verify", bundle.root / name, "--layers", "--json", "--images", FEW)
    document = json.loads(out)
    assert code == 0 and document["schema"] == "skinedge.layers/1" and "gates not checked" in err
    said = document["files"][name]
    assert said["adds_most"] == VICTIM
    inner = [layer for layer in said["layers"] if layer["rescaled"]]  # the outputs may be worse, because of this layer
    worst = next(layer for layer in inner if layer["name"] == VICTIM)
    assert worst["sqnr_db"] < 1 and worst["lost"] > worst["channels"] / 2 and worst in inner[:3]
    assert worst["added"] > 0.9 > sorted(layer["added"] for layer in said["layers"])[-2]
    assert [layer["sqnr_db"] for layer in inner] == sorted(layer["sqnr_db"] for layer in inner)
    before = [layer for layer in inner if layer["place"] < worst["place"]]
    assert min(layer["sqnr_db"] for layer in before) > 15  # the layers before it are good
    assert not (bundle.root / "reports" / "layers.json").exists()  # one file: nothing is written


def test_a_table_a_report_and_a_picture(
    cli: Cli, run: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = cli("verify", run.root, "--layers", "--images", FEW)
    assert code == 0 and "factor" in err and all(len(line) <= 120 for line in out.splitlines())
    bundle = run.reload()
    kept = json.loads(bundle.file("reports/layers.json").read_text())
    assert list(kept["files"]) == list(INT8) and kept["n"] == FEW and kept["model_id"] == run.manifest.id
    assert sorted(f.path for f in bundle.manifest.stages["layers"].files) == [
        "reports/layers.json",
        "reports/layers.png",
    ]
    for name, said in kept["files"].items():
        assert said["sha256"] == run.entries()[name].sha256
        assert f"{name}: 15 of 62 layers" in out
        for layer in said["layers"][:15]:
            assert layer["name"] in out
    picture = Image.open(io.BytesIO(bundle.file("reports/layers.png").read_bytes()))
    colours = {tuple(colour) for colour in np.asarray(picture.convert("RGB"))[::8, ::8].reshape(-1, 3).tolist()}
    assert picture.format == "PNG" and {(0, 114, 178), (213, 94, 0)} <= colours  # bars, and the worst ones
    monkeypatch.setattr(layers_plot, "can_draw", lambda: False)
    subject.keep(bundle, subject.compare(bundle, [INT8[1]], images=FEW))
    assert "[plots]" in capfd.readouterr().err
    assert [f.path for f in run.reload().manifest.stages["layers"].files] == ["reports/layers.json"]


def test_without_images_the_golden_images_are_used(cli: Cli, imageless: Bundle) -> None:
    code, out, err = cli("verify", imageless.root / INT8[1], "--layers", "--json", "--images", FEW)
    document = json.loads(out)
    assert code == 0 and document["n"] == FEW and "golden" in document["images"] and "golden" in err


def test_a_missing_reference_is_an_error(cli: Cli, run: Bundle, tmp_path: Path) -> None:
    manifest = (run.root / "manifest.json").read_text()
    alone = shutil.copy(run.root / INT8[1], tmp_path / "alone.tflite")

    def refused(target: Path | str, said: str) -> None:
        code, out, err = cli("verify", target, "--layers", "--json")
        assert code == 1 and out == "" and said in err and "Traceback" not in err

    refused(alone, "a file without its run")
    refused(run.root / "model.fp32.onnx", "an fp32 file is the reference")
    without(run, "model.fp32.tflite")
    refused(run.root / INT8[1], f"skinedge export {run.root} --format tflite")
    refused(run.root, f"skinedge export {run.root} --format tflite")
    assert not (run.root / "reports" / "layers.json").exists()
    without(run, *INT8)
    refused(run.root, "fp32 files only")
    (run.root / "manifest.json").write_text(manifest)
    code, out, err = cli("verify", run.root, "--layers", "--data", tmp_path, "--json")
    assert code == 1 and out == "" and "val split are missing" in err
    assert (run.root / "manifest.json").read_text() == manifest


def test_an_fp32_file_of_another_contract_is_not_the_reference(run: Bundle) -> None:
    import onnx

    model = onnx.load(run.root / INT8[0])
    for prop in model.metadata_props:
        if prop.key == "skinedge":
            prop.value = json.dumps({**json.loads(prop.value), "input": "google"})
    bundle = put(run, INT8[0], model.SerializeToString())
    with pytest.raises(BundleError, match="input 'google'") as caught:
        subject.compare(bundle, [INT8[0]])
    assert "--format onnx --precision fp32 --contract google" in str(caught.value)


def test_a_layer_that_gives_nan_is_named(run: Bundle) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(run.root / INT8[0])
    (weight,) = (t for t in model.graph.initializer if t.name == "network.classifier.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0, 0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    with pytest.raises(BundleError, match="'linear' gives NaN or infinity"):
        subject.compare(put(run, INT8[0], model.SerializeToString()), [INT8[0]], images=FEW)


def test_incompatible_options(cli: Cli, tiny_run: Path) -> None:
    for options in (("--images", FEW), ("--layers", "--strict")):
        code, out, err = cli("verify", tiny_run, *options)
        assert code == 1 and out == "" and "--images requires --layers" in err


def test_only_onnx_files_need_the_package_onnx(tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    bundle = Bundle.open(tiny_run)
    with pytest.raises(MissingDependencyError, match="onnx"):
        subject.compare(bundle, [INT8[0]], images=FEW)
    assert subject.compare(bundle, [INT8[1]], images=FEW).files[0].layers
