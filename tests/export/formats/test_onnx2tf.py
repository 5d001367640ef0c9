"""The converter onnx2tf: its input, its environment, every failure; and, with SKINEDGE_CROSS_CHECK=1
(`make cross-check`), both converters on four networks."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import ConfigError, SkinedgeError
from skinedge.core.files import cache_folder
from skinedge.core.preprocess import Preprocess
from skinedge.run.embedded_metadata import ModelDescription
from skinedge.run.golden import load as load_golden
from skinedge.run.run_directory import Bundle
from skinedge_export.converter import ExportJob
from skinedge_export.export import export
from skinedge_export.formats.onnx import convert as onnx_convert
from skinedge_export.formats.onnx2tf import converter as module
from skinedge_export.formats.onnx2tf import environment
from skinedge_export.formats.onnx2tf.channels_first import channels_first
from skinedge_export.formats.onnx2tf.converter import converter
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.signature import IOSignature
from skinedge_export.target import export_targets

cross_check = pytest.mark.skipif(
    not os.environ.get("SKINEDGE_CROSS_CHECK"),
    reason="installs TensorFlow (1.6 GB) and takes minutes: make cross-check",
)
LABELS = ("nv", "mel", "bcc", "akiec", "bkl")
RULE = Preprocess(64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))  # one mean per channel


def network(name: str):
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, num_classes=len(LABELS)).eval()


def job(
    net, recipe: ExportRecipe, form: IOSignature | None = None, rule: Preprocess = RULE, calibration=None
) -> ExportJob:
    form = form or IOSignature()
    taxonomy, prior = dict.fromkeys(LABELS, "benign"), dict.fromkeys(LABELS, 0.2)
    description = ModelDescription("id", "name", "some net", LABELS, taxonomy, "mel", prior, rule, "dermoscopic", False)
    description = replace(description, precision=recipe.precision, input=form.contract)
    return ExportJob(net, description, recipe, form, calibration)


def images(count: int, size: int, seed: int = 0):
    """Draw smooth images of many colours and contrasts: on noise every network predicts the same."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(size=(count, 8, 1, 1, 3)) * rng.uniform(5, 60, (count, 1, 1, 1, 1))
    places = np.linspace(0, 2 * np.pi, size)
    turns = rng.uniform(0.3, 6, (count, 8, 2))
    angle = turns[..., :1, None] * places[:, None] + turns[..., 1:, None] * places
    mixed = (np.sin(angle)[..., None] * waves).sum(axis=1) + rng.uniform(60, 200, (count, 1, 1, 3))
    return mixed.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "form", [IOSignature(logits=True, heatmap=True), IOSignature("uint8")], ids=["all outputs", "bytes"]
)
def test_channels_first_computes_the_same(form: IOSignature) -> None:
    import onnxruntime

    model, _ = onnx_convert.fp32_graph(job(network("test_resnet"), converter.recipe("fp32"), form))
    before = model.SerializeToString()
    turned = channels_first(model)
    assert model.SerializeToString() == before
    ours, theirs = (onnxruntime.InferenceSession(m.SerializeToString()) for m in (model, turned))
    assert theirs.get_inputs()[0].shape == [1, 3, 64, 64]
    pixels = form.input.encode(images(1, 64))
    expected = ours.run(list(form.outputs), {"pixels": pixels})
    found = theirs.run(list(form.outputs), {"pixels": pixels.transpose(0, 3, 1, 2)})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    (pool,) = (node for node in turned.graph.node if node.op_type == "MaxPool")  # test_resnet's, after a ReLU
    assert [list(item.ints) for item in pool.attribute if item.name == "pads"] == [[0, 0, 0, 0]]


def test_a_graph_without_the_first_transposition_is_refused() -> None:
    from onnx import TensorProto, helper

    start, end = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("pixels", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["pixels"], ["y"])], "g", [start], [end])
    with pytest.raises(SkinedgeError, match="pixels go into Relu, not into a transposition"):
        channels_first(helper.make_model(graph))


WHEEL = "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty folder, pip's only source; the environment needs the package `tiny` from it, in place of TensorFlow."""
    pins, folder = tmp_path / "pins.txt", tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder)
    digest = hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()
    pins.write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (folder / WHEEL).unlink()
    monkeypatch.setattr(environment, "PINS", pins)
    monkeypatch.setattr(environment, "HASHES", pins)
    monkeypatch.setattr(environment, "PYTHONS", (f"{sys.version_info.major}.{sys.version_info.minor}",))
    monkeypatch.setenv("SKINEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, code: str = "size = 1") -> None:
    files = {
        "tiny.py": code,
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name), text)  # fixed date: deterministic bytes


