"""The precision of training: chosen once per machine, under any load, by a clear margin."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from skinedge.training import device
from skinedge.training.device import CLEAR, FASTER, ROUNDS, Trial, choose_precision, time_alternately

seconds = st.floats(1e-4, 1e4)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SKINEDGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "skinedge" / "precision"


def fake_trials(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> list[int]:
    """Replace trials by these durations; return a list that gets the image size of each trial."""
    sizes: list[int] = []

    def run_trial(network: nn.Module, size: int) -> Trial:
        sizes.append(size)
        return Trial(fp32, bf16)

    monkeypatch.setattr(device, "run_trial", run_trial)
    return sizes


@given(seconds, seconds)
def test_bf16_is_chosen_only_if_clearly_faster(fp32: float, bf16: float) -> None:
    chosen = Trial(fp32, bf16).chosen
    assert chosen == ("bf16" if fp32 / bf16 > FASTER else "fp32") or abs(fp32 / bf16 - FASTER) < 1e-9


def test_fp32_is_chosen_for_similar_speeds() -> None:
    assert {Trial(0.90, 0.89).chosen, Trial(0.89, 0.90).chosen, Trial(1.29, 1.0).chosen} == {"fp32"}
    assert Trial(1.31, 1.0).chosen == "bf16"


def test_the_choice_is_cached_and_the_note_says_how_to_pin_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    trials = fake_trials(monkeypatch, 2.0, 1.0)
    assert choose_precision("auto", network(), 64) == "bf16"
    assert 'precision = "bf16" in --config pins it' in capsys.readouterr().err
    trials = fake_trials(monkeypatch, 1.0, 2.0)  # the machine is busy now
    assert choose_precision("auto", network(), 64) == "bf16" and not trials
    (file,) = cache.iterdir()
    assert str(file) in capsys.readouterr().err
    assert json.loads(file.read_text()) == {"fp32": 2.0, "bf16": 1.0}


def test_another_cache_key_runs_another_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key: image size, network, trainable parameters, threads, PyTorch version and processor."""
    trials = fake_trials(monkeypatch, 1.0, 1.0)
    choose_precision("auto", network(), 64)
    choose_precision("auto", network(), 65)
    choose_precision("auto", nn.Sequential(*network(), nn.Linear(2, 2)), 64)
    frozen = network()
    frozen[0].requires_grad_(False)
    choose_precision("auto", frozen, 64)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        choose_precision("auto", network(), 64)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        choose_precision("auto", network(), 64)
    monkeypatch.setattr(device, "processor", lambda: ["another"])
    choose_precision("auto", network(), 64)
    assert len(trials) == 7


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"fp32": 1}', b'{"fp32": 0, "bf16": 1}', b'{"fp32": NaN, "bf16": 1}', b"[" * 9999, b"\xff"],
)
def test_a_damaged_cache_file_is_ignored_with_a_note_and_rewritten(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path, content: bytes
) -> None:
    fake_trials(monkeypatch, 2.0, 1.0)
    choose_precision("auto", network(), 64)
    (file,) = cache.iterdir()
    file.write_bytes(content)
    trials = fake_trials(monkeypatch, 1.0, 1.0)
    capsys.readouterr()
    assert choose_precision("auto", network(), 64) == "fp32" and trials
    assert f"ignored: {file}" in capsys.readouterr().err
    assert choose_precision("auto", network(), 64) == "fp32" and len(trials) == 1


@pytest.mark.skipif(os.name != "posix", reason="puts a file at the folder's path")
def test_an_unwritable_cache_gives_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    cache.parent.parent.write_text("a file where a folder should be")
    fake_trials(monkeypatch, 2.0, 1.0)
    assert choose_precision("auto", network(), 64) == "bf16"
    assert "could not be cached for the next training" in capsys.readouterr().err


def test_the_wait_is_announced_before_it_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def run_trial(network: nn.Module, size: int) -> Trial:
        said.append(capsys.readouterr().err)
        return Trial(1.0, 9.0)

    monkeypatch.setattr(device, "run_trial", run_trial)
    choose_precision("auto", network(), 64)
    choose_precision("auto", network(), 64)  # cached: no wait, no announcement
    assert len(said) == 1 and said[0].startswith("precision: timing training steps in fp32 and bf16")
    assert "timing training steps" not in capsys.readouterr().err


