"""The precision of training: chosen once for a machine, whatever its load; and by a clear margin."""

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
from skinedge.training.device import CLEAR, FASTER, TURNS, Trial, choose_precision, in_turns

seconds = st.floats(1e-4, 1e4)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SKINEDGE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "skinedge" / "precision"


def measured(monkeypatch: pytest.MonkeyPatch, fp32: float, bf16: float) -> list[int]:
    """Let trials give these seconds; returns a list that grows with each."""
    trials: list[int] = []

    def trial(network: nn.Module, size: int) -> Trial:
        trials.append(size)
        return Trial(fp32, bf16)

    monkeypatch.setattr(device, "trial", trial)
    return trials


@given(seconds, seconds)
def test_bf16_only_where_it_is_clearly_faster(fp32: float, bf16: float) -> None:
    chosen = Trial(fp32, bf16).chosen
    assert chosen == ("bf16" if fp32 / bf16 > FASTER else "fp32") or abs(fp32 / bf16 - FASTER) < 1e-9


def test_about_equal_is_fp32_whichever_is_ahead() -> None:
    assert {Trial(0.90, 0.89).chosen, Trial(0.89, 0.90).chosen, Trial(1.29, 1.0).chosen} == {"fp32"}
    assert Trial(1.31, 1.0).chosen == "bf16"


def test_the_choice_is_kept_for_the_machine_and_said_with_how_to_pin_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    trials = measured(monkeypatch, 2.0, 1.0)
    assert choose_precision("auto", network(), 64) == "bf16"
    assert 'precision = "bf16" in --config pins it' in capsys.readouterr().err
    trials = measured(monkeypatch, 1.0, 2.0)  # the machine is busy now
    assert choose_precision("auto", network(), 64) == "bf16" and not trials
    (kept,) = folder.iterdir()
    assert str(kept) in capsys.readouterr().err
    assert json.loads(kept.read_text()) == {"fp32": 2.0, "bf16": 1.0}


def test_another_situation_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Size, network, what is trained, threads, PyTorch and processor."""
    trials = measured(monkeypatch, 1.0, 1.0)
    choose_precision("auto", network(), 64)
    choose_precision("auto", network(), 65)
    choose_precision("auto", nn.Sequential(*network(), nn.Linear(2, 2)), 64)
    frozen = network()
    frozen[0].requires_grad_(False)
    choose_precision("auto", frozen, 64)
    with monkeypatch.context() as other:
        other.setattr(torch, "get_num_threads", lambda: 77)
        choose_precision("auto", network(), 64)
    with monkeypatch.context() as other:
        other.setattr(torch, "__version__", "9.9")
        choose_precision("auto", network(), 64)
    monkeypatch.setattr(device, "processor", lambda: ["another"])
    choose_precision("auto", network(), 64)
    assert len(trials) == 7


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b'{"fp32": 1}', b'{"fp32": 0, "bf16": 1}', b'{"fp32": NaN, "bf16": 1}', b"[" * 9999, b"\xff"],
)
def test_a_damaged_file_is_ignored_with_a_note_and_mended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, content: bytes
) -> None:
    measured(monkeypatch, 2.0, 1.0)
    choose_precision("auto", network(), 64)
    (kept,) = folder.iterdir()
    kept.write_bytes(content)
    trials = measured(monkeypatch, 1.0, 1.0)
    capsys.readouterr()
    assert choose_precision("auto", network(), 64) == "fp32" and trials
    assert f"ignored: {kept}" in capsys.readouterr().err
    assert choose_precision("auto", network(), 64) == "fp32" and len(trials) == 1


@pytest.mark.skipif(os.name != "posix", reason="a file in the folder's place")
def test_a_cache_that_cannot_be_written_costs_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    folder.parent.parent.write_text("a file where a folder should be")
    measured(monkeypatch, 2.0, 1.0)
    assert choose_precision("auto", network(), 64) == "bf16"
    assert "not kept for the next training" in capsys.readouterr().err


def steps(fp32: list[float], bf16: list[float]) -> tuple[Trial, int]:
    """A trial of steps that take these seconds, by a clock that they alone advance; and how many were made."""
    left = {"fp32": iter(fp32), "bf16": iter(bf16)}
    now, made = 0.0, 0

    def step(precision: str) -> None:
        nonlocal now, made
        now, made = now + next(left[precision]), made + 1

    return in_turns(step, lambda: now), made


@pytest.mark.parametrize(("fp32", "bf16", "chosen"), [(0.9, 9.0, "fp32"), (1.0, 2.0, "fp32"), (3.0, 1.0, "bf16")])
def test_one_turn_is_enough_where_the_choice_is_clear(fp32: float, bf16: float, chosen: str) -> None:
    found, made = steps([fp32] * TURNS, [bf16] * TURNS)
    assert made == 2 and (found.fp32, found.bf16) == pytest.approx((fp32, bf16)) and found.chosen == chosen


@given(st.lists(st.floats(1.0, 1.3), min_size=TURNS, max_size=TURNS), st.floats(0.8, 1.5), st.integers(0, TURNS - 1))
def test_close_ones_are_timed_in_turns_and_the_best_counts(busy: list[float], ratio: float, quiet: int) -> None:
    """What else runs makes any step up to 1.3 times as long: the quiet ones decide."""
    busy[quiet] = 1.0
    found, made = steps([ratio * factor for factor in busy], busy[::-1])
    assert made == 2 * TURNS and found.fp32 == pytest.approx(ratio) and found.bf16 == pytest.approx(1.0)


@given(st.floats(0.1, 10), st.floats(1, 1.99), st.booleans())
def test_a_first_turn_that_another_program_disturbs_decides_nothing(ratio: float, factor: float, fp32: bool) -> None:
    """A first step that takes nearly CLEAR times as long does not change what quiet steps would choose."""
    disturbed, steady = [factor, *[1.0] * (TURNS - 1)], [1.0] * TURNS
    found, _ = steps([ratio * part for part in (disturbed if fp32 else steady)], steady if fp32 else disturbed)
    assert factor < CLEAR and (found.chosen == Trial(ratio, 1.0).chosen or abs(ratio - FASTER) < 1e-9)


def test_a_real_trial_leaves_the_network_as_it_was() -> None:
    tried = network()
    before = {name: tensor.clone() for name, tensor in tried.state_dict().items()}
    device.trial(tried, 32)
    assert all(part.grad is None for part in tried.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tried.state_dict().items())


def test_a_real_trial_times_both() -> None:
    assert choose_precision("auto", network(), 32) in ("fp32", "bf16")
    assert choose_precision("bf16", network(), 32) == "bf16"


def test_the_processor_is_known_by_its_instructions() -> None:
    described = "\n".join(device.processor())
    assert described.strip()
    if Path("/proc/cpuinfo").exists() and os.uname().machine == "x86_64":
        assert "sse2" in described and "MHz" not in described  # which changes all the time
