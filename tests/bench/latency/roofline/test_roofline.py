"""Roofline bounds against arithmetic by hand, and this machine's peaks."""

from __future__ import annotations

import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from skinedge.core.errors import SkinedgeError
from skinedge.run.plugins import runtimes_for
from skinedge_bench.latency.roofline import peaks
from skinedge_bench.latency.roofline.roofline import measure_bounds, roofline_bound
from skinedge_bench.latency.roofline.tiny_onnx import matrix_product
from skinedge_bench.latency.roofline.workload import Workload
from skinedge_bench.latency.targets import Target

HERE = peaks.Peaks(int8_gmacs=200, fp32_gmacs=50, read_gb_s=((4_000_000, 10), (400, 10), (9, 1)), memory_bytes=9)


def test_the_larger_of_arithmetic_and_memory() -> None:
    busy = roofline_bound(Workload(400_000_000, 50_000_000, 0, 400), HERE, 1)
    assert busy is not None and busy.bound_by == "arithmetic" and busy.ms == pytest.approx(2 + 1)
    two = roofline_bound(Workload(400_000_000, 50_000_000, 0, 400), HERE, 2)
    assert two is not None and two.ms == pytest.approx(1.5)
    wide = roofline_bound(Workload(1000, 1000, 0, 4_000_000), HERE, 1)
    assert wide is not None and wide.bound_by == "memory" and wide.ms == pytest.approx(0.4)
    assert roofline_bound(Workload(1000, 1000, 5, 400), HERE, 1) is None  # half precision: unknown rate
    assert roofline_bound(Workload(0, 0, 0, 400), HERE, 1) is None


@pytest.mark.parametrize(("first", "second"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")])
def test_the_hand_encoded_model_is_a_valid_integer_product(first: str, second: str) -> None:
    import onnx

    model = onnx.load_from_string(matrix_product(300, first, second))
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.node[0].op_type == "MatMulInteger"
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
    assert weights.shape == (300, 300) and weights.dtype == second and not weights.any()


def test_the_hand_encoded_model_multiplies() -> None:
    """With the constant's zeros replaced by ones, the product is the sum of each row."""
    import onnxruntime

    zeros = bytes(64 * 64 * 4)
    model = matrix_product(64, "float32", "float32").replace(zeros, np.ones((64, 64), np.float32).tobytes())
    image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    result = onnxruntime.InferenceSession(model).run(None, {"a": image})[0]
    np.testing.assert_allclose(result, np.repeat(image.sum(axis=1, keepdims=True), 64, axis=1), rtol=1e-5)


def test_peaks_of_this_machine() -> None:
    """Measured in a separate process with one thread."""
    environment = dict(os.environ)
    found = peaks.measure_peaks([1_000_000])
    reading = dict(found.read_gb_s)
    assert set(reading) == {1_000_000, found.memory_bytes}
    assert all(math.isfinite(rate) and rate > 0.01 for rate in (*reading.values(), found.fp32_gmacs))
    assert found.int8_gmacs > 0.1 and os.environ == environment


def test_a_failed_measurement_is_an_error() -> None:
    with pytest.raises(SkinedgeError, match="peak rates"):
        peaks.measure_peaks([1 << 60])  # more than any memory


def test_a_size_beyond_the_last_level_cache(tmp_path: Path) -> None:
    for level, size in enumerate(("32K", "1024K", "16M")):
        (tmp_path / f"index{level}").mkdir()
        (tmp_path / f"index{level}" / "size").write_text(f"{size}\n")
    assert peaks.memory_bytes(tmp_path) == 32 << 20
    (tmp_path / "index2" / "size").write_text("512M\n")
    assert peaks.memory_bytes(tmp_path) == 256 << 20
    assert peaks.memory_bytes(tmp_path / "none") == 64 << 20


def test_the_benchmark_survives_unmeasurable_peaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert measure_bounds([], {}) == (None, {})
    assert "no roofline bound: cannot measure this machine's peak rates" in capsys.readouterr().err


def test_a_file_that_cannot_be_counted_has_no_bound_and_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.onnx"
    path.write_bytes(b"nonsense")
    target = Target(path, path.name, "0", "fp32", runtimes_for(path)[0])
    _, bounds = measure_bounds([target], {target.key: 8})
    assert bounds == {} and "no roofline bound" in capsys.readouterr().err
