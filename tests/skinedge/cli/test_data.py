"""skinedge data synth | check | info, as a user runs them: exit codes, stdout, stderr."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dirty_folder import dirty_folder
from PIL import Image
from typer.testing import CliRunner, Result

from skinedge.cli import app
from skinedge.core.errors import ConfigError, DataError

KEYS = {"schema", "model_id", "model_sha256"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def test_synth_writes_a_folder_and_says_so(tmp_path: Path) -> None:
    result = run("synth", tmp_path / "out", "--count", 70, "--size", 32, "--seed", 4, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["schema"] == "skinedge.data.synth/1"
    assert (document["images"], document["synthetic"], document["model_id"]) == (70, True, None)
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 70


def test_synth_into_an_existing_folder_exits_1_with_two_lines(synthetic_images: Path) -> None:
    code = "import skinedge.cli; skinedge.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "synth", str(synthetic_images)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ") and "not empty" in done.stderr and "Traceback" not in done.stderr


def test_info_names_kind_classes_groups_and_that_it_is_synthetic(synthetic_images: Path) -> None:
    text = run("info", synthetic_images)
    assert text.exit_code == 0
    for word in ("HAM10000", "malignant", "benign", "SYNTHETIC", "72x72 (140)", "140 images"):
        assert word in text.stdout
    document = json.loads(run("info", synthetic_images, "--json").stdout)
    assert document["schema"] == "skinedge.data.info/1"
    assert document["classes"]["mel"] == {"images": 20, "group": "malignant"}
    assert set(document) == KEYS | {
        *("kind", "domain", "synthetic", "images", "lesions", "patients", "classes", "splits", "sizes"),
    }
    assert document["patients"] is None and "split by lesion (" in text.stdout


def test_info_counts_patients(tmp_path: Path) -> None:
    rows = ["image,label,patient_id"]
    for number in range(6):
        Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / f"{number}.png")
        rows.append(f"{number},{('mel', 'nv')[number % 2]},p{number // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert json.loads(run("info", tmp_path, "--json").stdout)["patients"] == 3
    assert "6 images, domain unknown, split by patient (3 patients)" in run("info", tmp_path).stdout


def test_check_passes_a_clean_folder(synthetic_images: Path) -> None:
    result = run("check", synthetic_images, "--json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert document["passed"] is True
    assert document["overlaps"] is None
    assert document["counts"]["nv"] == 20
    assert set(document) == KEYS | {
        *("passed", "kind", "synthetic", "counts", "lesions", "unreadable", "exact", "near"),
        *("two_labels", "leaks", "against", "overlaps", "patients", "unknown_classes", "scarce"),
        *("problems", "unused_tables", "refusals", "sound"),
    }


def test_check_exits_1_and_still_reports(synthetic_images: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(synthetic_images, bad)
    broken = sorted((bad / "images" / "nv").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:300])
    result = run("check", bad)
    assert result.exit_code == 1
    assert "1 unreadable images" in result.stdout and broken.name in result.stdout and "FAILED" in result.stdout
    document = json.loads(run("check", bad, "--json").stdout)
    assert document["passed"] is False
    assert document["unreadable"][0][0].endswith(broken.name)


def test_check_against_exits_1_on_any_overlap(synthetic_images: Path, tmp_path: Path) -> None:
    run("synth", tmp_path / "other", "--count", 70, "--size", 48, "--seed", 9)
    assert run("check", synthetic_images, "--against", tmp_path / "other").exit_code == 0
    result = run("check", synthetic_images, "--against", synthetic_images, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert len(document["overlaps"]) == 140
    assert set(document["overlaps"][0]) == {"left", "right", "by", "distance"}


@pytest.mark.parametrize("command", ["info", "check"])
def test_missing_folder_is_an_error_that_names_it(command: str, tmp_path: Path) -> None:
    result = run(command, tmp_path / "none")
    assert isinstance(result.exception, DataError)
    assert "none: no such folder" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("synth",), "missing argument 'OUT'"),
        (("synth", "{out}", "--seed", -1), "invalid value for '--seed'"),
        (("synth", "{out}", "--seed"), "'--seed' requires an argument"),
        (("check", "{out}", "--no-such-option"), "no such option: --no-such-option"),
        (("nothing",), "no such command 'nothing'"),
    ],
)
def test_wrong_usage_is_an_error_like_others(arguments: tuple[object, ...], message: str, tmp_path: Path) -> None:
    result = run(*(str(argument).format(out=tmp_path / "x") for argument in arguments))
    assert result.exit_code == 1 and result.stdout == "" and isinstance(result.exception, ConfigError)
    assert message in str(result.exception) and " --help" in (result.exception.todo or "")
    assert not (tmp_path / "x").exists()


def test_a_group_without_a_command_prints_its_help() -> None:
    result = run()
    assert result.exit_code == 1 and result.stdout == "" and "Usage" in result.stderr and "synth" in result.stderr


def test_check_lists_what_training_refuses(tmp_path: Path) -> None:
    for label, count in (("mel", 6), ("df", 2), ("blip", 6), ("blob", 6)):
        (tmp_path / label).mkdir()
        for number in range(count):
            Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / label / f"{label}{number}.png")
    done = run("check", tmp_path)
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[-11:] == [
        "FAILED: the folder is in order, but train refuses it as it is:",
        "train refuses class 'df': 2 lesions (or distinct images), but needs at least 4, one for each split",
        "train refuses 2 classes that are not in the table of skin conditions: blip, blob",
        "To train without these images, review the plan that the first command writes; nothing is deleted:",
        f"  skinedge data clean {tmp_path} --plan {tmp_path.name}-plan.csv",
        f"  skinedge train --data {tmp_path} --plan {tmp_path.name}-plan.csv",
        "Set each unknown class to benign, premalignant, malignant or the name of a known condition, in a TOML file",
        "given with --config:",
        "[taxonomy]",
        '"blip" = ""',
        '"blob" = ""',
    ]


def test_check_goes_by_the_settings_of_the_training(tmp_path: Path) -> None:
    for label in ("mel", "nv", "blip"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(6):
            Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "data" / label / f"{label}{number}.png")
    settings = tmp_path / "settings.toml"
    check = ("check", tmp_path / "data", "--json")
    document = json.loads(run(*check).stdout)
    assert not document["passed"] and document["sound"] and document["unknown_classes"] == ["blip"]
    for text, code in (
        ('blip = "benign"', 0),
        ('Blip = "benign"', 0),
        ('blop = "benign"', 1),
        ('blip = "melanoma"', 1),
    ):
        settings.write_text(f"[taxonomy]\n{text}")
        done = run(*check, "--config", settings)
        assert (done.exit_code, json.loads(done.stdout)["passed"]) == (code, code == 0), text
    assert json.loads(done.stdout)["refusals"] == ["two classes mean melanoma: blip, mel"]
    settings.write_text("taxonomies = 1")
    assert "taxonomies" in str(run(*check, "--config", settings).exception)


def test_the_remedy_of_check_is_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cases of every problem are listed at once, and the printed commands lead to a folder that passes."""
    root = dirty_folder(tmp_path / "my photos")
    monkeypatch.chdir(tmp_path)
    done = run("check", root)
    assert done.exit_code == 1
    for finding in (
        "3 unreadable images",
        "3 images under two labels",
        "3 tables beside the images cannot be read",
        "3 images are in no class folder, and no table labels them",
        "6 sets of exact duplicates",
        "6 tables not used",
        "train refuses class 'melanoma 2': 1 lesions (or distinct images), but needs at least 4, one for each split",
        "train refuses: 4 classes mean melanoma: mel, melanoma 0, melanoma 1, melanoma 2",
        "train refuses 3 classes that are not in the table of skin conditions: blip0, blip1, blip2",
        "Labels or lesions may be in them: repair them, or move them away.",
        '"blip2" = ""',
    ):
        assert finding in done.stdout
    clean, train = (shlex.split(line) for line in done.stdout.splitlines() if line.startswith("  skinedge "))
    assert train == ["skinedge", "train", "--data", str(root), "--plan", "my photos-plan.csv"]
    made = run(*clean[2:])
    assert made.exit_code == 0 and shlex.join(train) in made.stdout
    assert "not repaired by a plan: 3 tables beside the images cannot be read" in made.stderr
    assert isinstance(run(*clean[2:]).exception, ConfigError)  # it may hold changes
    for case in range(3):
        (root / f"table{case}.csv").unlink()
    after = run("check", root, "--plan", "my photos-plan.csv")
    assert after.exit_code == 1 and "the folder is in order" in after.stdout
    assert "skinedge data clean" not in after.stdout
    assert '"blip2" = ""' in after.stdout and "train refuses class" not in after.stdout


