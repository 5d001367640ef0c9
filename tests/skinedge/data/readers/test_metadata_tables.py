"""Sex, age and site of an image, from tables with different column names."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from skinedge.data.dataset import Dataset
from skinedge.data.hashing import hash_images
from skinedge.data.readers import read

COLUMNS = ("isic_id", "sex", "age_approx", "anatom_site_general", "lesion_id")
ROWS = [("ISIC_0000001", "male", "55", "anterior torso", "IL_1"), ("ISIC_0000002", "", "", "head/neck", "")]


def table(path: Path, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


def pictures(root: Path, labels: tuple[str, str]) -> None:
    for index, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        pixels = np.random.default_rng(index).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / label / f"ISIC_000000{index + 1}.png")


def metadata(dataset: Dataset) -> dict[str, dict[str, str]]:
    return {sample.image_id: dict(sample.meta) for sample in dataset.samples}


EXPECTED = {"ISIC_0000001": {"sex": "male", "age": "55", "site": "anterior torso"}}
EXPECTED["ISIC_0000002"] = {"site": "head/neck"}


def test_class_folders_with_the_isic_archives_table(tmp_path: Path) -> None:
    pictures(tmp_path, ("mel", "nv"))
    table(tmp_path / "metadata.csv", COLUMNS, ROWS)
    dataset = read(tmp_path)
    assert dataset.kind == "class folders" and metadata(dataset) == EXPECTED
    assert [sample.lesion_id for sample in dataset.samples] == ["IL_1", ""]
    assert metadata(hash_images(dataset)) == EXPECTED


def test_an_isic_challenge_with_its_metadata(tmp_path: Path) -> None:
    pictures(tmp_path, ("x", "y"))
    table(
        tmp_path / "GroundTruth.csv", ("image", "MEL", "NV"), [("ISIC_0000001", "1", "0"), ("ISIC_0000002", "0", "1")]
    )
    table(tmp_path / "Metadata.csv", ("image", *COLUMNS[1:]), ROWS)
    dataset = read(tmp_path)
    assert dataset.kind == "ISIC challenge" and metadata(dataset) == EXPECTED


def test_without_a_metadata_table_there_is_no_metadata(tmp_path: Path) -> None:
    pictures(tmp_path, ("mel", "nv"))
    table(tmp_path / "prices.csv", ("thing", "sex", "age"), [("ISIC_0000001", "male", "1")])  # not about images
    assert metadata(read(tmp_path)) == {"ISIC_0000001": {}, "ISIC_0000002": {}}
