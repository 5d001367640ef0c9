"""A class folder instead of its parent, and a folder of several datasets, are named with the folder to give."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.data.readers import read


def write(root: Path, *paths: str) -> Path:
    """Write an image at each path."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number, 9, 99)).save(root / path)
    return root


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as error:
        read(root)
    return str(error.value)


def test_a_class_folder_is_not_taken_for_a_part_of_isic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "my data", *(f"{name}/ISIC_000000{i}.png" for i, name in enumerate(("mel", "nv", "mel"))))
    text = refusal(root / "mel")
    assert text == (
        f"{root / 'mel'}: looks like a single class, 'mel': its images lie directly in it (beside nv)\n"
        f"Give the parent folder, whose folders are the classes: '{root}'"
    )
    monkeypatch.chdir(root / "mel")
    assert f"classes: '{root}'" in refusal(Path())
    assert len(read(root).labels) == 2


def test_images_of_isic_in_another_folder_lack_their_table(tmp_path: Path) -> None:
    root = write(tmp_path / "images", "ISIC_0000001.png", "ISIC_0000002.png")
    assert "looks like images of the ISIC archive: metadata.csv" in refusal(root)


def test_a_folder_of_datasets_with_class_folders(tmp_path: Path) -> None:
    root = write(tmp_path, *(f"{top}/{name}/1.png" for top in ("clinic a", "b") for name in ("mel", "nv")))
    assert refusal(root) == (
        f"{root}: holds several datasets: b, clinic a\nGive one of them, for example: {root / 'b'}"
    )


def test_official_splits_are_one_dataset(tmp_path: Path) -> None:
    root = write(tmp_path, *(f"{top}/{name}/{top}.png" for top in ("train", "test") for name in ("mel", "nv")))
    assert {sample.split for sample in read(root).samples} == {"train", "test"}


def test_a_folder_of_datasets_with_tables(tmp_path: Path) -> None:
    root = write(tmp_path, "a/1.png", "b/2.png", "c/3.png")
    for name in ("a", "b", "d"):
        (root / name).mkdir(exist_ok=True)
        (root / name / "labels.csv").write_text(f"image,label\n{'ab'.find(name) + 1},mel\n")
    text = refusal(root)
    assert "holds several datasets: a, b, c, d" in text and f"{root / 'a'}; or: --table a/labels.csv" in text


def test_a_folder_of_a_similar_name_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "lesions").mkdir()
    with pytest.raises(DataError) as error:
        read(tmp_path / "lesion")
    assert error.value.todo == f"Did you mean {tmp_path / 'lesions'}?"
    with pytest.raises(DataError) as error:
        read(tmp_path / "other" / "lesion")
    assert error.value.todo == "Sample data: skinedge data synth OUT"
