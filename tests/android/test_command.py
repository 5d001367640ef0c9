"""`skinedge android`: which file goes into the app, what is replaced, and what is refused without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skinedge.core.errors import BundleError
from skinedge.core.files import sha256
from skinedge.publish import android
from skinedge.run.run_directory import Bundle

HEATMAP = "model.int8.heatmap.tflite"
PLAIN = "model.int8.tflite"


def skinedge(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SKINEDGE_SHIPPED": ""}
    command = [sys.executable, "-m", "skinedge", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_int8_file_with_a_heatmap_is_put_into_the_sources(flagship: Bundle, tmp_path: Path) -> None:
    assets = tmp_path / android.ASSETS
    assets.parent.mkdir(parents=True)
    done = skinedge("android", "--model", flagship.root, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["schema"], said["model_id"], said["heatmap"]) == ("skinedge.android/1", flagship.manifest.id, True)
    assert names(assets) == [HEATMAP, f"{HEATMAP}.skinedge.json"]
    for name in names(assets):
        assert sha256(assets / name) == flagship.entries()[name].sha256
    assert json.loads((assets / f"{HEATMAP}.skinedge.json").read_text())["sha256"] == sha256(assets / HEATMAP)


def test_another_file_takes_the_place_of_the_first_and_of_nothing_else(flagship: Bundle, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    android.copy_model(flagship, assets)
    (assets / "own.tflite").write_bytes(b"somebody's")
    done = skinedge("android", "--model", flagship.root, "--file", PLAIN, "--to", assets, cwd=tmp_path)
    assert done.returncode == 0 and "no heatmap" in done.stderr and "not a medical device" in done.stderr
    assert names(assets) == [PLAIN, f"{PLAIN}.skinedge.json", "own.tflite"]
    assert android.installed(assets) == android.Pair(assets / PLAIN, assets / f"{PLAIN}.skinedge.json", False)


@pytest.mark.parametrize("file", ["model.int8.onnx", "model.fp32.tflite"])
def test_a_file_that_the_app_cannot_use_is_refused(flagship: Bundle, tmp_path: Path, file: str) -> None:
    done = skinedge("android", "--model", flagship.root, "--file", file, "--to", tmp_path / "assets", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert file in done.stderr and HEATMAP in done.stderr
    assert not (tmp_path / "assets").exists()


@pytest.mark.parametrize("damaged", [HEATMAP, f"{HEATMAP}.skinedge.json"])
def test_a_changed_file_leaves_what_was_there(flagship: Bundle, tmp_path: Path, damaged: str) -> None:
    assets = tmp_path / "assets"
    android.copy_model(flagship, assets, PLAIN)
    with (flagship.root / damaged).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(BundleError, match="does not match the hash"):
        android.copy_model(flagship, assets)
    assert names(assets) == [PLAIN, f"{PLAIN}.skinedge.json"]


def test_a_run_without_a_card_or_a_tflite_file_is_refused(flagship: Bundle, tmp_path: Path) -> None:
    text = (flagship.root / "manifest.json").read_text()
    (flagship.root / "manifest.json").write_text(text.replace(".tflite.skinedge.json", ".tflite.other.json"))
    with pytest.raises(BundleError, match=r"no \.tflite file") as raised:
        android.copy_model(flagship.reload(), tmp_path / "assets")
    assert "skinedge export" in str(raised.value)


def test_outside_the_sources_the_folder_must_be_named(flagship: Bundle, tmp_path: Path) -> None:
    done = skinedge("android", "--model", flagship.root, cwd=tmp_path)
    assert done.returncode == 1 and "--to DIR" in done.stderr and "Traceback" not in done.stderr


def test_two_models_or_a_half_are_not_an_installed_model(flagship: Bundle, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assert android.installed(assets) is None
    android.copy_model(flagship, assets)
    (assets / HEATMAP).rename(assets / "elsewhere")
    with pytest.raises(BundleError, match="without its model"):
        android.installed(assets)
    (assets / "elsewhere").rename(assets / HEATMAP)
    (assets / f"{PLAIN}.skinedge.json").write_bytes((assets / f"{HEATMAP}.skinedge.json").read_bytes())
    with pytest.raises(BundleError, match="found 2 models"):
        android.installed(assets)


@pytest.mark.parametrize("left", [(PLAIN,), (f"{PLAIN}.skinedge.json",), (PLAIN, HEATMAP), (HEATMAP,)])
def test_what_an_interrupted_command_left_is_replaced(flagship: Bundle, tmp_path: Path, left: tuple[str, ...]) -> None:
    """A pair that is not removed yet, a card without its model, or both models."""
    assets = tmp_path / "assets"
    for name in (HEATMAP, PLAIN):
        other = tmp_path / name
        android.copy_model(flagship, other, name)
        for path in other.iterdir() if {name, f"{name}.skinedge.json"} & set(left) else ():
            assets.mkdir(exist_ok=True)
            if path.name in left or path.suffix == ".json":
                path.rename(assets / path.name)
    android.copy_model(flagship, assets)
    assert names(assets) == [HEATMAP, f"{HEATMAP}.skinedge.json"]
