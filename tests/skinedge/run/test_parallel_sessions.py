"""Parallel sessions give bitwise the same outputs as one session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skinedge.core.outputs import Outputs
from skinedge.run import parallel_sessions
from skinedge.run.plugins import runtimes_for
from skinedge.system import cpu


@pytest.mark.parametrize("name", ["model.fp32.onnx", "model.int8.onnx", "model.fp32.tflite", "model.int8.tflite"])
def test_outputs_are_bitwise_equal_and_in_input_order(
    tiny_run: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_sessions, "usable_cores", lambda: 3)
    runtime = runtimes_for(tiny_run / name)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2 * parallel_sessions.CHUNK + 5, 64, 64, 3)).astype(np.uint8)
    single = runtime.open(tiny_run / name, threads=1).run(pixels)
    parallel = parallel_sessions.ParallelSessions(runtime, tiny_run / name)
    assert len(parallel.sessions) == 3
    assert np.array_equal(parallel.run(pixels).probabilities, single.probabilities)
    assert np.array_equal(parallel.run(pixels[:1]).probabilities, single.probabilities[:1])
    assert parallel.run(pixels[:0]).probabilities.shape == (0, 7)


def test_files_run_in_parallel_give_the_outputs_of_each_alone(tiny_run: Path) -> None:
    sessions = [runtimes_for(path)[0].open(path, 1) for path in sorted(tiny_run.glob("model.int8.*"))[:3:2]]
    pixels = np.random.default_rng(1).integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
    for session, together in zip(sessions, parallel_sessions.run_each(sessions, pixels), strict=True):
        assert np.array_equal(session.run(pixels).probabilities, together.probabilities)


def test_an_error_of_one_session_is_raised(tiny_run: Path) -> None:
    runtime = runtimes_for(tiny_run / "model.int8.tflite")[0]
    with pytest.raises(Exception, match="pixels"):
        parallel_sessions.ParallelSessions(runtime, tiny_run / "model.int8.tflite").run(
            np.zeros((70, 32, 32, 3), np.uint8)
        )


def test_joined_outputs_have_only_what_all_parts_have() -> None:
    one = np.full((1, 2), 0.5, np.float32)
    joined = parallel_sessions.joined([Outputs(one, one), Outputs(one)])
    assert joined.logits is None and joined.probabilities.shape == (2, 2)
    assert parallel_sessions.joined([Outputs(one, one), Outputs(one, one)]).logits.shape == (2, 2)


def test_usable_cores() -> None:
    assert cpu.usable_cores() == len(cpu.usable()) >= 1
