"""Activation ranges, compared with oracles that use every value rather than a histogram."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skinedge.core.errors import ConfigError
from skinedge.core.preprocess import Preprocess
from skinedge.run.embedded_metadata import ModelDescription
from skinedge_export.converter import ExportJob
from skinedge_export.formats.onnx.quantize import quantize
from skinedge_export.int8.activation_ranges import BINS, LEVELS, METHODS, TAIL, Histogram, count, narrowed
from skinedge_export.recipe import CalibrationSettings, ExportRecipe


def histogram(*images: Any) -> Histogram:
    """Count one tensor's histogram over these images, as a converter does."""
    arrays = [np.asarray(image, np.float32) for image in images]
    limits = {"x": (float(min(a.min() for a in arrays)), float(max(a.max() for a in arrays)))}
    return count(({"x": array} for array in arrays), limits)["x"]


def rounding_error(values: np.ndarray, low: float, high: float) -> float:
    """Return the mean squared error of 8 bits between low and high, with every value rounded and clipped."""
    step = (high - low) / LEVELS
    stored = np.clip(np.rint((values - low) / step), 0, LEVELS) * step + low
    return float(np.square(stored - values).mean())


@pytest.fixture(scope="module")
def far_outlier() -> np.ndarray:
    """Outputs of a ReLU, and one value ten times as large as all others."""
    values = np.abs(np.random.default_rng(0).normal(size=1_000_000)).astype(np.float32)
    values[0] = 30.0
    return values


def test_every_value_is_counted_once_in_its_bin() -> None:
    values = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    found = histogram(values[:20_000], values[20_000:])
    assert found.counts.sum() == len(values)
    expected, edges = np.histogram(values, bins=BINS, range=(found.low, found.high))
    assert np.abs(np.cumsum(found.counts) - np.cumsum(expected)).max() <= 5  # values on an edge, in float32
    np.testing.assert_allclose(found.centres, (edges[1:] + edges[:-1]) / 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_images_changes_nothing(method: str) -> None:
    images = [np.random.default_rng(seed).normal(scale=1 + seed, size=999) for seed in range(9)]
    forward, backward = histogram(*images), histogram(*images[::-1])
    np.testing.assert_array_equal(forward.counts, backward.counts)
    assert narrowed(forward, method) == narrowed(backward, method)


@pytest.mark.parametrize("seed", range(3))
def test_percentile_is_numpys_within_a_bin(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(1.0, size=300_000) - 2.0
    found = histogram(values)
    width = (found.high - found.low) / BINS
    low, high = narrowed(found, "percentile")
    wanted = np.percentile(values, [100 * TAIL / 2, 100 * (1 - TAIL / 2)])
    assert high < found.high - 10 * width, "nothing was cut"
    assert wanted[0] - 2 * width <= low <= wanted[0] + width
    assert wanted[1] - width <= high <= wanted[1] + 2 * width
    assert ((values < low) | (values > high)).mean() <= TAIL


def test_min_max_is_the_smallest_and_the_largest_value() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert narrowed(histogram(values), "min-max") == (float(values.min()), float(values.max()))


def test_mse_clips_an_outlier_and_reduces_the_error(far_outlier: np.ndarray) -> None:
    found = histogram(far_outlier)
    low, high = narrowed(found, "mse")
    assert low == 0 and high < 30
    assert rounding_error(far_outlier, low, high) < 0.6 * rounding_error(far_outlier, *narrowed(found, "min-max"))


def test_mse_is_the_best_of_its_ranges_by_the_real_error() -> None:
    """Oracle: round every value, in every range that the method may choose."""
    values = np.abs(np.random.default_rng(0).standard_t(3, size=200_000))
    found = histogram(values)
    errors = {shrink: rounding_error(values, 0, found.high * shrink) for shrink in np.linspace(1, 0.3, 36)}
    chosen = rounding_error(values, *narrowed(found, "mse"))
    assert chosen <= 1.02 * min(errors.values())
    assert chosen < 0.9 * errors[1.0]


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (0, 6), (-3, 0.5)])
def test_mse_does_not_clip_uniform_values(low: float, high: float) -> None:
    found = histogram(np.random.default_rng(0).uniform(low, high, 100_000))
    assert narrowed(found, "mse") == narrowed(found, "min-max")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("low", "high"), [(5, 9), (-9, -5), (-2, 3)])
