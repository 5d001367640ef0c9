"""skinedge backbones, init and runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from skinedge.cli import app
from skinedge.cli.predict import check_out
from skinedge.core.errors import ConfigError, DataError
from skinedge.data.csv_cells import from_cell
from skinedge.network import backbones, model
from skinedge.network.int8_risks import int8_risks
from skinedge.publish import bundled_model
from skinedge.run.config import TrainConfig, load_config
from skinedge.training.history import history_csv
from skinedge_bench.predict.csv_table import to_csv
from skinedge_bench.predict.predict import Prediction


@pytest.mark.parametrize("backbone", backbones.BACKBONES, ids=lambda backbone: backbone.name)
def test_backbones_are_as_listed(backbone: backbones.Backbone) -> None:
    network = model.build(backbone.name, 7)
    assert sum(parameter.numel() for parameter in network.parameters()) == backbone.parameters
    assert network.pretrained_cfg["input_size"][1] == backbone.image_size
    risks = [risk.partition(":")[0].partition(" (")[0] for risk in int8_risks(network)]
    assert sorted(filter(None, backbone.risk.split(", "))) == sorted(risks)


def test_the_list_of_backbones() -> None:
    listed = json.loads(CliRunner().invoke(app, ["backbones", "--json"]).stdout)["backbones"]
    assert {row["name"]: row["weights"] for row in listed}["tf_efficientnet_lite0"] == "offline"
    assert re.search(r"tf_efficientnet_lite0 +│ offline", CliRunner().invoke(app, ["backbones"]).stdout)


def test_the_settings_file_has_every_default(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    assert CliRunner().invoke(app, ["init", str(file)]).exit_code == 0
    assert load_config(file) == TrainConfig()
    text = file.read_text()
    uncommented = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    file.write_text(uncommented)
    assert load_config(file) == TrainConfig(limit=2000, domain="dermoscopic", license="CC-BY-4.0")
    assert max(map(len, text.splitlines())) <= 120 and "# rank, alpha: the update" in text
    refused = CliRunner().invoke(app, ["init", str(file)])
    assert isinstance(refused.exception, ConfigError) and file.read_text() == uncommented
    assert CliRunner().invoke(app, ["init", str(file), "--force"]).exit_code == 0 and file.read_text() == text


def test_runs_are_listed_and_compared(trained_run: Path) -> None:
    (listed,) = json.loads(CliRunner().invoke(app, ["runs", str(trained_run.parent), "--json"]).stdout)["runs"]
    assert (listed["run"], listed["classes"], listed["images"]) == (str(trained_run), 7, 140)
    assert 0 <= float(listed["bal. acc."]) <= 1
    both = CliRunner().invoke(app, ["runs", str(trained_run), str(trained_run)]).stdout
    assert "tf_efficientnet_lite0" in both and "lora.rank" not in both  # no setting differs


def test_a_folder_without_runs(tmp_path: Path) -> None:
    assert "no run in this folder" in str(CliRunner().invoke(app, ["runs", str(tmp_path)]).exception)


def test_predictions_as_csv() -> None:
    labels = ("=mel", "nv")
    row = np.array([0.25, 0.75], np.float32)
    predictions = [
        Prediction("@SUM(1,2).jpg", row, 0.25, labels=labels, threshold=0.2),
        Prediction("b.jpg", error=DataError("not an image")),
    ]
    first, second = csv.DictReader(to_csv(predictions, labels).splitlines())
    assert first["image"] == "'@SUM(1,2).jpg" and from_cell(first["image"]) == "@SUM(1,2).jpg"
    assert (first["label"], first["probability"], first["flagged"]) == ("nv", "0.75", "yes")
    assert (first["p_=mel"], first["p_nv"], first["error"]) == ("0.25", "0.75", "")
    assert (second["label"], second["flagged"], second["error"], second["p_nv"]) == ("", "", "not an image", "")


@pytest.mark.skipif(not bundled_model.FOLDER.is_dir(), reason="no bundled model here")
def test_a_json_file_holds_what_json_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(bundled_model.VARIABLE, str(bundled_model.FOLDER))
    Image.new("RGB", (40, 40), (200, 150, 120)).save("a.png")
    Path("b.png").write_text("no image")
    printed = CliRunner().invoke(app, ["predict", "a.png", "b.png", "--json", "--jobs", "1"])
    written = CliRunner().invoke(app, ["predict", "a.png", "b.png", "--out", "x.json", "--jobs", "1"])
    documents = [json.loads(line) for line in printed.stdout.splitlines()]
    assert printed.exit_code == written.exit_code == 1 and written.stdout == ""  # b.png
    assert json.loads(Path("x.json").read_text()) == documents and len(documents) == 2
    assert "b.png" in documents[1]["image"] and "error" in documents[1]


def test_the_format_of_predictions(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("mine")
    assert (
        check_out(tmp_path / "x.CSV", False)
        and check_out(tmp_path / "x.json", False)
        and not check_out(tmp_path / "x.jsonl", True)
    )
    for name, resume, message in (
        ("x.txt", False, "unknown suffix '.txt'"), ("x", False, "unknown suffix ''"),
        ("x.csv", True, "--resume requires a .jsonl"), ("x.json", True, "a .json file is written at the end"),
        ("there.csv", False, "exists already"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            check_out(tmp_path / name, resume)


def test_the_log_of_a_training() -> None:
    text = history_csv([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_macro_auc": 0.9}])
    assert text == "epoch,loss,val_macro_auc\n1,0.5,\n2,0.25,0.9\n"
