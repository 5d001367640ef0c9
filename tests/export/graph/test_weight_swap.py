"""Graph reuse: one trace serves every network of an architecture, and no other network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
from skinedge_export.graph.weight_swap import GraphCache, Tracer, WeightSwap
from skinedge_export.signature import IOSignature

RULE = Preprocess(64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
LABELS = ("a", "b", "c", "d", "e")
CONVERTERS = [onnx_convert, tflite_convert]
TRACERS = {"onnx": onnx_convert.OnnxTracer, "tflite": tflite_convert.TfliteTracer}


def network(name: str, seed: int):
    """Build a network with weights, biases and BatchNorm statistics of its own for each seed."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = timm.create_model(name, num_classes=len(LABELS)).eval()
        for tensor_name, tensor in net.state_dict().items():
            if "bn" in tensor_name and tensor.dtype == torch.float32:
                tensor.copy_(torch.rand_like(tensor) + 0.5)
    return net


def job(net, converter: Any, graphs: GraphCache) -> ExportJob:
    said, prior = dict.fromkeys(LABELS, "benign"), dict.fromkeys(LABELS, 0.2)
    description = ModelDescription("id", "name", "net", LABELS, said, None, prior, RULE, "unknown", True)
    return ExportJob(net, description, converter.recipe("fp32"), graphs=graphs)


def noise(count: int):
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def pytorch_probabilities(net, pixels):
    import torch

    normal = (torch.from_numpy(pixels).float() - torch.tensor(RULE.mean)) / torch.tensor(RULE.std)
    with torch.inference_mode():
        return torch.softmax(net(normal.permute(0, 3, 1, 2)), dim=1).numpy()


