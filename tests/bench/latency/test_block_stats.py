"""Percentiles, intervals, ratios of paired rounds and noise, against SciPy's bootstrap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from skinedge_bench import device
from skinedge_bench.latency.block_stats import median_interval, medians, noise_reasons, ratio, summarize
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row, with_ratios


def noisy(seed: int, level: float, rounds: int = 20, block: int = 50) -> list[list[float]]:
    """Return blocks of one file; every round has its own level, as on a busy machine."""
    rng = np.random.default_rng(seed)
    busy = np.random.default_rng(99).gamma(2.0, 0.1, rounds)
    return (level * (1 + busy[:, None] + rng.gamma(2.0, 0.01, (rounds, block)))).tolist()


def test_percentiles_and_no_p99_from_few_samples() -> None:
    blocks = np.arange(1000, dtype=float).reshape(20, 50).tolist()
    summary = summarize(blocks)
    assert (summary.p50_ms, summary.n) == (499.5, 1000)
    assert (summary.p90_ms, summary.p99_ms) == (pytest.approx(899.1), pytest.approx(989.01))
    assert summarize(blocks[:-1]).p99_ms is None


def test_the_interval_of_the_median_is_the_bootstrap_over_the_blocks_medians() -> None:
    blocks = noisy(1, 5.0)
    low, high = summarize(blocks).p50_interval_ms or (0.0, 0.0)
    expected = scipy.stats.bootstrap(
        (np.median(blocks, axis=1),), np.median, method="percentile", n_resamples=5000, rng=np.random.default_rng(3)
    ).confidence_interval
    spread = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=spread / 5) and high == pytest.approx(expected.high, abs=spread / 5)
    assert low < np.median(blocks) < high
    assert median_interval(medians(blocks[:4])) is None
    assert summarize(blocks[:4]).p50_interval_ms is None


def test_load_on_whole_rounds_does_not_widen_the_interval_of_the_ratio() -> None:
    slow, fast = noisy(1, 10.0), noisy(2, 5.0)
    paired = ratio(slow, fast, 50)
    assert paired.value == pytest.approx(np.median(slow) / np.median(fast)) == pytest.approx(2.0, rel=0.01)
    low, high = paired.interval or (0.0, 0.0)
    assert low <= paired.value <= high and high - low < 0.05
    shuffled = [fast[index] for index in np.random.default_rng(0).permutation(len(fast))]
    wide = ratio(slow, shuffled, 50).interval or (0.0, 0.0)
    assert wide[1] - wide[0] > 4 * (high - low)  # the same samples, not paired


def test_a_ratio_uses_the_requested_percentile() -> None:
    base, file = noisy(1, 10.0), [[*block[:-10], *[50.0] * 10] for block in noisy(2, 5.0)]
    assert ratio(base, file, 90).value == pytest.approx(np.quantile(base, 0.9) / np.quantile(file, 0.9))
    assert ratio(base, file, 90).value < 0.5 < ratio(base, file, 50).value
    assert ratio(base[:4], file[:4], 50).interval is None
    assert ratio(base, base, 50).interval == (1.0, 1.0)


def test_noise_and_drift_are_reasons() -> None:
    steady = [[10.0] * 20] * 6
    assert noise_reasons(steady) == ()
    assert "noisy" in noise_reasons([[10.0] * 20, [14.0] * 20] * 3)[0]
    assert any("slowed down" in reason for reason in noise_reasons([[10.0] * 20] * 4 + [[12.0] * 20] * 2))
    assert noise_reasons([[10.0] * 20]) == ()


ROW = Row("", "onnxruntime", "fp32", 1, 10, "0", n=1000)
PLAN = Protocol("test", 1, 1, 1, 0.0)


def rated(rows: list[Row], times: list[float], percentile: int = 50) -> tuple[Row, ...]:
    samples = {
        row.key: [[ms] * 19 + [10 * ms if row.precision == "int8" else ms]] * 6
        for row, ms in zip(rows, times, strict=True)
    }
    return with_ratios(rows, samples, percentile)


def test_ratios_and_the_remark_about_int8() -> None:
    rows = [
        replace(ROW, file="model.safetensors", runtime="torch"),
        replace(ROW, file="a.onnx"),
        replace(ROW, file="b.onnx", precision="int8"),
        replace(ROW, file="c.tflite", runtime="litert", precision="int8"),
    ]
    found = rated(rows, [30.0, 15.0, 12.0, 6.0])
    assert [row.ratio_to_fp32 for row in found] == [1.0, 1.0, 1.25, None]
    assert [row.ratio_to_eager for row in found] == [1.0, 2.0, 2.5, 5.0]
    here = device.describe_device({})
    report = LatencyReport(replace(here, int8_dot_product=False, features=()), PLAN, 0, found)
    assert len(report.remarks()) == 1 and "no int8 dot product" in report.remarks()[0]
    for dot_product in (True, None):  # None: the CPU's features are unknown
        assert LatencyReport(replace(here, int8_dot_product=dot_product, features=()), PLAN, 0, found).remarks() == ()


def test_the_base_is_the_runs_plain_fp32_file_with_equal_threads() -> None:
    rows = [
        replace(ROW, file="model.fp32.heatmap.onnx"),
        replace(ROW, file="model.fp32.onnx"),
        replace(ROW, file="model.fp32.onnx", threads=2),
        replace(ROW, file="a.onnx", in_run=False),
        replace(ROW, file="model.int8.onnx", precision="int8", threads=2),
        replace(ROW, file="b.onnx", precision="unknown", in_run=False),
    ]
    found = rated(rows, [11.0, 10.0, 6.0, 9.0, 3.0, 5.0])
    assert [row.ratio_to_fp32 for row in found] == pytest.approx([10 / 11, 1, 1, 10 / 9, 2, 2])
    assert all(row.ratio_to_eager is None for row in found)
    untimed = replace(ROW, file="model.int8.onnx", runtime="torch-compile")
    assert with_ratios([untimed], {}, 50) == (untimed,)


def test_few_samples_are_called_preliminary() -> None:
    here = device.describe_device({})
    few, enough = (LatencyReport(here, PLAN, 0, (replace(ROW, file="a.onnx", n=n),)) for n in (120, 1000))
    assert "Preliminary: 120 samples per file" in few.remarks()[0] and "--protocol standard" in few.remarks()[0]
    assert enough.remarks() == ()


def test_the_partitions_of_xnnpack_are_reported() -> None:
    here = device.describe_device({})

    def remarks(*partitions: int | None, outside: tuple[str, ...] | None = None) -> tuple[str, ...]:
        rows = [
            replace(ROW, file=f"{i}.tflite", runtime="litert", partitions=n, outside=outside)
            for i, n in enumerate(partitions)
        ]
        return LatencyReport(here, PLAN, 0, tuple(rows)).remarks()

    assert remarks(1, 1) == ("XNNPACK runs each file in one partition",) and remarks(None) == ()
    assert remarks(1, outside=()) == ("XNNPACK runs each file in one partition, with every operation in it",)
    assert "1.tflite in 23 partitions; 2.tflite in 0 partitions:" in remarks(1, 23, 0)[0]
    assert "0.tflite in one partition, without SOFTMAX:" in remarks(1, outside=("SOFTMAX",))[0]
