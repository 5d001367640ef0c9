"""The recommendation and its reasons: a pure function of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from skinedge_bench.latency.recommendation import obstacle, recommend
from skinedge_bench.latency.row import Row


def row(file: str, p50: float | None, runtime: str = "litert", **changes: Any) -> Row:
    """A row that passed its gates; its interval is 1 % wide on each side."""
    interval = None if p50 is None else (p50 * 0.99, p50 * 1.01)
    precision = "int8" if "int8" in file else "fp32"
    plain = Row(file, runtime, precision, 1, 4_000_000 if precision == "int8" else 13_600_000, "0")
    passed = {"p50_ms": p50, "p90_ms": p50, "p50_interval_ms": interval, "golden": "pass", "parity": "pass"}
    return replace(plain, **{**passed, "trustworthy": True, **changes})


def test_the_fastest_that_passed_is_recommended_and_compared_with_the_next() -> None:
    rows = (
        row("model.fp32.tflite", 9.0),
        row("model.int8.tflite", 4.4, ratio_to_fp32=2.05),
        row("model.int8.onnx", 6.6, "onnxruntime"),
    )
    found = recommend(rows, 50, True)
    assert (found.file, found.runtime, found.threads) == ("model.int8.tflite", "litert", 1)
    first, second, third = found.reasons
    assert (
        "model.int8.tflite in litert, p50 4.40 ms" in first
        and "golden vectors here: passed; parity report: passed" in first
    )
    assert second.startswith("1.50 times as fast as the next, model.int8.onnx in onnxruntime")
    assert "do not overlap" in second and "2.05 times as fast as fp32" in third
    assert recommend(tuple(reversed(rows)), 50, True) == found


def test_overlapping_intervals_are_mentioned() -> None:
    close = (row("model.int8.tflite", 4.40), row("model.int8.onnx", 4.45, "onnxruntime"))
    assert any("overlap, so either is suitable" in text for text in recommend(close, 50, True).reasons)
    few = tuple(replace(r, p50_interval_ms=None) for r in close)
    assert any("too few blocks" in text for text in recommend(few, 50, True).reasons)


def test_fp32_may_be_recommended_without_an_int8_dot_product() -> None:
    rows = (row("model.fp32.onnx", 14.6, "onnxruntime"), row("model.int8.tflite", 15.4))
    found = recommend(rows, 50, False)
    assert found.file == "model.fp32.onnx"
    text = found.reasons[-1]
    assert "int8 gains nothing here, since this CPU has no int8 dot product" in text
    assert "1.05 times as long" in text and "4.0 MB instead of 13.6" in text
    assert "dot product" not in " ".join(recommend(rows, 50, None).reasons)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"golden": "fail"}, "golden vectors here: failed"),
        ({"golden": None}, "no golden vectors"),
        ({"golden": "not measured"}, "golden vectors here: not measured"),
        ({"parity": None}, "parity report: not measured"),
        ({"parity": "fail"}, "parity report: failed"),
        ({"parity": "inconclusive_strict"}, "parity report: inconclusive, which --strict refuses"),
        (
            {"golden": "inconclusive", "parity": "pass_elsewhere"},
            "golden vectors here: inconclusive; parity report: passed",
        ),
        ({"golden": "inconclusive", "parity": "inconclusive_elsewhere"}, "parity report: inconclusive"),
    ],
)
def test_a_faster_file_that_did_not_pass_is_named(changes: dict[str, Any], reason: str) -> None:
    fast, slow = row("fast.int8.tflite", 2.0, **changes), row("model.fp32.tflite", 9.0)
    found = recommend((fast, slow), 50, True)
    assert found.file == "model.fp32.tflite"
    assert any(
        text.startswith("faster, but not recommended: fast.int8.tflite") and reason in text for text in found.reasons
    )
    alone = recommend((fast,), 50, True)
    assert (alone.file, alone.runtime, alone.threads) == (None, None, None)
    assert alone.reasons[0].startswith("no recommendation") and reason in alone.reasons[1]
    assert reason in (obstacle(fast) or "") and obstacle(slow) is None


@pytest.mark.parametrize("parity", ["inconclusive", "inconclusive_elsewhere"])
def test_an_inconclusive_parity_report_is_not_said_to_pass(parity: str) -> None:
    found = recommend((row("model.int8.tflite", 2.0, parity=parity),), 50, True)
    assert found.file == "model.int8.tflite"
    assert "parity report: inconclusive (too few images)" in found.reasons[0]
    assert "pass" not in found.reasons[0].partition("parity report")[2]


def test_nothing_was_timed() -> None:
    """As in an emulator."""
    for rows in ((), (row("model.int8.tflite", None),)):
        assert recommend(rows, 50, True).reasons == ("no recommendation: nothing was timed",)
    found = recommend((row("model.int8.tflite", None), row("model.fp32.tflite", 9.0)), 50, True)
    assert found.file == "model.fp32.tflite" and len(found.reasons) == 1


def test_the_headline_percentile_decides() -> None:
    rows = (row("a.int8.tflite", 4.0, p90_ms=9.0), row("b.int8.tflite", 5.0, p90_ms=5.5))
    assert recommend(rows, 50, True).file == "a.int8.tflite"
    by_p90 = recommend(rows, 90, True)
    assert by_p90.file == "b.int8.tflite" and "p90 5.50 ms" in by_p90.reasons[0]
    assert "p50 do not overlap" in by_p90.reasons[1]  # although the next is the faster one by p50


def test_threads_a_distrusted_timing_and_another_instruction_set_are_mentioned() -> None:
    best = row("model.int8.tflite", 3.0, threads=2, parity="pass_elsewhere", reasons=("on battery",), trustworthy=False)
    reasons = recommend((best, row("model.int8.tflite", 4.0)), 50, True).reasons
    assert "in litert with 2 threads" in reasons[0] and "another instruction set" in reasons[0]
    assert "measure again" in reasons[-1] and "on battery" in reasons[-1]
    reference = row("model.safetensors", 1.0, "torch", parity="reference", golden="inconclusive")
    assert "the merged model itself" in recommend((reference,), 50, True).reasons[0]