def file_probabilities(path: Path, pixels):
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(["probabilities"], {"pixels": pixels.astype(np.float32)})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return np.concatenate([runner(pixels=image[None].astype(np.float32))["probabilities"] for image in pixels])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The traced formats, in order."""
    formats: list[str] = []
    for name, tracer in TRACERS.items():
        trace = tracer.trace
        monkeypatch.setattr(tracer, "trace", lambda *a, name=name, trace=trace: (formats.append(name), trace(*a))[1])
    yield formats


@pytest.mark.parametrize("module", CONVERTERS, ids=["onnx", "tflite"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_nfnet"])
def test_a_second_network_is_not_traced_and_its_file_computes_what_it_computes(
    module: Any, backbone: str, traced: list[str], tmp_path: Path
) -> None:
    pixels, graphs = noise(4), GraphCache()
    for seed in (1, 2):
        net = network(backbone, seed)
        path = tmp_path / f"{seed}{module.converter.suffix}"
        module.converter.convert(job(net, module.converter, graphs), path)
        np.testing.assert_allclose(file_probabilities(path, pixels), pytorch_probabilities(net, pixels), atol=1e-5)
    assert (
        np.abs(pytorch_probabilities(network(backbone, 1), pixels) - pytorch_probabilities(net, pixels)).max() > 1e-3
    ), "they must differ"
    # weight standardization is folded by a converter: its constants are not the network's own
    assert traced == [module.converter.format] * (2 if backbone == "test_nfnet" else 1)


@pytest.mark.parametrize("module", CONVERTERS, ids=["onnx", "tflite"])
def test_the_first_networks_graph_is_not_changed(module: Any, tmp_path: Path) -> None:
    graphs = GraphCache()
    first, second = job(network("test_resnet", 1), module.converter, graphs), network("test_resnet", 2)
    paths = [tmp_path / f"{name}{module.converter.suffix}" for name in ("before", "other", "after")]
    module.converter.convert(first, paths[0])
    module.converter.convert(job(second, module.converter, graphs), paths[1])
    module.converter.convert(first, paths[2])
    assert paths[0].read_bytes() == paths[2].read_bytes() != paths[1].read_bytes()


def test_converters_share_graphs_of_one_format_only(traced: list[str], tmp_path: Path) -> None:
    """onnx2tf writes TFLite files, but from the ONNX graph."""
    graphs = GraphCache()
    net = network("test_resnet", 1)
    for _ in range(2):
        tflite_convert.converter.convert(job(net, tflite_convert.converter, graphs), tmp_path / "file.tflite")
        onnx_convert.converter.convert(job(net, onnx_convert.converter, graphs), tmp_path / "file.onnx")
        graph, _ = onnx_convert.fp32_graph(job(net, onnx2tf, graphs))
        assert graph.graph.input[0].name == "pixels"
    assert sorted(traced) == ["onnx", "tflite"]


def test_equal_weights_that_stay_equal_may_share_a_constant() -> None:
    before = {
        "one": np.arange(4, dtype=np.float32).reshape(2, 2),
        "two": np.arange(4, dtype=np.float32).reshape(2, 2, 1),
    }
    swap = WeightSwap(before, {name: values * 2 for name, values in before.items()})
    swap.by_values(before["one"])
    assert swap.complete


def test_another_architecture_is_traced(traced: list[str], tmp_path: Path) -> None:
    graphs = GraphCache()
    for backbone in ("test_resnet", "test_efficientnet"):
        net = network(backbone, 1)
        onnx_convert.converter.convert(job(net, onnx_convert.converter, graphs), tmp_path / "file.onnx")
        np.testing.assert_allclose(
            file_probabilities(tmp_path / "file.onnx", noise(2)), pytorch_probabilities(net, noise(2)), atol=1e-5
        )
    assert traced == ["onnx", "onnx"]


BEFORE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3, 1), "b": np.array([7, 8], np.float32)}
AFTER = {name: values * 10 for name, values in BEFORE.items()}


def test_constants_are_recognized_with_axes_in_any_order() -> None:
    swap = WeightSwap(BEFORE, AFTER)
    turned = np.ascontiguousarray(BEFORE["w"].transpose(1, 2, 0))
    np.testing.assert_array_equal(swap.by_values(turned), AFTER["w"].transpose(1, 2, 0))
    assert not swap.complete, "b was not replaced yet"
    np.testing.assert_array_equal(swap.by_values(BEFORE["b"]), AFTER["b"])
    assert swap.complete
    flat = swap.by_values(BEFORE["w"].ravel())
    assert flat is not None and flat.shape == (6,)
    assert swap.by_values(np.array([7, 9], np.float32)) is None
    assert swap.by_values(BEFORE["b"].astype(np.float64)) is None


def test_an_unchanged_weight_need_not_be_replaced() -> None:
    assert WeightSwap(BEFORE, BEFORE).complete
    half = WeightSwap(BEFORE, {**BEFORE, "b": AFTER["b"]})
    assert not half.complete
    half.by_values(BEFORE["b"])
    assert half.complete


@pytest.mark.parametrize(
    "before",
    [
        {"one": np.zeros(3, np.float32), "two": np.zeros(3, np.float32)},  # equal before, not after
        {"one": np.ones((2, 2), np.float32)},  # equal in every order before, not after
    ],
)
def test_an_ambiguous_swap_is_not_complete(before: dict[str, np.ndarray]) -> None:
    after = {
        name: values + np.arange(values.size).reshape(values.shape) + i
        for i, (name, values) in enumerate(before.items())
    }
    swap = WeightSwap(before, {name: values.astype(np.float32) for name, values in after.items()})
    for values in before.values():
        swap.by_values(values)
    assert not swap.complete


def test_constants_with_a_weights_name_are_replaced_only_if_they_have_its_values() -> None:
    swap = WeightSwap(BEFORE, AFTER)
    assert swap.by_name("w", BEFORE["w"] + 1) is None, "changed by the converter"
    assert swap.by_name("w", BEFORE["w"].reshape(3, 2, 1)) is None, "another shape"
    assert swap.by_name("offset", BEFORE["w"]) is None, "not a weight"
    assert not swap.complete
    for name in BEFORE:
        np.testing.assert_array_equal(swap.by_name(name, BEFORE[name]), AFTER[name])
    assert swap.complete


def test_a_scalar_stays_a_scalar() -> None:
    swap = WeightSwap({"scale": np.array(1.0, np.float32)}, {"scale": np.array(2.0, np.float32)})
    replaced = swap.by_name("scale", np.array(1.0, np.float32))
    assert replaced is not None and replaced.shape == () and replaced == 2 and swap.complete


def test_equal_weights_that_differ_afterwards_each_need_a_constant_of_their_own() -> None:
    """A converter may have stored them once, under one of their names."""
    before = {"one": np.ones(3, np.float32), "two": np.ones(3, np.float32)}
    swap = WeightSwap(before, {**before, "one": np.full(3, 2, np.float32)})
    swap.by_name("one", before["one"])
    assert not swap.complete
    swap.by_name("two", before["two"])
    assert swap.complete


@dataclass(frozen=True)
class Forgetful(Tracer[dict[str, Any]]):
    """Keeps the first network's model beside the constants, as if tracing had computed something with its weights."""

    traced: list[int] = field(default_factory=list, compare=False)

    def trace(self, model: Any) -> dict[str, Any]:
        self.traced.append(1)
        return {"constants": {name: tensor.numpy() for name, tensor in model.state_dict().items()}, "model": model}

    def with_weights(self, graph: dict[str, Any], swap: WeightSwap) -> dict[str, Any]:
        return {**graph, "constants": {name: swap.by_values(values) for name, values in graph["constants"].items()}}

    def run(self, graph: dict[str, Any], images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        import torch

        with torch.inference_mode():
            outputs = [graph["model"](torch.from_numpy(image)) for image in images]
        return [{name: tensor.numpy() for name, tensor in each.items()} for each in outputs]


def test_a_graph_that_computes_something_else_than_pytorch_is_not_reused() -> None:
    tracer, graphs = Forgetful(RULE, IOSignature(), "net"), GraphCache()
    for seed in (1, 2):
        graphs.fp32(tracer, network("test_resnet", seed))
    assert len(tracer.traced) == 2
