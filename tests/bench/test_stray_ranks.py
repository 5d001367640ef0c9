"""Stray RANK and WORLD_SIZE variables of a cluster or notebook silence only distributed training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError
from skinedge.run.run_directory import Bundle
from skinedge.system import progress
from skinedge.training.distributed import launched

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("command", "warning"),
    [
        (("evaluate", "{run}", "--split", "all", "--allow-train"), "CONTAMINATED"),
        (("predict", "{image}", "--run", "{run}"), "trained on synthetic images"),
        (("verify", "{run}"), ""),
    ],
)
def test_stray_variables_do_not_silence_other_commands(
    cli: Cli,
    run: Bundle,
    synthetic_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    warning: str,
) -> None:
    names = {"run": run.root, "image": next(synthetic_images.rglob("*.jpg"))}
    words = [word.format(**names) for word in command]
    before = cli(*words)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    after = cli(*words)
    assert after == before and warning in after[2]


@pytest.mark.parametrize(
    "ranks",
    [
        {"WORLD_SIZE": "x"},
        {"WORLD_SIZE": "-2"},
        {"WORLD_SIZE": "2", "RANK": "2"},
        {"RANK": "1e3", "WORLD_SIZE": "2"},
        {"RANK": "1", "WORLD_SIZE": "2"},  # without the address that launchers set
    ],
)
def test_training_refuses_invalid_ranks(
    cli: Cli, synthetic_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: dict[str, str]
) -> None:
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        launched()
    code, out, err = cli("train", "--data", synthetic_images, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 1 and out == "" and "unset WORLD_SIZE and RANK" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_notes_are_silenced_only_in_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.silenced(True):
        progress.note("another process")
    progress.note("outside")
    with progress.silenced(False):
        progress.note("main process")
    assert capsys.readouterr().err == "outside\nmain process\n"
