"""ONNX files with quantized weights: contents, outputs and sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skinedge_export.formats.onnx.weight_only import LEAST, STEPS, quantize_weights, rounded


def network() -> Any:
    """Build two convolutions (one depthwise), a linear layer, and constants too small to quantize."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    wide = rng.normal(size=(256, 64, 3, 3)) * np.geomspace(1e-3, 10, 256)[:, None, None, None]
    arrays = {
        "first": rng.normal(size=(64, 3, 3, 3)),
        "deep": rng.normal(size=(64, 1, 5, 5)),
        "wide": wide / 24,
        "bias": rng.normal(size=2048),
        "head": rng.normal(size=(10, 256)) / 16,
        "last": rng.normal(size=10),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "first"], ["a"], "a"),
        helper.make_node("Relu", ["a"], ["b"], "b"),
        helper.make_node("Conv", ["b", "deep"], ["c"], "c", group=64),
        helper.make_node("Relu", ["c"], ["d"], "d"),
        helper.make_node("Conv", ["d", "wide"], ["e"], "e"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], "f"),
        helper.make_node("Flatten", ["f"], ["g"], "g"),
        helper.make_node("Gemm", ["g", "head", "last"], ["logits"], "h", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def exact() -> Any:
    return network()


def tensors(model: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def run(model: Any, pixels: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"pixels": pixels})[0]


def with_weights(model: Any, changed: dict[str, np.ndarray]) -> Any:
    from onnx import numpy_helper

    other = type(model)()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    return other


PIXELS = np.random.default_rng(1).normal(size=(3, 3, 12, 12)).astype(np.float32)
LARGE = ("first", "deep", "wide", "head")


def test_the_network_has_weights_of_both_sizes(exact: Any) -> None:
    held = tensors(exact)
    assert all(held[name].size >= LEAST for name in LARGE) and held["last"].size < LEAST < held["bias"].size


def test_int8_weights_are_within_half_a_step_of_their_channel(exact: Any) -> None:
    weights, held = tensors(exact), tensors(quantize_weights(exact, "int8-weight"))
    for name in LARGE:
        levels, steps = held[f"{name}_int8-weight"], held[f"{name}_int8-weight_scale"]
        assert levels.dtype == np.int8 and np.abs(levels.astype(int)).max() == STEPS
        steps = steps.reshape(-1, *[1] * (levels.ndim - 1))
        error = np.abs(levels.astype(np.float64) * steps - weights[name])
        assert (error <= 0.5 * steps * (1 + 1e-5)).all(), name
        assert not held[f"{name}_int8-weight_zero"].any()
        assert len(np.unique(steps)) > 1, "one step for all channels"


def test_a_channel_without_weights_stays_zero() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    weights[1] = 0
    levels, steps = rounded(weights)
    assert not levels[1].any() and np.isfinite(steps).all() and (steps > 0).all()
    np.testing.assert_array_equal(np.abs(levels[[0, 2]]).max(axis=1), STEPS)


@pytest.mark.parametrize("precision", ["int8-weight", "fp16"])
def test_the_file_is_valid_and_computes_with_the_dequantized_weights(exact: Any, precision: str) -> None:
    """Oracle: the fp32 file with weights rounded here, in numpy."""
    import onnx

    small = quantize_weights(exact, precision)
    onnx.checker.check_model(small, full_check=True)
    weights = {name: tensors(exact)[name] for name in LARGE}
    if precision == "fp16":
        widened = {name: values.astype(np.float16).astype(np.float32) for name, values in weights.items()}
    else:
        steps = {name: np.abs(values).reshape(len(values), -1).max(1) / 127 for name, values in weights.items()}
        steps = {name: found.reshape(-1, *[1] * (weights[name].ndim - 1)) for name, found in steps.items()}
        widened = {name: np.rint(values / steps[name]) * steps[name] for name, values in weights.items()}
    expected, found = run(with_weights(exact, widened), PIXELS), run(small, PIXELS)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=1e-4 * scale)
    whole = run(exact, PIXELS)
    limit = {"int8-weight": 0.02, "fp16": 0.002}[precision]
    assert 0 < np.abs(found - whole).max() < limit * scale


@pytest.mark.parametrize(("precision", "ratio"), [("int8-weight", 0.25), ("fp16", 0.5)])
def test_a_file_of_large_weights_shrinks_to_a_quarter_or_a_half(
    exact: Any, tmp_path: Path, precision: str, ratio: float
) -> None:
    import onnx

    sizes = []
    for name, model in (("whole", exact), ("small", quantize_weights(exact, precision))):
        onnx.save(model, tmp_path / name)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[1] / sizes[0] == pytest.approx(ratio, abs=0.03)


@pytest.mark.parametrize("precision", ["int8-weight", "fp16"])
def test_biases_and_the_original_model_are_not_changed(exact: Any, precision: str) -> None:
    before = exact.SerializeToString(deterministic=True)
    small = quantize_weights(exact, precision)
    assert exact.SerializeToString(deterministic=True) == before
    for name in ("bias", "last"):
        np.testing.assert_array_equal(tensors(small)[name], tensors(exact)[name])
    assert not set(LARGE) & set(tensors(small))
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count({"int8-weight": "DequantizeLinear", "fp16": "Cast"}[precision]) == len(LARGE)
