"""Hostile file names in documents: nothing outside a run is read, written or removed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from examples import TRAINING, manifest, model_info
from hypothesis import example, given
from hypothesis import strategies as st

from skinedge.core.errors import BundleError, DataError
from skinedge.core.files import name_problem, path_inside, sha256
from skinedge.data.dataset import read_split
from skinedge.publish import bundled_model
from skinedge.run import commit
from skinedge.run.manifest import MANIFEST, FileEntry, Manifest, Stage
from skinedge.run.run_directory import Bundle
from skinedge.stats.calibration import Calibration, Reading

HOSTILE = (
    "", ".", "..", "../victim.txt", "a/../../victim.txt", "/etc/passwd", "a//b", "a/", "./a", "C:/a", "c:a", "\\a",
    "a\\..\\b", "a\0b", "a\nb", "a\x1b[2Jb", "a\x9bb", "a\u202eb", "con", "NUL.txt", "sub/aux.tflite", "com1.json",
    "lpt\u00b2", "a.", "a ", "a/b. /c", "\ud800",
)  # fmt: skip
ORDINARY = (
    "model.int8.tflite",
    "reports/latency.Maker-Phone-9.json",
    "adapter/a_b.safetensors",
    "Läsion 1.png",
    "console",
)
STAGE = Stage("", (FileEntry("model.onnx", "0" * 64, 3, "test", {}, model_info("onnx")),))
CALIBRATION = Calibration(Reading(), 1.0, (0.0, 0.0), 10)
PARTS = st.text(alphabet=st.sampled_from("ab./\\:\0\n\x1b NULconCOM1\u202e"), max_size=8) | st.sampled_from(["..", "."])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_names_are_refused(tmp_path: Path, name: str) -> None:
    assert name_problem(name)
    with pytest.raises(BundleError):
        path_inside(tmp_path, name)
    with pytest.raises(ValueError, match=r"not a relative path|not a valid file name|character"):
        FileEntry(name, "", 0, "")


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_file_names_are_accepted(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name) == tmp_path / name


@given(st.lists(PARTS, max_size=5).map("/".join))
@example("a/../..")
def test_accepted_names_stay_inside_the_run_on_every_system(name: str) -> None:
    if name_problem(name) is not None:
        return
    root = Path("/nowhere/run")
    assert path_inside(root, name).is_relative_to(root) and ".." not in PurePosixPath(name).parts
    windows = PureWindowsPath("C:/run") / name
    assert windows.is_relative_to("C:/run") and windows.parts[1:] == ("run", *name.split("/"))
    assert not any(windows.__class__(part).is_reserved() for part in name.split("/"))


def test_links_out_of_the_run_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a").write_text("victim")
    (tmp_path / "run/reports").symlink_to("../outside")
    (tmp_path / "run/file").symlink_to("../outside/a")
    (tmp_path / "run/loop").symlink_to("loop")
    (tmp_path / "run/here").symlink_to(".")
    for name in ("reports/a", "reports/new.json", "file", "loop/a"):
        with pytest.raises(BundleError):
            path_inside(tmp_path / "run", name)
    assert path_inside(tmp_path / "run", "here/a")
    (tmp_path / "link").symlink_to("run")
    assert path_inside(tmp_path / "link", "a"), "the run itself may be reached through a link"


@pytest.fixture
def received(tmp_path: Path) -> Path:
    """Create a run with one file, and victim files outside it."""
    root = tmp_path / "run"
    root.mkdir()
    with Bundle.create(root, manifest(training=TRAINING)).stage("one", "test", {}) as stage:
        stage.path("a.txt").write_text("content")
    (tmp_path / "victim.txt").write_text("victim")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/report.html").write_text("victim")
    return root


def edit(root: Path, change: Any) -> None:
    raw = json.loads((root / MANIFEST).read_text())
    change(raw)
    (root / MANIFEST).write_text(json.dumps(raw))


def victims(folder: Path) -> dict[str, bytes]:
    """Return every file outside the run, with its content."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(folder / "run")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Run a command; return its exit code."""
    from skinedge.cli import main

    monkeypatch.setattr(sys, "argv", ["skinedge", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("export", "{run}", "--force"), ("merge", "{run}", "--force"), ("ship", "{run}", "--to", "{out}"),
    ("report", "{run}"), ("verify", "{run}"), ("predict", "{run}/a.txt", "--run", "{run}"), ("bench", "{run}"),
    ("evaluate", "{run}"), ("web", "{run}", "--out", "{out}"), ("android", "install", "{run}"),
)  # fmt: skip
CHANGES = {
    "listed": lambda raw: raw["stages"]["one"]["files"][0].update(path="../victim.txt"),
    "absolute": lambda raw: raw["stages"]["one"]["files"][0].update(path="/etc/hostname"),
    "default": lambda raw: raw.update(default_file="../victim.txt"),
    "threshold": lambda raw: raw["thresholds"].update({"../victim.txt": 0.5}),
    "id": lambda raw: raw.update(id="../../victim"),
    "manifest": lambda raw: raw["stages"]["one"]["files"][0].update(path="Manifest.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_commands_refuse_runs_with_hostile_names(
    received: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    edit(received, CHANGES[change])
    before = victims(received.parent)
    for words in COMMANDS:
        names = {"run": received, "out": received.parent / "out"}
        assert command(monkeypatch, *(word.format(**names) for word in words)) in (1, 2), words
        assert "Traceback" not in capsys.readouterr().err, words
    assert victims(received.parent) == before and not (received.parent / "out").exists()


def test_stage_does_not_write_through_a_linked_folder(received: Path) -> None:
    (received / "reports").symlink_to("../outside")
    before = victims(received.parent)
    bundle = Bundle.open(received)
    with pytest.raises(BundleError, match="symbolic link"), bundle.stage("report", "test", {}) as stage:
        stage.path("reports/report.html").write_text("ours")
    assert victims(received.parent) == before


def test_listed_file_that_is_a_link_is_not_read(received: Path) -> None:
    (received / "a.txt").unlink()
    (received / "a.txt").symlink_to("../victim.txt")
    edit(received, lambda raw: raw["stages"]["one"]["files"][0].update(sha256=sha256(received.parent / "victim.txt")))
    bundle = Bundle.open(received)
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.file("a.txt")
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.is_current("one", {})


@pytest.mark.parametrize("name", ["../victim.txt", "/etc/hostname"])
def test_hostile_commit_journal_changes_nothing_outside_the_run(received: Path, name: str) -> None:
    folder = received / f"{commit.PREFIX}0123abcd"
    (folder / "files").mkdir(parents=True)
    before = victims(received.parent)
    for journal in ({"moved": [], "removed": [name]}, {"moved": [name], "removed": []}):
        (folder / commit.JOURNAL).write_text(json.dumps(journal))
        with pytest.raises(BundleError, match="not a relative path inside the run"):
            Bundle.open(received)
    (folder / "files").rmdir()
    (folder / "files").symlink_to("../..")
    (folder / commit.JOURNAL).write_text(json.dumps({"moved": ["victim.txt"], "removed": []}))
    with pytest.raises(BundleError, match="symbolic link"):
        Bundle.open(received)
    assert victims(received.parent) == before


def test_bundled_model_with_a_hostile_id_is_not_copied_outside_runs(
    received: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Bundle.open(received).stage("ship", "test", {}) as stage:
        stage.path("MODEL_CARD.md").write_text("card")
    edit(received, lambda raw: raw.update(id="../../victim"))
    monkeypatch.setenv(bundled_model.VARIABLE, str(received))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    before = victims(tmp_path)
    with pytest.raises(BundleError, match="not a valid id"):
        bundled_model.default_run(writes=True)
    assert victims(tmp_path) == before


@pytest.mark.parametrize("path", ["../a.png", "/etc/a.png", "a/../../b.png", "", ".", "a\0.png", "C:/a.png"])
def test_split_with_paths_outside_the_image_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "split.csv").write_text(f"image_id,lesion_id,label,split,path,sha256\n1,,mel,test,{path},\n")
    with pytest.raises(DataError, match="not below"):
        read_split(tmp_path / "split.csv")


@given(st.data())
def test_mutated_manifest_is_read_or_refused_with_a_bundle_error(data: st.DataObject) -> None:
    """Changes one value at a random position, or removes a key."""
    entry = FileEntry("a.txt", "0" * 64, 3, "test", {"in": "1"}, {"any": [1]})
    valid = manifest(training=TRAINING, calibration=asdict(CALIBRATION))
    stages = {"one": replace(STAGE, files=(entry, *STAGE.files))}
    raw = json.loads(json.dumps(asdict(replace(valid, stages=stages))))
    position = data.draw(st.sampled_from(positions(raw)))
    parent = raw
    for step in position[:-1]:
        parent = parent[step]
    value = data.draw(
        st.sampled_from([None, True, -1, 10**30, 1e308, float("nan"), "", "\ud800", [], {}, [[]], {"x": 1}])
    )
    if isinstance(parent, dict) and data.draw(st.booleans()):
        parent.pop(position[-1])
    else:
        parent[position[-1]] = value
    try:
        read = Manifest.from_dict(raw, "m")
    except BundleError as error:
        assert str(error).startswith("m: ")
        return
    assert all(name_problem(file.path) is None for stage in read.stages.values() for file in stage.files)
    assert read.malignant is not None and sum(read.class_prior.values()) == pytest.approx(1)


def positions(value: Any, position: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value below `value`, as keys and indices."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = [deeper for key, item in items for deeper in positions(item, (*position, key))]
    return ([position] if position else []) + below
