"""How a run's folder was read is recorded, and holds for the folder wherever it is, but for no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import copy_run

from skinedge.core.errors import ConfigError
from skinedge.data.plan import PLAN, PlanRow, to_text
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.data.readers import read
from skinedge.run.class_order import check_folder
from skinedge.run.redaction import without_places
from skinedge.run.run_directory import Bundle

TABLE = "metadata.csv"


def recorded(run: Path, reading: dict[str, object], plan: str = "") -> Bundle:
    """Record how the images of a copied run were read."""
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["training"]["data"]["reading"] = reading
    path.write_text(json.dumps(manifest))
    if plan:
        with Bundle.open(run).stage("train-plan", "test", {}) as stage:
            stage.path(PLAN).write_text(plan)
    return Bundle.open(run)


@pytest.fixture
def moved(synthetic_images: Path, tmp_path: Path) -> Path:
    """A copy of the run's images elsewhere."""
    return Path(shutil.copytree(synthetic_images, tmp_path / "moved"))


def test_the_recorded_options_hold_for_the_runs_folder_only(
    trained_run: Path, synthetic_images: Path, moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = recorded(copy_run(trained_run, tmp_path / "run"), {"table": TABLE, "columns": {"label": "dx"}})
    expected = ReadOptions(TABLE, {"label": "dx"}, None, recorded=True)
    for folder in (synthetic_images, moved):
        assert bundle.reading(DEFAULT, folder) == expected
    assert f"read as recorded in the run: table {TABLE}" in capsys.readouterr().err
    given = ReadOptions("other.csv")
    assert bundle.reading(given, moved) == given
    assert bundle.reading(DEFAULT, tmp_path) == DEFAULT  # another folder
    assert Bundle.open(trained_run).reading(DEFAULT, moved) == DEFAULT


def test_a_recorded_choice_that_no_longer_applies_is_named(trained_run: Path, moved: Path, tmp_path: Path) -> None:
    bundle = recorded(copy_run(trained_run, tmp_path / "run"), {"table": TABLE})
    reading = bundle.reading(DEFAULT, moved)
    assert check_folder((), moved, reading) is None
    (moved / TABLE).rename(moved / "renamed.csv")
    with pytest.raises(ConfigError, match=rf"no table {TABLE} \(recorded in the run\)"):
        check_folder((), moved, reading)
    assert len(read(moved, ReadOptions("renamed.csv")).samples) == 140


def test_the_plan_of_a_run_is_a_file_of_it(trained_run: Path, moved: Path, tmp_path: Path) -> None:
    image = read(moved).samples[0].path
    plan = to_text([PlanRow("leave out", image)])
    bundle = recorded(copy_run(trained_run, tmp_path / "run"), {"plan_sha256": "x"}, plan)
    reading = bundle.reading(DEFAULT, moved)
    assert reading.plan == bundle.root / PLAN
    assert image not in {sample.path for sample in read(moved, reading).samples}
    (moved / image).write_bytes(b"changed")
    plan = to_text([PlanRow("leave out", image, sha256="0" * 64)])
    (tmp_path / "plan.csv").write_text(plan)
    with pytest.raises(ConfigError, match=r"the plan \(recorded in the run\) cannot be applied"):
        read(moved, ReadOptions(plan=tmp_path / "plan.csv", recorded=True))


def test_a_packed_run_has_no_path_of_this_machine() -> None:
    training = {"config": {}, "data": {"reading": {"table": "/home/me/labels.csv", "columns": {"image": "photo"}}}}
    assert without_places(training)["data"]["reading"] == {"table": "labels.csv", "columns": {"image": "photo"}}
    relative = {"config": {}, "data": {"reading": {"table": "meta/labels.csv"}}}
    assert without_places(relative)["data"] == relative["data"]