def test_a_range_always_contains_zero(method: str, low: float, high: float) -> None:
    found = narrowed(histogram(np.random.default_rng(0).uniform(low, high, 10_000)), method)
    assert found[0] <= 0 <= found[1]
    assert found[0] == 0 or low < 0
    assert found[1] == 0 or high > 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("value", "wanted"), [(3.0, (0, 3)), (-2.0, (-2, 0)), (0.0, (0, 0))])
def test_a_constant_tensor_has_a_range(method: str, value: float, wanted: tuple[float, float]) -> None:
    assert narrowed(histogram(np.full((4, 5), value), np.full((4, 5), value)), method) == wanted


def test_missing_and_unlisted_tensors_are_skipped() -> None:
    images: Iterable[dict[str, np.ndarray]] = [{"a": np.ones(3, np.float32), "b": np.zeros(5, np.float32)}, {}]
    found = count(images, {"a": (0.0, 1.0)})
    assert list(found) == ["a"] and found["a"].counts.sum() == 3


def small_graph() -> Any:
    """Build pixels -> Conv -> Relu -> average -> Gemm -> Softmax by hand, as our exporter writes it."""
    from onnx import TensorProto, helper, numpy_helper, shape_inference

    rng = np.random.default_rng(0)
    arrays = {
        "offset": np.float32(-127),
        "weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32) / 128,
        "bias": np.zeros(4, np.float32),
        "head": rng.normal(size=(3, 4)).astype(np.float32),
        "last": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Add", ["pixels", "offset"], ["centred"], "add"),
        helper.make_node("Transpose", ["centred"], ["moved"], "move", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["moved", "weight", "bias"], ["wide"], "conv"),
        helper.make_node("Relu", ["wide"], ["features"], "relu"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head", "last"], ["logits"], "gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 16, 16, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return shape_inference.infer_shapes(model)


def quantized(pixels: np.ndarray | None, method: str) -> Any:
    model, labels = small_graph(), ("a", "b", "c")
    prior = dict.fromkeys(labels, 1 / 3)
    said = dict.fromkeys(labels, "benign")
    description = ModelDescription("id", "n", "small", labels, said, None, prior, Preprocess(16), "unknown", True)
    recipe = ExportRecipe("onnx", "int8", CalibrationSettings(ranges=method))
    job = ExportJob(None, description, recipe, calibration=pixels)
    return quantize(model, job, {node.name: "" for node in model.graph.node})


def scale_of(model: Any, tensor: str) -> float:
    from onnx import numpy_helper

    return float(numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == f"{tensor}_scale")))


@pytest.fixture(scope="module")
def calibration() -> np.ndarray:
    """80 images, more than are used for histograms, one far brighter than the others."""
    images = np.random.default_rng(0).integers(100, 154, (80, 16, 16, 3))
    images[7] = np.random.default_rng(1).integers(0, 256, (16, 16, 3))
    return images.astype(np.uint8)


@pytest.mark.parametrize("method", METHODS)
def test_a_quantized_file_does_not_depend_on_the_order_of_its_images(method: str, calibration: np.ndarray) -> None:
    forward = quantized(calibration, method).SerializeToString(deterministic=True)
    shuffled = np.random.default_rng(2).permutation(calibration)
    assert quantized(shuffled, method).SerializeToString(deterministic=True) == forward


def test_the_method_changes_all_scales_but_that_of_the_pixels(calibration: np.ndarray) -> None:
    made = {method: quantized(calibration, method) for method in METHODS}
    assert {round(scale_of(model, "centred"), 6) for model in made.values()} == {1.0}  # black and white, always
    assert scale_of(made["percentile"], "features") < scale_of(made["min-max"], "features")
    assert scale_of(made["mse"], "features") <= scale_of(made["min-max"], "features")


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown ranges 'entropy'\nValid: min-max, percentile, mse\."):
        replace(CalibrationSettings(), ranges="entropy")


def test_missing_calibration_images_are_an_error() -> None:
    with pytest.raises(ConfigError, match="calibration images"):
        quantized(None, "mse")
