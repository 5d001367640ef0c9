"""The DermaMNIST rows: the published splits, the report of their leak, and the printed row of a run."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments import targets
from skinedge.core.errors import ConfigError, DataError
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import Sample, read_split
from skinedge.data.readers import read
from skinedge.run.run_directory import Bundle

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


def write_table(folder: Path, out: Path) -> list[dict[str, str]]:
    """Write a table like dermamnist/split.csv for synthetic images: split by image, which leaks, and by lesion."""
    lesions: dict[str, int] = {}
    rows = []
    for index, sample in enumerate(sorted(read(folder).samples, key=lambda sample: sample.image_id)):
        number = lesions.setdefault(sample.lesion_id, len(lesions))
        rows.append(
            {
                "split": ("train", "train", "val", "test", "train")[index % 5],
                "index": str(index),
                "image_id": sample.image_id,
                "lesion_id": sample.lesion_id,
                "dx": sample.label,
                "label": "0",
                "lesion_free_split": ("train", "val", "test")[number % 3],
            }
        )
    write_rows(rows, out)
    return rows


def write_rows(rows: list[dict[str, str]], out: Path) -> None:
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, synthetic_images: Path) -> Path:
    out = tmp_path_factory.mktemp("table")
    write_table(synthetic_images, out / "table.csv")
    return out


def test_the_lesion_free_split_is_that_of_the_table_with_val_halved_by_lesion(
    synthetic_images: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = ["dermamnist", "--data", str(synthetic_images), "--table", str(folder / "table.csv")]
    out = tmp_path / "split.csv"
    assert targets.main([*arguments, "--split", "lesion-free", "--out", str(out)]) == 0
    samples = read_split(out)
    with (folder / "table.csv").open() as stream:
        expected = {row["image_id"]: row["lesion_free_split"] for row in csv.DictReader(stream)}
    assert {s.image_id: "val" if s.split == "cal" else s.split for s in samples} == expected
    splits_of_lesion = defaultdict(set)
    for sample in samples:
        splits_of_lesion[sample.lesion_id].add(sample.split)
    assert all(len(splits) == 1 for splits in splits_of_lesion.values())
    for label in {sample.label for sample in samples}:
        halves = Counter(sample.split for sample in samples if sample.label == label)
        assert halves["val"] and halves["cal"] and abs(halves["val"] - halves["cal"]) <= 3
    again = tmp_path / "again.csv"
    targets.main([*arguments, "--split", "lesion-free", "--out", str(again)])
    assert again.read_text() == out.read_text()
    targets.main([*arguments, "--split", "lesion-free", "--out", str(again), "--seed", "1"])
    assert again.read_text() != out.read_text()


def test_the_official_split_reports_its_leak(
    synthetic_images: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["dermamnist", "--split", "official", "--data", str(synthetic_images)]
    arguments += ["--table", str(folder / "table.csv"), "--out"]
    assert targets.main([*arguments, str(tmp_path / "official.csv")]) == 1
    assert "official-leaks.csv" in capsys.readouterr().err and not list(tmp_path.iterdir())
    out = tmp_path / "official-leaks.csv"
    assert targets.main([*arguments, str(out)]) == 0
    with (folder / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    trained = {row["lesion_id"] for row in rows if row["split"] == "train"}
    leaked = sum(row["split"] == "test" and row["lesion_id"] in trained for row in rows)
    assert leaked > 0 and f"LEAK: {leaked} test" in capsys.readouterr().err
    samples = read_split(out)
    assert {sample.lesion_id for sample in samples} == {""}
    assert {s.image_id for s in samples if s.split == "test"} == {r["image_id"] for r in rows if r["split"] == "test"}


def change(rows: list[dict[str, str]], **changes: str) -> list[dict[str, str]]:
    return [{**rows[0], **changes}, *rows[1:]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows[1:], "1 images are only in the table or only in the folder"),
        (lambda rows: change(rows, dx="vasc"), "is vasc of lesion .* in the table"),
        (lambda rows: change(rows, lesion_id="other"), "lesion other in the table"),
        (lambda rows: change(rows, lesion_free_split="dev"), r"unknown splits in the table: \['dev'\]"),
        (lambda rows: [*rows, rows[0]], "1 rows of the table repeat an image"),
        (lambda rows: [{k: v for k, v in row.items() if k != "dx"} for row in rows], "needs the columns dx"),
    ],
)
def test_a_table_that_does_not_match_is_refused(
    synthetic_images: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    rows = write_table(synthetic_images, tmp_path / "table.csv")
    write_rows(damage(rows), tmp_path / "table.csv")
    with pytest.raises(DataError, match=message):
        targets.dermamnist.build("lesion-free", synthetic_images, tmp_path / "table.csv", tmp_path / "split.csv")
    assert not (tmp_path / "split.csv").exists()


def test_a_leak_under_the_lesion_free_name_is_an_error(synthetic_images: Path, tmp_path: Path) -> None:
    rows = write_table(synthetic_images, tmp_path / "table.csv")
    write_rows([{**row, "lesion_free_split": row["split"]} for row in rows], tmp_path / "table.csv")
    with pytest.raises(DataError, match="in two splits"):
        targets.dermamnist.build("lesion-free", synthetic_images, tmp_path / "table.csv", tmp_path / "split.csv")
    with pytest.raises(ConfigError, match="must contain 'leaks'"):
        targets.dermamnist.build("official", synthetic_images, tmp_path / "table.csv", tmp_path / "split.csv")


def test_the_real_table_has_the_published_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, table = SHARED_DATA / "ham10000_200x150", SHARED_DATA / "dermamnist" / "split.csv"
    if not (data.is_dir() and table.is_file()):
        pytest.skip(f"HAM10000 is not at {data}")
    free = targets.dermamnist.build("lesion-free", data, table, tmp_path / "free.csv")
    official = targets.dermamnist.build("official", data, table, tmp_path / "leaks.csv")
    notes = capsys.readouterr().err

    def count(samples: tuple[Sample, ...]) -> tuple[int, int, int]:
        sizes = Counter(sample.split for sample in samples)
        return sizes["train"], sizes["val"] + sizes["cal"], sizes["test"]

    assert count(free) == (8208, 575, 1232) and count(official) == (7007, 1003, 2005)
    leaks = [int(word) for word in notes.partition("LEAK:")[2].partition("show")[0].split() if word.isdecimal()]
    assert leaks[0] == 693 and sum(leaks[1:]) == 348


def test_prepare_crops_the_square_of_dermamnist() -> None:
    """The box (25, 0, 175, 150): exact at 150; at 144 except for the outermost pixels; within one pixel at 128.

    Each pixel's value is the number of its column, 0 to 199.
    """
    columns = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (150, 1, 3))
    assert (prepare(columns, 150) == columns[:, 25:175]).all()
    cut = np.asarray(Image.fromarray(columns[:, 25:175]).resize((144, 144), Image.Resampling.BILINEAR))
    assert (prepare(columns, 144)[:, 1:-1] == cut[:, 1:-1]).all()
    cut = np.asarray(Image.fromarray(columns[:, 25:175]).resize((128, 128), Image.Resampling.BILINEAR))
    assert np.abs(prepare(columns, 128).astype(int) - cut).max() <= 1


def test_a_row_is_one_command_and_resumes_after_an_interruption(
    tinted: Path,
    tiny: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also: the evaluation counts the leak, which training does not see."""
    out = tmp_path / "official"
    rows = write_table(tinted, tmp_path / "table.csv")
    command = ["dermamnist-official", "--data", str(tinted), "--table", str(tmp_path / "table.csv")]
    command += ["--config", str(tiny), "--out", str(out), "--prior", "training"]
    assert targets.main(command) == 0
    shown = capfd.readouterr().out
    document = json.loads((tmp_path / "official.json").read_text())
    evaluation, bundle = document["evaluation"], Bundle.open(out)
    trained = {row["lesion_id"] for row in rows if row["split"] == "train"}
    test = [row for row in rows if row["split"] == "test"]
    leaked = sum(row["lesion_id"] in trained for row in test)
    assert evaluation["file"] == "model.int8.tflite" and evaluation["n"] == len(test)
    assert evaluation["contaminated"] == leaked and f"LEAK: {leaked} of them" in shown
    assert evaluation["bootstrap"]["unit"] == "lesion"
    assert evaluation["bootstrap"]["units"] == len({row["lesion_id"] for row in test})
    for name, least in (("accuracy", 0.85), ("macro_auc_training_prior", 0.968)):
        target = document["targets"][name]
        assert target == {"least": least, "reached": evaluation[name] >= least}
        low, high = evaluation["intervals"][name]
        assert f"{evaluation[name]:.4f}" in shown and f"{low:.4f} to {high:.4f}" in shown
    assert document["training_seconds"] == bundle.manifest.training["seconds"] and document["seed"] == 0
    assert document["calibrated_for"] == "training" and evaluation["class_prior"] == evaluation["training_prior"]
    assert "MISSED" not in shown and shown.count("reached") == 2  # the tints are easily told apart
    assert "Parity" not in shown and "seed 0, trained" in shown

    before = (out / "model.int8.tflite").stat().st_mtime_ns
    assert targets.main(command) == 0
    assert capfd.readouterr().out == shown and (out / "model.int8.tflite").stat().st_mtime_ns == before
    assert targets.main([*command, "--seed", "1"]) == 1  # another split: this run is not evaluated on it
    assert "other settings: seed" in capfd.readouterr().err
