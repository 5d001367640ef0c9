"""A training on two folders, and the commands that read its images again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CONFIG = """backbone = "test_efficientnet"
weights = "random"
image_size = 32
epochs = 1
precision = "fp32"
source_sampling = "equal"
"""
MAP = """license = "CC-BY-4.0"
attribution = "The authors of the second folder"
domain = "clinical"
stretch = [64, 48]
test_share = 0.25

[classes]
M = "mel"
benign = ["nv", "bkl"]
"""


def write_classes(root: Path, counts: dict[str, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for i in range(count):
            blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
            blocks.resize((48, 48), Image.Resampling.NEAREST).save(root / label / f"{label}_{seed}_{i}.png")


def skinedge(*arguments: str, cwd: Path, code: int = 0) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "skinedge", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    output = result.stdout + result.stderr
    assert result.returncode == code, output
    assert "Traceback" not in output
    return result.stdout if "--json" in arguments and not code else output


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a merged run on two folders."""
    work = tmp_path_factory.mktemp("sources")
    write_classes(work / "one", {"mel": 12, "nv": 12, "bkl": 12}, 1)
    write_classes(work / "two", {"M": 12, "benign": 8}, 2)
    (work / "config.toml").write_text(CONFIG)
    (work / "two.toml").write_text(MAP)
    output = skinedge(*TRAIN, "--out", "run", cwd=work)
    assert "two: class folders, 20 images of bkl, mel, nv" in output
    skinedge("merge", "run", cwd=work)
    return work


TRAIN = ("train", "--data", "one", "--data", "two", "--map", "two=two.toml", "--config", "config.toml")


def test_the_manifest_names_each_source_with_its_licence(work: Path) -> None:
    manifest = json.loads((work / "run/manifest.json").read_text())
    data = manifest["training"]["data"]
    assert [source["name"] for source in data["sources"]] == ["one", "two"]
    assert data["sources"][1]["license"] == "CC-BY-4.0" and data["sources"][1]["labels"] == ["bkl", "mel", "nv"]
    assert data["partial"] == {"benign": ["bkl", "nv"]}
    assert manifest["labels"] == ["bkl", "mel", "nv"] and manifest["license"] == ""  # that of `one` is unknown
    assert manifest["attribution"] == "The authors of the second folder" and manifest["domain"] == "unknown"


def test_evaluate_reads_both_folders_again_and_measures_each(work: Path) -> None:
    output = skinedge("evaluate", "run", "--file", "model.safetensors", "--json", cwd=work)
    groups = json.loads(output)["subgroups"]["source"]
    assert set(groups) == {"one", "two"} and groups["two"]["n"] == 3


def test_evaluate_with_the_map_finds_the_same_held_out_images(work: Path) -> None:
    arguments = ("--file", "model.safetensors", "--data", "two", "--map", "two.toml", "--json")
    output = skinedge("evaluate", "run", *arguments, "--split", "test", cwd=work)
    document = json.loads(output)
    assert document["n"] == 3 and not document["contaminated"]
    own = skinedge("evaluate", "run", *arguments[:4], "--json", "--split", "test", cwd=work)
    assert json.loads(own) == document, "the run's source is read with the map of the training"
    (work / "elsewhere").mkdir(exist_ok=True)
    moved = shutil.copytree(work / "two", work / "elsewhere" / "renamed", dirs_exist_ok=True)
    again = skinedge("evaluate", "run", *arguments[:2], "--data", str(moved), "--json", "--split", "test", cwd=work)
    assert json.loads(again) == document


def test_a_folder_of_other_images_and_classes_names_the_map_as_a_remedy(work: Path) -> None:
    write_classes(work / "third", {"M": 3, "X": 3}, 7)
    output = skinedge("evaluate", "run", "--file", "model.safetensors", "--data", "third", cwd=work, code=1)
    assert "class 'M' is none of the model's classes" in output and "--map FILE.toml" in " ".join(output.split())


def test_a_folder_given_twice_is_refused_where_one_is_read(work: Path) -> None:
    output = skinedge("evaluate", "run", "--data", "one", "--data", "two", cwd=work, code=1)
    assert "--data is given twice" in output


def test_classes_that_overlap_are_named(work: Path) -> None:
    write_classes(work / "fourth", {"seborrheic keratosis": 12, "nv": 12}, 9)
    arguments = ("--data", "one", "--data", "fourth", "--config", "config.toml", "--out", "overlap")
    output = " ".join(skinedge("train", *arguments, cwd=work).split())
    assert "warning: class 'seborrheic keratosis' is a part of 'bkl'" in output


def test_the_same_command_with_resume_has_nothing_to_do_and_other_maps_are_named(work: Path) -> None:
    assert "already trained" in skinedge(*TRAIN, "--out", "run", "--resume", cwd=work)
    (work / "other.toml").write_text(MAP.replace("0.25", "0.5"))
    other = (*TRAIN[:5], "--map", "two=other.toml", *TRAIN[7:])
    output = skinedge(*other, "--out", "run", "--resume", cwd=work, code=1)
    assert "read its images with other options: sources" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--map", "two.toml"), "--map two.toml does not name its folder"),
        (("--map", "three=two.toml"), "--map names the folder 'three'"),
        (("--map", "two=missing.toml"), "missing.toml"),
        (("--columns", "label=x"), "--columns is for a single folder"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    work: Path, arguments: tuple[str, ...], message: str
) -> None:
    output = skinedge("train", "--data", "one", "--data", "two", *arguments, "--out", "new", cwd=work, code=1)
    assert message in output and not list(work.glob("new*"))


def test_data_check_reads_with_the_map_and_repeats_it_in_its_remedy(work: Path) -> None:
    assert "passed" in skinedge("data", "check", "two", "--map", "two.toml", cwd=work).casefold()
    (work / "two/M/broken.png").write_bytes(b"")
    output = " ".join(skinedge("data", "check", "two", "--map", "two.toml", cwd=work, code=1).split())
    (work / "two/M/broken.png").unlink()
    assert "skinedge data clean two --map two.toml --plan" in output
    assert "skinedge train --data two --map two.toml --plan" in output
    skinedge("data", "clean", "two", "--map", "two.toml", "--plan", "plan.csv", cwd=work)


def test_evaluate_leaves_out_the_training_images_of_several_possible_classes(work: Path) -> None:
    arguments = ("--file", "model.safetensors", "--split", "train", "--allow-train", "--json")
    document = json.loads(skinedge("evaluate", "run", *arguments, cwd=work))
    counts = json.loads((work / "run/manifest.json").read_text())["training"]["data"]["counts"]["train"]
    assert document["classes"] == ["bkl", "mel", "nv"] and counts["benign"] == 8
    assert document["n"] == sum(counts.values()) - counts["benign"]