@pytest.mark.parametrize(("slower", "images"), [(9.0, [2, 2]), (2.0, [2, 2, 16, 16]), (0.4, [2, 2, 16, 16])])
def test_steps_with_few_images_are_enough_where_bf16_is_obviously_slower(
    monkeypatch: pytest.MonkeyPatch, slower: float, images: list[int]
) -> None:
    """A real network whose steps move a simulated clock; the first two steps are the warm-up."""
    now, steps = 0.0, []

    class Clocked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            nonlocal now
            steps.append(len(pixels))
            now += len(pixels) * (slower if torch.is_autocast_enabled("cpu") else 1.0)
            return self.inner(pixels)

    def simulated(step, *arguments, **options) -> Trial:
        return time_alternately(step, lambda: now, **options)

    monkeypatch.setattr(device, "time_alternately", simulated)
    trial = device.run_trial(Clocked(), 16)
    assert steps == [2, 2, *images]
    assert trial.bf16 / trial.fp32 == pytest.approx(slower)


def test_rounds_end_after_the_longest_time() -> None:
    """A slow CPU with similar speeds: each step takes 6 s, so the second round ends after 24 s."""
    _, count = timed([6.0] * ROUNDS, [6.0] * ROUNDS)
    assert count == 4


def timed(fp32: list[float], bf16: list[float]) -> tuple[Trial, int]:
    """Time steps with these durations (seconds, simulated clock); return the trial and the number of steps."""
    durations = {"fp32": iter(fp32), "bf16": iter(bf16)}
    now, count = 0.0, 0

    def step(precision: str) -> None:
        nonlocal now, count
        now, count = now + next(durations[precision]), count + 1

    return time_alternately(step, lambda: now), count


@pytest.mark.parametrize(("fp32", "bf16", "chosen"), [(0.9, 9.0, "fp32"), (1.0, 2.0, "fp32"), (3.0, 1.0, "bf16")])
def test_one_round_is_enough_for_a_clear_choice(fp32: float, bf16: float, chosen: str) -> None:
    trial, count = timed([fp32] * ROUNDS, [bf16] * ROUNDS)
    assert count == 2 and (trial.fp32, trial.bf16) == pytest.approx((fp32, bf16)) and trial.chosen == chosen


@given(st.lists(st.floats(1.0, 1.3), min_size=ROUNDS, max_size=ROUNDS), st.floats(0.8, 1.5), st.integers(0, ROUNDS - 1))
def test_similar_speeds_use_all_rounds_and_the_minimum(busy: list[float], ratio: float, quiet: int) -> None:
    """Load makes any step up to 1.3 times as long; the undisturbed steps decide."""
    busy[quiet] = 1.0
    trial, count = timed([ratio * factor for factor in busy], busy[::-1])  # 15 s at most
    assert count == 2 * ROUNDS and trial.fp32 == pytest.approx(ratio) and trial.bf16 == pytest.approx(1.0)


@given(st.floats(0.1, 10), st.floats(1, 1.99), st.booleans())
def test_a_disturbed_first_round_does_not_decide(ratio: float, factor: float, fp32: bool) -> None:
    """A first step that takes nearly CLEAR times as long does not change the choice."""
    disturbed, steady = [factor, *[1.0] * (ROUNDS - 1)], [1.0] * ROUNDS
    trial, _ = timed([ratio * part for part in (disturbed if fp32 else steady)], steady if fp32 else disturbed)
    assert factor < CLEAR and (trial.chosen == Trial(ratio, 1.0).chosen or abs(ratio - FASTER) < 1e-9)


def test_a_real_trial_does_not_change_the_network() -> None:
    tested = network()
    before = {name: tensor.clone() for name, tensor in tested.state_dict().items()}
    device.run_trial(tested, 32)
    assert all(part.grad is None for part in tested.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tested.state_dict().items())


def test_a_real_trial_runs_in_both_precisions() -> None:
    assert choose_precision("auto", network(), 32) in ("fp32", "bf16")
    assert choose_precision("bf16", network(), 32) == "bf16"


def test_the_processor_is_identified_by_its_instruction_flags() -> None:
    flags = "\n".join(device.processor())
    assert flags.strip()
    if Path("/proc/cpuinfo").exists() and os.uname().machine == "x86_64":
        assert "sse2" in flags and "MHz" not in flags  # the frequency changes all the time
