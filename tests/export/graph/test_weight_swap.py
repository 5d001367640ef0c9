"""One trace serves every network of an architecture, and never one that it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge.core.preprocess import Preprocess
from skinedge.run.embedded_metadata import ModelDescription
from skinedge_export.converter import ExportJob
from skinedge_export.formats.onnx import convert as onnx_convert
from skinedge_export.formats.onnx2tf.converter import converter as onnx2tf
from skinedge_export.formats.tflite import convert as tflite_convert
from skinedge_export.graph.weight_swap import WeightSwap, graph_of

RULE = Preprocess(64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
LABELS = ("a", "b", "c", "d", "e")
CONVERTERS = [onnx_convert, tflite_convert]


def network(name: str, seed: int):
    """With weights, biases and BatchNorm statistics that no other seed has."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(name, num_classes=len(LABELS)).eval()
        for tensor_name, tensor in net.state_dict().items():
            if "bn" in tensor_name and tensor.dtype == torch.float32:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return net


def job(net, converter: Any, traces: dict[str, Any]) -> ExportJob:
    said, prior = dict.fromkeys(LABELS, "benign"), dict.fromkeys(LABELS, 0.2)
    description = ModelDescription("id", "name", "net", LABELS, said, None, prior, RULE, "unknown", True)
    return ExportJob(net, description, converter.recipe("fp32"), traces=traces)


def noise(count: int):
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def pytorchs(net, pixels):
    import torch

    normal = (torch.from_numpy(pixels).float() - torch.tensor(RULE.mean)) / torch.tensor(RULE.std)
    with torch.inference_mode():
        return torch.softmax(net(normal.permute(0, 3, 1, 2)), dim=1).numpy()


def files(path: Path, pixels):
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return np.concatenate([runner(pixels=image[None].astype(np.float32))["probabilities"] for image in pixels])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The formats that were traced."""
    seen: list[str] = []
    for module in CONVERTERS:
        name, trace = module.converter.format, module._trace
        monkeypatch.setattr(module, "_trace", lambda *a, name=name, trace=trace: (seen.append(name), trace(*a))[1])
    yield seen


@pytest.mark.parametrize("module", CONVERTERS, ids=["onnx", "tflite"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_nfnet"])
def test_a_second_network_is_not_traced_and_says_what_it_says(
    module: Any, backbone: str, traced: list[str], tmp_path: Path
) -> None:
    pixels, traces = noise(4), {}
    for seed in (1, 2):
        net = network(backbone, seed)
        path = tmp_path / f"{seed}{module.converter.suffix}"
        module.converter.convert(job(net, module.converter, traces), path)
        np.testing.assert_allclose(files(path, pixels), pytorchs(net, pixels), atol=1e-5)
    assert np.abs(pytorchs(network(backbone, 1), pixels) - pytorchs(net, pixels)).max() > 1e-3, "they must differ"
    # weight standardization is folded by a converter: its constants are not the network's own
    assert traced == [module.converter.format] * (2 if backbone == "test_nfnet" else 1)


@pytest.mark.parametrize("module", CONVERTERS, ids=["onnx", "tflite"])
def test_the_first_networks_graph_stays_as_it_is(module: Any, tmp_path: Path) -> None:
    traces: dict[str, Any] = {}
    first, second = job(network("test_resnet", 1), module.converter, traces), network("test_resnet", 2)
    paths = [tmp_path / f"{name}{module.converter.suffix}" for name in ("before", "other", "after")]
    module.converter.convert(first, paths[0])
    module.converter.convert(job(second, module.converter, traces), paths[1])
    module.converter.convert(first, paths[2])
    assert paths[0].read_bytes() == paths[2].read_bytes() != paths[1].read_bytes()


def test_formats_do_not_take_each_others_graphs(traced: list[str], tmp_path: Path) -> None:
    """TFLite files come from two converters; the one that goes by ONNX shares ONNX's graph."""
    traces: dict[str, Any] = {}
    net = network("test_resnet", 1)
    for _ in range(2):
        tflite_convert.converter.convert(job(net, tflite_convert.converter, traces), tmp_path / "file.tflite")
        onnx_convert.converter.convert(job(net, onnx_convert.converter, traces), tmp_path / "file.onnx")
        graph, _ = onnx_convert.fp32_graph(job(net, onnx2tf, traces))
        assert graph.graph.input[0].name == "pixels"
    assert sorted(traced) == ["onnx", "tflite"]


