"""Wrong settings and paths are errors before PyTorch is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from skinedge.core.errors import ConfigError
from skinedge.core.taxonomy import label_of
from skinedge.run.config import TrainConfig
from skinedge.training.job import TrainRequest
from skinedge.training.request_check import check_request

CODE = """
import sys
from skinedge.cli import main
sys.argv = ["skinedge", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    print("torch" in sys.modules, end.code)
"""


def error_of(cwd: Path, *arguments: str) -> str:
    """Run a command that must fail without importing PyTorch; return what it prints on standard error."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["False 1"], done.stdout + done.stderr
    return done.stderr


def test_a_listed_backbone_is_known_without_timm() -> None:
    code = "import sys; from skinedge.network.model import check_backbone; check_backbone('resnet18')\n"
    code += "print({'timm', 'torch'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("mobilenet_v2", "Did you mean mobilenetv2_100 or mobilenetv3_large_100 or mobilenetv4_conv_small? "),
        ("xyz", ""),
    ],
)
def test_an_unknown_backbone_is_refused_before_the_images_are_read(tmp_path: Path, name: str, similar: str) -> None:
    (tmp_path / "images").mkdir()  # without any image, which would be the next error
    request = TrainRequest(tmp_path / "images", tmp_path / "run", TrainConfig(backbone=name))
    with pytest.raises(ConfigError) as error:
        check_request(request)
    assert str(error.value) == f"unknown backbone '{name}'\n{similar}List: skinedge backbones, or timm.list_models()."
    check_request(replace(request, config=TrainConfig(backbone="vit_tiny_patch16_224")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "WRONG"), "error: WRONG: no such folder"),
        (("--data", "images", "--device", "tpu"), "unknown device 'tpu'"),
        (("--data", "images", "--config", "none.toml"), "none.toml: no such file"),
        (("--data", "images", "--config", "weights.toml"), "weights: no file none.pth"),
        (("--data", "images", "--config", "split.toml"), "none.csv: no such split file"),
        (("--data", "images", "--teacher", "nowhere"), "nowhere: no such run directory"),
        (("--data", "images", "--plan", "none.csv"), "none.csv"),
        (("--data", "images", "--table", "none.csv"), "no table none.csv"),
        (("--data", "images", "--out", "images"), "images: output exists"),
        (("--data", "images", "--out", "split.toml/run"), "split.toml is a file, not a folder"),
        (("--data", "images", "--epochs", "0"), "epochs is 0"),
        (("--data", "data.yaml"), "data.yaml: a dataset in YOLO's layout"),
    ],
)
def test_training(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "weights.toml").write_text('weights = "none.pth"')
    (tmp_path / "split.toml").write_text('split = "none.csv"')
    (tmp_path / "data.yaml").write_text("names: [mel, nv]")
    for command in ("train", "run"):
        assert message in error_of(tmp_path, command, *arguments)


@pytest.mark.parametrize("command", ["evaluate", "export", "verify", "merge", "bench", "report"])
def test_a_missing_folder_of_images(tmp_path: Path, command: str) -> None:
    assert "error: WRONG: no such folder" in error_of(tmp_path, command, "--data", "WRONG")


def test_the_class_to_explain(tmp_path: Path, trained_run: Path) -> None:
    err = error_of(tmp_path, "explain", "x.jpg", "--run", str(trained_run), "--class", "wart")
    assert "the model has no class 'wart'\nIt has: akiec, bcc," in err


def test_a_class_has_several_names() -> None:
    labels = ("bcc", "mel", "nv")
    assert [label_of(name, labels) for name in ("mel", "MEL", "melanoma", "Melanocytic nevi")] == ["mel"] * 3 + ["nv"]
    with pytest.raises(ConfigError, match="no class 'wart'"):
        label_of("wart", labels)
    with pytest.raises(ConfigError, match="fits several"):
        label_of("melanoma", ("Mel", "mel "))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert "skinedge run --data DIR --out RUN" in error_of(tmp_path, "report", str(tmp_path))
    (tmp_path / "first.training").mkdir()
    (tmp_path / "first.training" / "job.json").write_text("{}")
    (tmp_path / "first").mkdir()
    for name in ("first", "first.training"):
        assert "train --resume --out first --data DIR" in error_of(tmp_path, "report", name)


def test_a_folder_of_yolo(tmp_path: Path) -> None:
    from PIL import Image

    for place in ("yolo/images/train", "yolo/labels/train"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("ISIC_0024306", "ISIC_0024307", "ISIC_0024308"):
        Image.new("RGB", (8, 8)).save(tmp_path / "yolo" / "images" / "train" / f"{name}.jpg")
        (tmp_path / "yolo" / "labels" / "train" / f"{name}.txt").write_text("0 .5 .5 .2 .2")
    err = error_of(tmp_path, "data", "check", "yolo")
    assert "yolo: a dataset in YOLO's layout" in err and "one folder of images for each class" in err


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (("android", "--model", "RUN", "--to", ""), "--to"),
        (("predict", "", "--run", "RUN"), "predict"),
        (("run", "--data=", "--out", "run"), "--data"),
        (("data", "synth", ""), "synth"),
        (("", "doctor"), "skinedge"),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(tmp_path: Path, arguments: tuple[str, ...], after: str) -> None:
    assert error_of(tmp_path, *arguments).startswith(f"error: an argument is empty: after {after}\n")
    assert not list(tmp_path.iterdir())
