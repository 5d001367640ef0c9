"""Runtimes against PyTorch and NumPy, with damaged and third-party files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import BundleError, ConfigError, SkinedgeError
from skinedge.core.preprocess import Preprocess
from skinedge.run import golden
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.plugins import RUNTIMES, Session, load, runtimes_for
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge_bench.runtimes.litert import _delegated

FILES = ("model.safetensors", "model.fp32.onnx", "model.int8.onnx", "model.fp32.tflite", "model.int8.tflite")
Foreign = Callable[..., Path]


def open_session(path: Path, threads: int = 1) -> Session:
    return runtimes_for(path)[0].open(path, threads)


@pytest.fixture(scope="module")
def vectors(tiny_run: Path) -> golden.Golden:
    return golden.load(tiny_run / "golden.npz")


@pytest.mark.parametrize("name", ["model.safetensors", "model.fp32.onnx", "model.fp32.tflite"])
def test_fp32_files_give_pytorchs_outputs(tiny_run: Path, vectors: golden.Golden, name: str) -> None:
    outputs = open_session(tiny_run / name).run(vectors.pixels)
    np.testing.assert_allclose(outputs.probabilities, metrics.softmax(vectors.logits), atol=1e-5)
    assert outputs.probabilities.dtype == np.float32
    if outputs.logits is not None:
        np.testing.assert_allclose(outputs.logits, vectors.logits, atol=1e-4)


def test_the_torch_session_is_the_timm_model_on_normalized_pixels(tiny_run: Path, vectors: golden.Golden) -> None:
    import timm
    import torch
    from safetensors.torch import load_file

    manifest = Bundle.open(tiny_run).manifest
    net = timm.create_model(manifest.training["backbone"], num_classes=len(manifest.labels)).eval()
    net.load_state_dict(load_file(tiny_run / "model.safetensors"))
    mean, std = np.array(manifest.preprocess.mean), np.array(manifest.preprocess.std)
    image = ((vectors.pixels[:3] - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(
        open_session(tiny_run / "model.safetensors").run(vectors.pixels[:3]).logits, expected, atol=1e-4
    )


@pytest.mark.parametrize("name", FILES)
def test_an_images_result_does_not_depend_on_its_batch(tiny_run: Path, vectors: golden.Golden, name: str) -> None:
    session = open_session(tiny_run / name)
    batched = session.run(vectors.pixels[:19]).probabilities
    single = np.concatenate([session.run(image[None]).probabilities for image in vectors.pixels[:19]])
    np.testing.assert_allclose(batched, single, atol=1e-5)
    assert session.run(vectors.pixels[:0]).probabilities.shape == (0, batched.shape[1])


@pytest.mark.parametrize("name", FILES)
def test_sessions_in_several_threads_agree(tiny_run: Path, vectors: golden.Golden, name: str) -> None:
    def work(_: int) -> np.ndarray:
        return open_session(tiny_run / name).run(vectors.pixels[:8]).probabilities

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(work, range(3)))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-6)


@pytest.mark.parametrize("name", FILES)
def test_embedded_descriptions_match_the_run(tiny_run: Path, name: str) -> None:
    manifest = Bundle.open(tiny_run).manifest
    session = open_session(tiny_run / name)
    own = ModelDescription.from_json(session.metadata[KEY], name)
    assert own.labels == manifest.labels
    assert own.preprocess == manifest.preprocess
    assert session.outputs[0].shape[-1] == len(manifest.labels)
    if name.endswith(".tflite"):
        assert tuple(session.metadata["labels"].split()) == manifest.labels
        assert session.partitions is not None and session.partitions >= 1


def test_another_image_size_is_refused(tiny_run: Path) -> None:
    wrong = np.zeros((1, 40, 40, 3), dtype=np.uint8)
    for name in FILES:
        with pytest.raises(ConfigError, match="40"):
            open_session(tiny_run / name).run(wrong)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 50])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        open_session(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_files_are_named(tiny_run: Path, tmp_path: Path, name: str, share: float) -> None:
    content = (tiny_run / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BundleError, match=name):
        open_session(path)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=name):
        open_session(tmp_path / name)


def test_an_unknown_file_type_lists_the_supported_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.onnx.*\.tflite"):
        runtimes_for(tmp_path / "model.h5")


def test_weights_without_a_description_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "bare.safetensors")
    with pytest.raises(BundleError, match="which network"):
        open_session(tmp_path / "bare.safetensors")


def test_weights_of_another_network_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    metadata = dict(open_session(tiny_run / "model.safetensors").metadata)
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(BundleError, match="do not fit"):
        open_session(tmp_path / "other.safetensors")


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("dtype", ["FLOAT", "UINT8"])
@pytest.mark.parametrize(("layout", "batch"), [("NHWC", "n"), ("NCHW", "n"), ("NCHW", 1), ("NHWC", 4)])
def test_third_party_layouts_batches_and_logits(
    foreign: Foreign, layout: str, batch: int | str, dtype: str, softmax: bool
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
    scores = pixels.reshape(6, 64, 3).mean(axis=1) / 10
    outputs = open_session(foreign(layout, batch, softmax, dtype)).run(pixels)
    np.testing.assert_allclose(outputs.probabilities, metrics.softmax(scores), atol=1e-5)
    if softmax:
        assert outputs.logits is None
    else:
        assert outputs.logits is not None
        np.testing.assert_allclose(outputs.logits, scores, rtol=1e-5)


def test_a_file_that_is_not_an_image_classifier_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "no", spec[:1], spec[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "vector.onnx")
    with pytest.raises(ConfigError, match="square RGB"):
        open_session(tmp_path / "vector.onnx")


def write_integer_file(path: Path, dtype: str, scale: float, zero: int) -> Path:
    """Write a .tflite file [1, 8, 8, 3] -> [1, 3] that averages the image, with integer input and output."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: str, shape: list[int], buffer: int, kind: int, quantized: bool) -> object:
        created = schema.TensorT()
        created.name, created.shape, created.buffer, created.type = name, shape, buffer, kind
        if quantized:
            created.quantization = schema.QuantizationParametersT()
            created.quantization.scale, created.quantization.zeroPoint = [scale], [zero]
        return created

    kind = getattr(schema.TensorType, dtype.upper())
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = [
        tensor("image", [1, 8, 8, 3], 0, kind, True),
        tensor("axes", [2], 1, schema.TensorType.INT32, False),
        tensor("scores", [1, 3], 0, kind, True),
    ]
    operator, code = schema.OperatorT(), schema.OperatorCodeT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    operator.builtinOptions = schema.ReducerOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    empty, axes = schema.BufferT(), schema.BufferT()
    axes.data = np.array([1, 2], dtype=np.int32).view(np.uint8)
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [empty, axes]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize(("dtype", "lowest"), [("int8", -128), ("uint8", 0)])
def test_integer_input_and_output_of_a_third_party_file(tmp_path: Path, dtype: str, lowest: int) -> None:
    """Bytes are passed unchanged; the file's own scale turns them into (x - 127) / 128."""
    path = write_integer_file(tmp_path / "third_party.tflite", dtype, 1 / 128, lowest + 127)
    session = open_session(path)
    assert session.inputs[0].dtype == session.outputs[0].dtype == dtype
    pixels = np.random.default_rng(3).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    expected = (pixels.reshape(5, 64, 3).mean(axis=1) - 127) / 128
    outputs = session.run(pixels)
    assert outputs.logits is not None
    np.testing.assert_allclose(outputs.logits, expected, atol=1 / 128)
    np.testing.assert_allclose(outputs.probabilities, metrics.softmax(outputs.logits), atol=1e-6)


