"""--table and --columns: what they choose, what they refuse, and which tables they leave alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import ConfigError, DataError
from skinedge.data.columns import parse_columns
from skinedge.data.read_options import ReadOptions
from skinedge.data.readers import read

LABELS = ["mel", "mel", "nv", "nv"]


def photos(root: Path) -> Path:
    for number in range(4):
        root.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 20, 90, 40)).save(root / f"p{number}.png")
    return root


def rows(path: Path, header: str, *columns: list[str]) -> None:
    lines = [",".join(cells) for cells in zip([f"p{number}" for number in range(4)], *columns, strict=True)]
    path.write_text("\n".join([header, *lines]) + "\n")


def chosen(root: Path, **options: object) -> list[tuple[str, str, str]]:
    dataset = read(root, ReadOptions(**options))  # type: ignore[arg-type]
    return [(sample.path, sample.label, sample.lesion_id) for sample in dataset.samples]


EXPECTED = [(f"p{number}.png", label, "") for number, label in enumerate(LABELS)]


def test_unknown_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(photos(tmp_path) / "t.csv", "photo,Finding (final),nr", LABELS, ["L1", "L1", "L2", "L3"])
    with pytest.raises(DataError, match=r"t\.csv \(columns photo, Finding \(final\), nr\) is not understood") as caught:
        read(tmp_path)
    assert "--table t.csv --columns image=COLUMN,label=COLUMN" in str(caught.value)
    columns = {"image": "photo", "label": "Finding (final)", "lesion": "nr"}
    found = chosen(tmp_path, table="t.csv", columns=columns)
    assert found == [(*row[:2], lesion) for row, lesion in zip(EXPECTED, ["L1", "L1", "L2", "L3"], strict=True)]
    assert "image photo; label finding_(final); lesion nr" in capsys.readouterr().err
    assert chosen(tmp_path, columns=columns) == found  # the table with these columns


def test_a_table_is_chosen_of_two(tmp_path: Path) -> None:
    rows(photos(tmp_path) / "a.csv", "image,label,lesion_id", LABELS, ["L1", "L1", "L2", "L3"])
    rows(tmp_path / "b.csv", "image,label", LABELS[::-1])
    with pytest.raises(DataError, match=r"several tables could be the labels: a\.csv, b\.csv") as caught:
        read(tmp_path)
    assert "--table a.csv" in str(caught.value)
    assert [label for _, label, _ in chosen(tmp_path, table="a.csv")] == LABELS
    other = chosen(tmp_path, table="b.csv")
    assert [label for _, label, _ in other] == LABELS[::-1]
    assert [lesion for _, _, lesion in other] == ["L1", "L1", "L2", "L3"]  # what else a.csv tells still counts


def test_a_named_label_chooses_between_tables(tmp_path: Path) -> None:
    rows(photos(tmp_path) / "a.csv", "image,label", LABELS[::-1])
    rows(tmp_path / "b.csv", "image,finding", LABELS)
    assert chosen(tmp_path, columns={"label": "finding"}) == EXPECTED


def test_a_one_hot_table_beside_a_table_of_labels_is_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    rows(photos(tmp_path) / "a.csv", "image,label", LABELS)
    rows(tmp_path / "b.csv", "image,MEL,NV", ["1", "1", "0", "0"], ["0", "0", "1", "1"])
    with pytest.raises(DataError, match=r"several tables could be the labels: a\.csv, b\.csv"):
        read(tmp_path)
    assert chosen(tmp_path, table="a.csv") == EXPECTED
    assert [label for _, label, _ in chosen(tmp_path, table="b.csv")] == ["MEL", "MEL", "NV", "NV"]


def test_the_images_of_a_one_hot_table_have_a_named_column(tmp_path: Path) -> None:
    rows(photos(tmp_path) / "t.csv", "photo,MEL,NV,sex", ["1", "1", "0", "0"], ["0", "0", "1", "1"], ["f"] * 4)
    found = read(tmp_path, ReadOptions(columns={"image": "photo"}))
    assert [sample.label for sample in found.samples] == ["MEL", "MEL", "NV", "NV"]
    assert found.samples[0].meta == {"sex": "f"}  # no class


def test_lesions_of_a_second_table_have_a_named_column(tmp_path: Path) -> None:
    rows(photos(tmp_path) / "labels.csv", "image,label", LABELS)
    rows(tmp_path / "visits.csv", "image,visit", ["v1", "v1", "v2", "v2"])
    found = chosen(tmp_path, columns={"patient": "visit"})
    assert [label for _, label, _ in found] == LABELS
    samples = read(tmp_path, ReadOptions(columns={"patient": "visit"})).samples
    assert [sample.patient_id for sample in samples] == ["v1", "v1", "v2", "v2"]


@pytest.mark.parametrize(("column", "role"), [("Patient number", "patient"), ("lesion nr", "lesion")])
def test_a_column_that_may_tell_patients_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, role: str
) -> None:
    rows(photos(tmp_path) / "t.csv", f"image,label,{column}", LABELS, ["a", "a", "b", "b"])
    read(tmp_path)
    assert f"not used: {column}; if {column} tells a {role}: --columns {role}={column}" in capsys.readouterr().err
    read(tmp_path, ReadOptions(columns={role: column}))
    assert "--columns" not in capsys.readouterr().err


def test_a_table_outside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "images")
    rows(tmp_path / "labels.csv", "image,label,lesion_id", LABELS, ["L1", "L1", "L2", "L3"])
    monkeypatch.chdir(tmp_path)
    for name in ("labels.csv", str(tmp_path / "labels.csv"), "../labels.csv"):
        assert [label for _, label, _ in chosen(root, table=name)] == LABELS
    located = ReadOptions("labels.csv").located(root)
    assert located.table == str((tmp_path / "labels.csv").resolve())
    rows(root / "labels.csv", "image,label", LABELS[::-1])
    with pytest.raises(ConfigError, match=r"labels\.csv names two tables"):
        read(root, ReadOptions("labels.csv"))
    assert ReadOptions("images/labels.csv").located(root).table == "labels.csv"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "none.csv"}, r"no table none\.csv"),
        ({"columns": {"image": "foto"}}, r"no table has a column 'foto', named as the image by --columns"),
        ({"table": "t.csv"}, r"t\.csv \(columns photo, finding\) has no known column for: image, label"),
        ({"columns": {"label": "finding"}}, r"has no known column for: image"),
        ({"table": "t.csv", "columns": {"image": "photo"}}, r"has no known column for: label"),
        ({"table": "t.csv", "recorded": True}, r"image, label \(recorded in the run\)"),
        ({"table": "gone.csv", "recorded": True}, r"no table gone\.csv \(recorded in the run\)"),
        ({"columns": {"label": "gone"}, "recorded": True}, r"no table has a column 'gone'.*\(recorded in the run\)"),
    ],
)
def test_options_that_do_not_fit_the_folder(tmp_path: Path, options: dict[str, object], message: str) -> None:
    for label in ("mel", "nv"):
        photos(tmp_path / label)
    rows(tmp_path / "t.csv", "photo,finding", LABELS)
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, ReadOptions(**options))  # type: ignore[arg-type]
    assert str(tmp_path) in str(caught.value)
    if "known" in message or "column" in message:
        assert "photo, finding" in str(caught.value) and "Roles: image, label, lesion, patient, sex" in str(
            caught.value
        )


def test_an_archive_has_no_tables(tmp_path: Path) -> None:
    import numpy as np

    arrays = {}
    for split in ("train", "val", "test"):
        arrays |= {f"{split}_images": np.zeros((2, 4, 4), np.uint8), f"{split}_labels": np.array([[0], [1]])}
    np.savez(tmp_path / "dermamnist.npz", **arrays)
    with pytest.raises(ConfigError, match="an archive has no tables"):
        read(tmp_path / "dermamnist.npz", ReadOptions(columns={"label": "x"}))


def test_columns_are_parsed() -> None:
    assert parse_columns("image=photo, label = Finding (a=b), final,sex=m/f") == {
        "image": "photo",
        "label": "Finding (a=b), final",
        "sex": "m/f",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image", "'image' is not ROLE=COLUMN"),
        ("image=", "'image=' is not ROLE=COLUMN"),
        ("", "'' is not ROLE=COLUMN"),
        ("foto=x", "unknown role in --columns: 'foto'"),
        ("image=a,image=b", "names the role 'image' twice"),
    ],
)
def test_columns_in_another_form(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_columns(text)
    assert caught.value.todo


def test_a_table_names_the_images_beside_it_first(tmp_path: Path) -> None:
    rows(photos(tmp_path / "b") / "t.csv", "image,label", LABELS)
    Image.new("RGB", (9, 9)).save(photos(tmp_path / "a") / "p1.png")  # another image of the same name
    table = tmp_path / "b" / "t.csv"
    table.write_text(table.read_text().replace("p1,", "p1.png,"))
    with pytest.raises(DataError, match=r"1 images have no row in b/t\.csv: a/p1\.png"):
        read(tmp_path)