def folders(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def test_the_environment_is_created_once_and_completely_or_not_at_all(
    wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SkinedgeError, match=r"cannot install onnx2tf and TensorFlow: ERROR: .*tiny==1\.0") as caught:
        environment.interpreter()
    assert "Without --converter" in str(caught.value)
    assert folders(cache_folder()) == []

    said = capsys.readouterr().err
    assert "once; 1.6 GB" in said
    name = Path(said.partition(" into ")[2].partition(" (once")[0]).name
    left = cache_folder() / f"{name}.part" / "lib"  # as left by a killed process
    left.mkdir(parents=True)
    write_wheel(wheels)
    python = environment.interpreter()
    assert folders(cache_folder()) == [name]
    assert subprocess.run([python, "-I", "-c", "import tiny"], check=False).returncode == 0

    (wheels / WHEEL).unlink()
    capsys.readouterr()
    assert environment.interpreter() == python
    assert capsys.readouterr().err == ""


def test_another_file_than_the_pinned_one_is_refused(wheels: Path) -> None:
    """A registry, or a proxy, serves another wheel of the same name and version."""
    write_wheel(wheels, code="size = 2")
    with pytest.raises(SkinedgeError, match=r"(?i)do not match the hashes"):
        environment.interpreter()
    assert folders(cache_folder()) == []


def test_too_little_space_is_reported_before_anything_is_installed(
    wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "SPACE", 10**18)
    with pytest.raises(SkinedgeError, match=r"needs 1000000000\.0 GB, .* are free") as caught:
        environment.interpreter()
    assert "SKINEDGE_CACHE" in str(caught.value)
    assert folders(cache_folder()) == []


def test_a_cache_folder_that_cannot_be_created_is_named(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINEDGE_CACHE", str(environment.PINS / "cache"))  # below a file
    with pytest.raises(SkinedgeError, match="cannot write"):
        environment.interpreter()


def test_another_python_is_searched_and_its_version_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PYTHONS", ("3.5", "3.4"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, said in (("python3.5", "exit 127"), ("python3.4", "echo 3.4")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    assert environment.base_python() == ("3.4", tmp_path / "python3.4")
    (tmp_path / "python3.4").unlink()
    with pytest.raises(SkinedgeError, match=r"needs Python 3\.5 or 3\.4; this is 3"):
        environment.base_python()


def test_the_cache_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKINEDGE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("SKINEDGE_CACHE")
    assert cache_folder() == Path("/b/skinedge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "skinedge"


def test_every_pin_is_exact() -> None:
    lines = [line for line in environment.PINS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][^ ;]*(; .+)?", line) for line in lines), lines
    assert {"onnx2tf", "tensorflow", "tensorflow-cpu", "onnx"} <= {line.partition("==")[0] for line in lines}


def test_other_pins_are_another_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = converter.recipe("int8")
    (tmp_path / "pins.txt").write_text("tiny==1.0\n")
    monkeypatch.setattr(module, "PINS", tmp_path / "pins.txt")
    assert replace(converter.recipe("int8"), sha256="") == replace(before, sha256="")
    assert converter.recipe("int8").sha256 != before.sha256


def test_settings_without_a_tensorflow_option_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "interpreter", pytest.fail)  # before any environment is created
    net, pixels, int8 = network("test_resnet"), images(8, 64), converter.recipe("int8")
    percentile = replace(int8, calibration=replace(int8.calibration, ranges="percentile"))
    for wrong, match in (
        (job(net, int8), "calibration images"),
        (job(net, percentile, calibration=pixels), "no ranges 'percentile'"),
        (replace(job(net, int8, calibration=pixels), kept_float=(Layer(("stem",)),)), "all layers"),
    ):
        with pytest.raises(ConfigError, match=match):
            converter.convert(wrong, tmp_path / "file")
    with pytest.raises(ConfigError, match="no export recipe 'onnx2tf-fp16'"):
        converter.recipe("fp16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "match"),
    [
        (None, "onnx2tf failed: ModuleNotFoundError: No module named 'onnx2tf'"),
        ("import os; os.kill(os.getpid(), 9)", "onnx2tf failed: its process was ended by SIGKILL"),
        (r"print('\x1b[31mERROR:\x1b[0m Foo OP is not yet implemented.'); exit(1)", "failed: Foo OP is not yet"),
        ("exit(3)", "onnx2tf failed: no message"),
    ],
    ids=["exception", "killed", "unknown operation", "silent"],
)
def test_a_failure_of_the_script_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, match: str
) -> None:
    """Run the script with our own Python, which has no onnx2tf."""
    monkeypatch.setattr(module, "interpreter", lambda: Path(sys.executable))
    monkeypatch.setattr(module, "channels_first", lambda model: model)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if script is not None:
        (tmp_path / "script.py").write_text(script)
        monkeypatch.setattr(module, "SCRIPT", tmp_path / "script.py")
    import onnx

    monkeypatch.setattr(module, "fp32_graph", lambda job: (onnx.ModelProto(), {}))
    with pytest.raises(SkinedgeError, match=match) as caught:
        converter.convert(job(None, converter.recipe("fp32")), tmp_path / "file")
    assert caught.value.where == "some net"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"] * (script is not None)


BACKBONES = ("tf_efficientnet_lite0", "mobilenetv2_100", "mobilenetv4_conv_small", "resnet18")
SIZE = 128


def settled(name: str):
    """Build a network with random weights and matching BatchNorm statistics, so that its logits differ."""
    import torch

    net = network(name)
    for norm in (part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.momentum = None  # the mean over all batches: here of one
        torch.nn.init.ones_(norm.weight)  # of residual branches too, which start at zero: a converter drops them
    with torch.no_grad():
        net.train()(normal(images(32, SIZE, seed=1)))
    return net.eval()


def normal(pixels):
    import torch

    return ((torch.from_numpy(pixels).float() - torch.tensor(RULE.mean)) / torch.tensor(RULE.std)).permute(0, 3, 1, 2)


def logits_of(path: Path, pixels):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    found = [runner(pixels=image[None].astype(np.float32)) for image in pixels]
    for one in found:
        powers = np.exp(one["logits"] - one["logits"].max())
        np.testing.assert_allclose(one["probabilities"], powers / powers.sum(), atol=1 / 128)
    return np.concatenate([one["logits"] for one in found])


@cross_check
@pytest.mark.timeout(1800)  # the first one installs TensorFlow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_both_converters_make_the_network(backbone: str, tmp_path: Path) -> None:
    """Compare with PyTorch: fp32 to the last digits; int8 of random weights is noisy, equally in both files."""
    import torch

    net, pixels, rule = settled(backbone), images(24, SIZE, seed=2), replace(RULE, size=SIZE)
    with torch.no_grad():
        expected = net(normal(pixels)).numpy()
    spread = expected.std(axis=0)
    errors = []
    for precision, calibration in (("fp32", None), ("int8", images(32, SIZE, seed=1))):
        for made_by in (tflite_convert.converter, converter):
            asked = job(net, made_by.recipe(precision), IOSignature(logits=True), rule, calibration)
            artifact = made_by.convert(asked, tmp_path / "file.tflite")
            assert [(spec.name, spec.shape) for spec in artifact.inputs] == [("pixels", (1, SIZE, SIZE, 3))]
            assert artifact.ops.count("TRANSPOSE") < 2, artifact.ops
            found = logits_of(artifact.path, pixels)
            if precision == "fp32":
                assert np.abs(found - expected).max() < 1e-3 * spread.min()
                continue
            alike = [np.corrcoef(found[:, label], expected[:, label])[0, 1] for label in range(len(LABELS))]
            assert np.mean(alike) > 0.5
            errors.append(float((np.abs(found - expected) / spread).mean()))
    assert 0.75 < errors[0] / errors[1] < 1.33


@cross_check
@pytest.mark.timeout(1800)
def test_files_of_the_other_converter_are_added_to_a_run(run_copy: Bundle) -> None:
    """All gates pass, int8 on validation images; existing files and the default file stay."""
    before, default = run_copy.entries(), run_copy.manifest.default_file
    bundle = export(run_copy, export_targets(("tflite",), int8=True, converter="onnx2tf"))
    assert bundle.manifest.default_file == default
    assert {name: entry.sha256 for name, entry in before.items() if name.startswith("model.")}.items() <= {
        name: entry.sha256 for name, entry in bundle.entries().items()
    }.items()
    for precision in ("fp32", "int8"):
        name = f"model.{precision}.onnx2tf.tflite"
        said = bundle.entries()[name].info
        assert (said["format"], said["precision"], said["asked"]["converter"]) == ("tflite", precision, "onnx2tf")
        assert {"onnx2tf", "tensorflow"} <= set(said["versions"])
        assert {gate["verdict"] for gate in said["gates"]} <= {"pass", "inconclusive"}
        with zipfile.ZipFile(bundle.file(name)) as archive:
            assert archive.read("labels.txt").decode().split() == list(bundle.manifest.labels)
    pixels = load_golden(bundle.file("golden.npz")).pixels
    ours, theirs = (run_tflite(bundle.file(f"model.fp32{part}.tflite"), pixels) for part in ("", ".onnx2tf"))
    np.testing.assert_allclose(theirs, ours, atol=1e-5)


def run_tflite(path: Path, pixels):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return np.concatenate([runner(pixels=image[None].astype(np.float32))["probabilities"] for image in pixels])


def test_another_converter_makes_static_int8_of_its_own_format_only() -> None:
    made = export_targets(("tflite",), int8=True, converter="onnx2tf")
    names = [ask.file_name(ask.precision, ".tflite") for ask in made]
    assert names == ["model.fp32.onnx2tf.tflite", "model.int8.onnx2tf.tflite"]
    with pytest.raises(ConfigError, match="makes tflite files, not onnx"):
        export_targets(("onnx", "tflite"), converter="onnx2tf")