@pytest.mark.parametrize(("text", "complaint"), [("{}", "model description"), (None, "float32, but it is int8")])
def test_a_file_that_contradicts_its_description_is_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = write_integer_file(tmp_path / "ours.tflite", "int8", 2.0, -100)
    labels = ("a", "b", "c")
    own = ModelDescription(
        run_id="r", name="n", architecture="x", labels=labels, taxonomy=dict.fromkeys(labels, "benign"), melanoma=None,
        class_prior=dict.fromkeys(labels, 1 / 3), preprocess=Preprocess(8), domain="dermoscopic", synthetic=True,
    )  # fmt: skip
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("skinedge.json", own.to_json() if text is None else text)
    with pytest.raises(SkinedgeError, match=complaint):
        open_session(path)


@pytest.mark.parametrize("delegated", [True, False])
def test_operations_outside_the_delegate_are_named(tiny_run: Path, delegated: bool) -> None:
    """Without a delegate, all operations are outside; with XNNPACK, none of a float file."""
    from ai_edge_litert import interpreter as litert

    kind = litert.OpResolverType
    resolver = kind.AUTO if delegated else kind.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    path = str(tiny_run / "model.fp32.tflite")
    interpreter = litert.Interpreter(model_path=path, num_threads=1, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    names = {node["op_name"] for node in interpreter._get_ops_details()}
    partitions, outside = _delegated(interpreter)
    assert partitions is not None and outside is not None
    assert (partitions, set(outside)) == ((1, set()) if delegated else (0, names))
    assert "SOFTMAX" in names


def test_every_runtime_reports_its_version() -> None:
    for name in ("litert", "onnxruntime", "torch"):
        assert load(RUNTIMES, name).version()[0].isdigit()


def test_an_unknown_runtime_lists_the_installed_ones() -> None:
    with pytest.raises(SkinedgeError, match="litert"):
        load(RUNTIMES, "tensorrt")
