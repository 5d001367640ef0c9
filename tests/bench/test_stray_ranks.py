"""RANK and WORLD_SIZE that a cluster or notebook left in the environment silence nothing but a joined training."""

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
def test_a_second_process_that_nobody_started_says_all(
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
    [{"WORLD_SIZE": "x"}, {"WORLD_SIZE": "-2"}, {"WORLD_SIZE": "2", "RANK": "2"}, {"RANK": "1e3", "WORLD_SIZE": "2"}],
)
def test_training_refuses_ranks_that_no_launcher_sets(
    cli: Cli, synthetic_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: dict[str, str]
) -> None:
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError):
        launched()
    code, out, err = cli("train", "--data", synthetic_images, "--out", tmp_path / "run", "--device", "cpu")
    assert code == 1 and out == "" and "unset WORLD_SIZE and RANK" in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_notes_are_silent_within_a_joined_process_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.silenced(True):
        progress.note("not the main one")
    progress.note("alone")
    with progress.silenced(False):
        progress.note("the main one")
    assert capsys.readouterr().err == "alone\nthe main one\n"
