"""Reading training settings: round trips, options, and messages for invalid values."""

from __future__ import annotations

from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError
from skinedge.core.json_io import build
from skinedge.run.config import TrainConfig, load_config


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_every_setting_survives_a_round_trip(tmp_path: Path) -> None:
    text = 'epochs = 3\nlimit = 50\n[lora]\nrank = 2\ntargets = ["blocks.*"]\n[taxonomy]\n"My class" = "benign"\n'
    config = load_config(write(tmp_path, text))
    assert (config.epochs, config.limit, config.lora.rank, config.lora.targets) == (3, 50, 2, ("blocks.*",))
    plain = {key: value for key, value in config.to_dict().items() if value is not None}
    assert build(plain, TrainConfig, "again") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "'epoch'"),
        ("[lora]\nrnak = 2", "'lora.rnak'"),
        ('epochs = "3"', "epochs: expected int"),
        ("epochs = true", "epochs: expected int"),
        ("epochs = 0", "epochs is 0"),
        ("lora = 3", "lora: expected object, got int"),
        ('[lora]\ntargets = "x"', "lora.targets: expected array, got str"),
        ('precision = "fp8"', "unknown precision 'fp8'"),
        ("[augment]\nscale = 0.0", "augment.scale"),
        ("[optimizer]\nlearning_rate = 0", "learning_rate"),
        ("[optimizer]\nwarmup = nan", "optimizer.warmup"),
        ("[optimizer]\nlabel_smoothing = 1.5", "optimizer.label_smoothing"),
        ("[lora]\ndropout = 1.5", "lora.dropout"),
        ("[lora]\ntargets = []", "lora.targets is empty"),
        ("seed = -1", "seed is -1"),
        ('limit = 50\nsplit = "split.csv"', "contradict"),
        ("epochs = = 3", "not valid TOML"),
    ],
)
def test_the_message_names_an_invalid_setting(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")


def test_options_override_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "epochs = 3\nseed = 7\n"))
    changed = config.with_options({"epochs": 9, "seed": None})
    assert (changed.epochs, changed.seed) == (9, 7)
