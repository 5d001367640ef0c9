"""The kind of a third-party file's scores, from its last operation and the scores of probe images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skinedge.core.errors import ConfigError
from skinedge.run.plugins import TensorSpec
from skinedge_bench.runtimes.output_format import (
    Output,
    OutputFormat,
    choose,
    format_of,
    kind_of,
    last_operation,
    named_classes,
)

CLASSES = 5
SPEC = TensorSpec("y", (-1, CLASSES), "float32")


def logits(seed: int, scale: float, classes: int = CLASSES) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(8, classes)) * scale).astype(np.float32)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(scores: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-scores)))


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8), st.booleans())
def test_any_logits_give_the_same_probabilities_in_every_form(seed: int, scale: float, named: bool) -> None:
    """Whether the graph tells the last operation, or only the numbers do."""
    scores = logits(seed, scale)
    forms = {"Softmax": softmax(scores), "LogSoftmax": np.log(softmax(scores)), "Gemm": scores}
    for last, values in forms.items():
        output = Output(SPEC, last if named else None)
        chosen = format_of(output, [output], values, "file")
        np.testing.assert_allclose(chosen.outputs(values).probabilities, softmax(scores), atol=1e-5)
        assert chosen.exclusive and chosen.classes == CLASSES


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 8), st.booleans())
def test_independent_sigmoids_are_never_a_softmax(seed: int, scale: float, named: bool) -> None:
    values = sigmoid(logits(seed, scale))
    output = Output(SPEC, "LOGISTIC" if named else None)
    chosen = format_of(output, [output], values, "file")
    assert chosen.kind == "multi-label" and not chosen.exclusive
    np.testing.assert_array_equal(chosen.outputs(values).probabilities, values)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_one_score_is_a_binary_classifier(seed: int, sigmoid_at_the_end: bool) -> None:
    scores = logits(seed, 5, classes=1)
    values = sigmoid(scores) if sigmoid_at_the_end else scores
    output = Output(TensorSpec("y", (-1, 1), "float32"))
    chosen = format_of(output, [output], values, "file")
    assert (chosen.kind, chosen.classes) == ("sigmoid" if sigmoid_at_the_end else "logit", 2)
    np.testing.assert_allclose(chosen.outputs(values).probabilities[:, 1], sigmoid(scores)[:, 0], atol=1e-6)
    np.testing.assert_allclose(chosen.outputs(values).probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 1), (8, CLASSES)])
def test_a_softmax_over_another_axis_than_the_classes_is_refused(shape: tuple[int, int]) -> None:
    """Of a batch of one, it is always 1."""
    output = Output(TensorSpec("y", (1, shape[1]), "float32"), "Softmax")
    with pytest.raises(ConfigError, match="always 1"):
        kind_of(output, np.ones(shape, np.float32), "file")


def outputs(*specs: tuple[str, int | None, str]) -> list[Output]:
    """Return outputs (name, classes or None for feature maps, last operation)."""
    shapes = [(-1, classes) if classes else (-1, 7, 7, 64) for _, classes, _ in specs]
    return [
        Output(TensorSpec(name, shape, "float32"), last) for (name, _, last), shape in zip(specs, shapes, strict=True)
    ]


@pytest.mark.parametrize(
    ("specs", "labels", "expected"),
    [
        ((("a", 7, "Gemm"), ("b", 1280, "Relu")), 7, "a"),
        ((("features", 1280, "Relu"), ("logits", 7, "Gemm")), None, "logits"),
        ((("global_pool", 1280, "Relu"), ("predictions", 7, "Softmax")), None, "predictions"),
        ((("map", None, "Relu"), ("x", 7, "Gemm")), None, "x"),
        ((("logits", 7, "Gemm"), ("probs", 7, "Softmax")), None, "probs"),
        ((("logits", 7, "Gemm"), ("scores", 7, "Softmax")), None, "scores"),
        ((("logits", 7, "Gemm"), ("aux_logits", 7, "Gemm")), None, "logits"),
        ((("risk", 1, "Sigmoid"), ("embedding", 64, "Relu")), 2, "risk"),
        ((("a", 7, "Gemm"), ("b", 7, "Gemm")), 7, None),
        ((("skin_type", 6, "Softmax"), ("diagnosis", 7, "Gemm")), None, None),
        ((("x", 7, "Gemm"), ("y", 1280, "Relu")), None, None),
        ((("classes_a", 7, "Softmax"), ("classes_b", 7, "Softmax")), None, None),
        ((("x", 7, "Gemm"), ("y", 9, "Gemm")), 8, None),
    ],
)
def test_an_output_is_chosen_by_shape_and_name_or_refused(
    specs: tuple[tuple[str, int | None, str], ...], labels: int | None, expected: str | None
) -> None:
    """In any order."""
    for order in (outputs(*specs), outputs(*specs)[::-1]):
        if expected is None:
            with pytest.raises(ConfigError, match="its outputs: ") as raised:
                choose(order, labels, None, "file")
            assert all(f"'{name}'" in str(raised.value) for name, _, _ in specs)
        else:
            assert choose(order, labels, None, "file").spec.name == expected
        assert choose(order, labels, specs[-1][0], "file").spec.name == specs[-1][0]


def test_the_last_operation_is_found_behind_those_that_move_numbers() -> None:
    graph = {
        "y": ("Squeeze", ["a", "axes"]),
        "a": ("DequantizeLinear", ["b", "scale"]),
        "b": ("QuantizeLinear", ["c", "scale"]),
        "c": ("Softmax", ["d"]),
    }
    assert last_operation("y", graph) == ("Softmax", True)
    assert last_operation("c", graph) == ("Softmax", False)
    assert last_operation("image", graph) == (None, False)
    assert last_operation("x", {"x": ("Identity", ["x"])}) == (None, False)  # a cycle, in a damaged file


@given(st.lists(st.sampled_from(["crane", "maillot", "crane (class 0)", "mole", ""]), min_size=3, max_size=6))
def test_names_of_classes_are_distinct(labels: list[str]) -> None:
    names, notes = named_classes(OutputFormat("y", "logits", len(labels)), labels)
    assert len(set(names)) == len(names) == len(labels)
    assert bool(notes) == (len(set(labels)) < len(labels))
    assert all(name.startswith(label) for name, label in zip(names, labels, strict=True))