def test_a_weight_that_is_there_twice_is_found_once_for_both() -> None:
    before = {
        "one": np.arange(4, dtype=np.float32).reshape(2, 2),
        "two": np.arange(4, dtype=np.float32).reshape(2, 2, 1),
    }
    renewal = WeightSwap(before, {name: values * 2 for name, values in before.items()})
    renewal.of(before["one"])
    assert renewal.complete


def test_another_architecture_is_traced(traced: list[str], tmp_path: Path) -> None:
    traces: dict[str, Any] = {}
    for backbone in ("test_resnet", "test_efficientnet"):
        net = network(backbone, 1)
        onnx_convert.converter.convert(job(net, onnx_convert.converter, traces), tmp_path / "file.onnx")
        np.testing.assert_allclose(files(tmp_path / "file.onnx", noise(2)), pytorchs(net, noise(2)), atol=1e-5)
    assert traced == ["onnx", "onnx"]


BEFORE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3, 1), "b": np.array([7, 8], np.float32)}
AFTER = {name: values * 10 for name, values in BEFORE.items()}


def test_constants_are_found_in_any_order_of_axes() -> None:
    renewal = WeightSwap(BEFORE, AFTER)
    turned = np.ascontiguousarray(BEFORE["w"].transpose(1, 2, 0))
    np.testing.assert_array_equal(renewal.of(turned), AFTER["w"].transpose(1, 2, 0))
    assert not renewal.complete, "b was not asked for yet"
    np.testing.assert_array_equal(renewal.of(BEFORE["b"]), AFTER["b"])
    assert renewal.complete
    flat = renewal.of(BEFORE["w"].ravel())
    assert flat is not None and flat.shape == (6,)
    assert renewal.of(np.array([7, 9], np.float32)) is None
    assert renewal.of(BEFORE["b"].astype(np.float64)) is None


def test_a_weight_that_stays_need_not_be_found() -> None:
    assert WeightSwap(BEFORE, BEFORE).complete
    half = WeightSwap(BEFORE, {**BEFORE, "b": AFTER["b"]})
    assert not half.complete
    half.of(BEFORE["b"])
    assert half.complete


@pytest.mark.parametrize(
    "before",
    [
        {"one": np.zeros(3, np.float32), "two": np.zeros(3, np.float32)},  # alike until now
        {"one": np.ones((2, 2), np.float32)},  # the same in every order, until now
    ],
)
def test_what_could_be_taken_for_another_is_not_complete(before: dict[str, np.ndarray]) -> None:
    after = {
        name: values + np.arange(values.size).reshape(values.shape) + i
        for i, (name, values) in enumerate(before.items())
    }
    renewal = WeightSwap(before, {name: values.astype(np.float32) for name, values in after.items()})
    for values in before.values():
        renewal.of(values)
    assert not renewal.complete


def test_a_graph_that_keeps_something_of_the_first_network_is_not_used() -> None:
    """As if a converter had worked with a weight while tracing, and kept the weight beside the result."""
    made: list[int] = []

    def trace(model: Any, job: ExportJob) -> dict[str, Any]:
        made.append(1)
        tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return {"constants": tensors, "model": model}

    def renewed(graph: dict[str, Any], renewal: WeightSwap) -> dict[str, Any]:
        return {**graph, "constants": {name: renewal.of(values) for name, values in graph["constants"].items()}}

    def run(graph: dict[str, Any], images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        import torch

        with torch.inference_mode():  # the first network's model, whatever its constants have become
            said = [graph["model"](torch.from_numpy(image)) for image in images]
        return [{name: found.numpy() for name, found in each.items()} for each in said]

    traces: dict[str, Any] = {}
    for seed in (1, 2):
        graph_of(job(network("test_resnet", seed), onnx_convert.converter, traces), "made", trace, renewed, run)
    assert len(made) == 2
