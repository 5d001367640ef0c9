"""`make gpu-check`: the same steps at tiny size on the CPU; on a machine without a GPU, one line."""

from __future__ import annotations

import re
import signal

import pytest
import torch

from experiments import gpu_check
from skinedge.training import train_step


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main([]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err == (
        "error: PyTorch sees no usable GPU; --cpu runs the same steps at tiny size\n"
    )


def test_every_step_runs_at_tiny_size(capsys: pytest.CaptureFixture[str]) -> None:
    handler, load_batch = signal.getsignal(signal.SIGINT), train_step.load_batch
    assert gpu_check.main(["--cpu"]) == 0
    assert (signal.getsignal(signal.SIGINT), train_step.load_batch) == (handler, load_batch)
    said = capsys.readouterr()
    steps = {row[0]: row[2] for row in re.findall(r"\| (.+?) \| ([\d.]+) \| (.+) \|", said.out)}
    wanted = ["images", "train, batch 8", "train, interrupted", "resume", "merge", "export", "verify"]
    assert list(steps) == wanted
    assert re.fullmatch(r"\d+ images/s in fp32, [\d.]+% of the time loads data", steps["train, batch 8"])
    done, total = map(int, re.findall(r"batch (\d+) of (\d+)", steps["train, interrupted"])[0])
    assert 0 < done < total and steps["resume"].startswith(f"the other {total - done} batches")
    assert f"resuming after step {done}" in said.err and steps["verify"].startswith("passed, largest difference")


def test_a_failed_step_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """70 images of 1 pixel: the images cannot be drawn."""
    monkeypatch.setattr(gpu_check, "CPU", gpu_check.replace(gpu_check.CPU, side=1))
    assert gpu_check.main(["--cpu"]) == 1
    assert "error: the size must be" in capsys.readouterr().err
