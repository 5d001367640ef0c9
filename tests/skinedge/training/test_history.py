"""The log of a training in TensorBoard's format, read with TensorBoard's own reader."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError, MissingDependencyError
from skinedge.run.config import TrainConfig
from skinedge.run.run_directory import Bundle
from skinedge.system import requirements
from skinedge.training import history
from skinedge.training.job import TrainRequest
from skinedge.training.train import train

HISTORY = [
    {"epoch": 1, "train_loss": 0.5, "val_macro_auc": None},
    {"epoch": 2, "train_loss": 0.25, "val_macro_auc": 0.9},
]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_each_epoch(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.0"
    history.write_log("tensorboard", path, HISTORY)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    read = scalars(tmp_path)
    assert read["train_loss"] == [(1, 0.5), (2, 0.25)] and read["val_macro_auc"] == [(2, pytest.approx(0.9))]
    assert set(read) == {"train_loss", "val_macro_auc"} and platform.node().encode() not in path.read_bytes()


def test_the_event_file_is_a_file_of_the_run(synthetic_images: Path, tmp_path: Path) -> None:
    config = TrainConfig(backbone="mobilenetv4_conv_small", weights="random", image_size=32, epochs=2, limit=70)
    bundle = train(TrainRequest(synthetic_images, tmp_path / "run", config, log="tensorboard"))
    file = Bundle.open(bundle.root).file(history.FORMATS["tensorboard"])
    read = scalars(file.parent)
    assert [step for step, _ in read["train_loss"]] == [1, 2] and "epoch" not in read


def test_the_extra_is_named_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "installed", lambda name: None)
    with pytest.raises(MissingDependencyError) as error:
        history.check_log("tensorboard")
    assert "[tensorboard]" in str(error.value) and "package 'tensorboard'" in str(error.value)
    for log in ("", "csv"):
        history.check_log(log)
    with pytest.raises(ConfigError, match="unknown --log 'wandb'") as unknown:
        history.check_log("wandb")
    assert "csv, tensorboard" in str(unknown.value)