def test_clean_in_json(tmp_path: Path) -> None:
    dirty_folder(tmp_path / "data")
    result = run("clean", tmp_path / "data", "--plan", tmp_path / "plan.csv", "--json")
    document = json.loads(result.stdout)
    assert document["schema"] == "skinedge.data.clean/1" and document["actions"] == {"leave out": 18, "keep": 3}
    assert set(document) == KEYS | {"plan", "actions", "images"}
    assert (tmp_path / "plan.csv").read_text().startswith('"action","image","label","reason","same_as","sha256"\n')


@pytest.mark.parametrize("command", ["info", "check"])
def test_a_file_instead_of_a_folder_and_columns(command: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("photo,finding\na,mel\nb,nv\n")
    result = run(command, tmp_path / "labels.csv")
    assert isinstance(result.exception, DataError) and "labels.csv: is a file, not a folder" in str(result.exception)
    for name in "ab":
        Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / f"{name}.png")
    options = ("--table", "labels.csv", "--columns", "image=photo,label=finding")
    read = run(command, tmp_path, *options)
    assert read.exit_code == (command == "check") and "FAILED: repair" not in read.stdout  # too few for a training
    assert "unknown role" in str(run(command, tmp_path, "--columns", "foto=photo").exception)
    assert "is not ROLE=COLUMN" in str(run(command, tmp_path, "--columns", "photo").exception)


def test_flat_images_with_an_unreadable_table(tmp_path: Path) -> None:
    for name in "ab":
        Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("image,dx\na,mel,extra\n")
    assert str(run("info", tmp_path).exception).splitlines()[1:] == [
        "  1 tables beside the images cannot be read: labels.csv (line 2 has more cells than the header)",
        "  2 images are in no class folder, and a table that cannot be read may label them: a.png, b.png",
        "Labels or lesions may be in them: repair them, or move them away.",
    ]
