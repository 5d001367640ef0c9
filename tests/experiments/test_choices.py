from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments import choices
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read
from skinedge.data.split import split

SETTINGS = """
[common]
backbone = "test_efficientnet"
weights = "random"
image_size = 64
epochs = 2
precision = "fp32"
[one]
lora = { rank = 2 }
[other]
imbalance = "none"
"""


def test_settings_are_chosen_on_training_images_only(tinted: Path) -> None:
    dataset = hash_images(read(tinted))
    outer, nested = split(dataset, 0), choices.nested_split(dataset, 0)
    inner = [s for s in nested if s.split in ("train", "val")]
    assert {s.path for s in inner} == {s.path for s in outer if s.split == "train"}
    assert [s for s in nested if s not in inner] == [s for s in outer if s.split in ("cal", "test")]
    lesions = {part: {s.lesion_id for s in inner if s.split == part} for part in ("train", "val")}
    assert lesions["train"] and lesions["val"] and not lesions["train"] & lesions["val"]
    assert {s.split for s in nested} == {"train", "val", "cal", "test"}


def test_every_setting_is_trained_and_printed(tinted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "choices.toml", tmp_path / "epochs.json"
    path.write_text(SETTINGS)
    assert choices.main(["--data", str(tinted), "--settings", str(path), "--out", str(out)]) == 0
    runs = json.loads(out.read_text())
    assert [run["name"] for run in runs] == ["one", "other"]
    printed = capsys.readouterr().out
    for run in runs:
        assert len(run["history"]) == 2
        assert f"{run['history'][-1]['val_accuracy']:.4f}" in printed


TAUGHT = """
[pupil]
teacher = "master"
lora = { rank = 2, dora = true }
[master]
image_size = 32
"""


def test_a_teacher_is_trained_once_and_before_its_student(tinted: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "choices.toml", tmp_path / "epochs.json"
    path.write_text(SETTINGS + TAUGHT)
    assert choices.main(["pupil", "master", "--data", str(tinted), "--settings", str(path), "--out", str(out)]) == 0
    runs = {run["name"]: run for run in json.loads(out.read_text())}
    assert list(runs) == ["master", "pupil"] and runs["pupil"]["changes"]["teacher"] == "master"
    assert runs["pupil"]["history"] != runs["master"]["history"]


def test_only_the_teachers_of_requested_settings_are_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "choices.toml"
    path.write_text(SETTINGS + TAUGHT)
    assert list(choices.settings(path, ["other"])) == ["other"]
    assert list(choices.settings(path, [])) == ["one", "other", "master", "pupil"]
    path.write_text(SETTINGS + TAUGHT + 'teacher = "pupil"\n')
    assert choices.main(["pupil", "--settings", str(path)]) == 1
    assert "'pupil' is its own teacher" in capsys.readouterr().err


def test_an_unknown_setting_and_a_broken_file_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "choices.toml"
    path.write_text(SETTINGS)
    assert choices.main(["third", "--settings", str(path)]) == 1
    assert "unknown: third" in capsys.readouterr().err
    path.write_text("[common")
    assert choices.main(["--settings", str(path)]) == 1
    assert "not valid TOML" in capsys.readouterr().err
