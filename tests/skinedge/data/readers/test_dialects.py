"""The same table in every dialect that programs write is the same dataset, or an error that names the file."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset
from skinedge.data.readers import read
from skinedge.data.table_file import read_table

Rows = list[list[str]]
HAM: Rows = [["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]] + [
    [f"HAM_{k // 2}", f"ISIC_002430{k}", "nv" if k > 3 else "mel", "histo", "80.0", "male", "back"] for k in range(8)
]
PAD: Rows = [["patient_id", "lesion_id", "age", "gender", "region", "diagnostic", "img_id", "fitspatrick"]] + [
    [f"PAT_{k // 4}", f"{k // 2}", "55", "FEMALE", "ARM", "NEV" if k > 3 else "MEL", f"PAT_{k}_1.png", "2.0"]
    for k in range(8)
]
ONE_HOT: Rows = [["image", "MEL", "NV", "BCC"]] + [
    [f"ISIC_002430{k}", str(float(k < 4)), str(float(k >= 4)), "0.0"] for k in range(8)
]
PLAIN: Rows = [["file", "class"], *([f"photo {k}.jpg", "Nävus" if k > 3 else "Melanom, früh"] for k in range(8))]
TABLES = {"HAM10000": HAM, "PAD-UFES-20": PAD, "one-hot": ONE_HOT, "plain": PLAIN}
IMAGE_COLUMN = {"HAM10000": 1, "PAD-UFES-20": 6, "one-hot": 0, "plain": 0}


def as_text(rows: Rows, delimiter: str = ",", line: str = "\n", quoting: int = csv.QUOTE_MINIMAL) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=line, quoting=quoting).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


def folder_of(root: Path, rows: Rows, column: int, content: bytes, name: str = "table.csv") -> Path:
    """A folder with the table's images, and the table as these bytes."""
    (root / "images").mkdir(parents=True)
    for number, row in enumerate(rows[1:]):
        stem = row[column].rpartition(".")[0] or row[column]
        Image.new("RGB", (8, 8), (number * 20, 90, 40)).save(root / "images" / f"{stem}.png")
    (root / name).write_bytes(content)
    return root


def comparable(dataset: Dataset) -> tuple[object, ...]:
    return (dataset.kind, dataset.domain, dataset.labels, dataset.samples)


def suffixed(rows: Rows, column: int) -> Rows:
    return [rows[0]] + [
        [c if k != column or c.endswith((".png", ".jpg")) else f"{c}.jpg" for k, c in enumerate(r)] for r in rows[1:]
    ]


def in_folder(rows: Rows, column: int) -> Rows:
    return [rows[0]] + [[f"images\\{c}" if k == column else c for k, c in enumerate(r)] for r in rows[1:]]


MUTATIONS: dict[str, Callable[[Rows, int], bytes]] = {
    "semicolons": lambda rows, _: as_text(rows, ";").encode(),
    "tabs": lambda rows, _: as_text(rows, "\t").encode(),
    "bars": lambda rows, _: as_text(rows, "|").encode(),
    "Excel's sep line": lambda rows, _: b"sep=;\r\n" + as_text(rows, ";", "\r\n").encode(),
    "byte order mark": lambda rows, _: as_text(rows).encode("utf-8-sig"),
    "UTF-16": lambda rows, _: as_text(rows, "\t").encode("utf-16"),
    "UTF-16 without a mark": lambda rows, _: as_text(rows).encode("utf-16-le"),
    "Windows-1252": lambda rows, _: as_text(rows).encode("cp1252"),
    "CRLF, all quoted": lambda rows, _: as_text(rows, line="\r\n", quoting=csv.QUOTE_ALL).encode(),
    "old Mac line ends": lambda rows, _: as_text(rows, line="\r").encode(),
    "spaces": lambda rows, _: as_text([[f" {cell}  " for cell in row] for row in rows]).encode(),
    "upper-case header": lambda rows, _: as_text([[c.upper() for c in rows[0]], *rows[1:]]).encode(),
    "blank rows": lambda rows, _: as_text([*rows[:2], [""] * len(rows[0]), *rows[2:], []]).encode(),
    "further columns": lambda rows, _: as_text(
        [[*r, "note" if k == 0 else "a; b"] for k, r in enumerate(rows)]
    ).encode(),
    "rows repeated": lambda rows, _: as_text([*rows, *rows[1:3]]).encode(),
    "ids with suffix": lambda rows, column: as_text(suffixed(rows, column)).encode(),
    "ids with folder": lambda rows, column: as_text(in_folder(rows, column)).encode(),
}
NO_FURTHER = {"one-hot"}  # where a further column would be a class


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("table", TABLES)
def test_a_dialect_changes_nothing(tmp_path: Path, table: str, mutation: str) -> None:
    rows, column = TABLES[table], IMAGE_COLUMN[table]
    good = read(folder_of(tmp_path / "good", rows, column, as_text(rows).encode()))
    if mutation == "upper-case header" and table == "one-hot":
        pytest.skip("the header holds the class names")
    changed = folder_of(tmp_path / "changed", rows, column, MUTATIONS[mutation](rows, column))
    if mutation == "further columns" and table in NO_FURTHER:
        with pytest.raises(DataError, match=r"no class folder|table"):
            read(changed)
        return
    assert comparable(read(changed)) == comparable(good)
    assert len(good.labels) == 2 and len(good.samples) == 8


@pytest.mark.parametrize("seed", range(40))
def test_several_mutations_at_once_change_nothing_or_name_the_file(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage is an error that names the table, never another dataset."""
    rng = random.Random(seed)
    table = rng.choice(list(TABLES))
    rows, column = TABLES[table], IMAGE_COLUMN[table]
    good = read(folder_of(tmp_path / "good", rows, column, as_text(rows).encode()))
    content = bytearray(
        as_text(rows, rng.choice(",;\t|"), rng.choice(["\n", "\r\n"])).encode(rng.choice(["utf-8", "utf-16"]))
    )
    for _ in range(rng.randrange(3)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    changed = folder_of(tmp_path / "changed", rows, column, bytes(content))
    try:
        found = read(changed)
    except DataError as error:
        assert "table.csv" in str(error) or str(changed) in str(error)
        return
    groups = {sample.path: (sample.lesion_id, sample.patient_id) for sample in good.samples}
    assert [sample.path for sample in found.samples] == [sample.path for sample in good.samples]
    changed_cells = [sample for sample in found.samples if (sample.lesion_id, sample.patient_id) != groups[sample.path]]
    damaged_header = "not used" in capsys.readouterr().err.rpartition("table table.csv")[2]
    assert len(changed_cells) <= 4 or damaged_header  # two damaged cells name another lesion of at most four images


def respelt(rng: random.Random, rows: Rows, column: int, *, one_hot: bool) -> Rows:
    """Change what must not count: order, case, spaces, suffixes, folders, blank and repeated rows, further columns."""
    header, *body = [list(row) for row in rows]
    rng.shuffle(body)
    body += rng.sample(body, rng.randrange(4))
    if rng.random() < 0.5:
        body = rng.choice((suffixed, in_folder))([header, *body], column)[1:]
    if not one_hot:
        header = [
            rng.choice((str.upper, str.title, str.lower))(name).replace("_", rng.choice("_- ")) for name in header
        ]
    if not one_hot and rng.random() < 0.5:
        header, body = ["", *header, "remark"], [[str(k), *row, 'said "so"; \n twice'] for k, row in enumerate(body)]
    pad = rng.choice(("", " ", "  "))
    spaced = [[f"{pad}{cell}{pad}" for cell in row] for row in (header, *body)]
    for _ in range(rng.randrange(3)):
        spaced.insert(rng.randrange(1, len(spaced) + 1), [pad] * rng.choice((1, len(header))))
    return spaced


def encoded(rng: random.Random, rows: Rows) -> tuple[bytes, str]:
    """Return the table as a program may write it, and the suffix of its file."""
    delimiter = rng.choice(",;\t|")
    line, quoting = rng.choice(("\n", "\r\n", "\r")), rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    text = as_text(rows, delimiter, line, quoting)
    mark = f"sep={delimiter}\r\n" if rng.random() < 0.2 else ""
    encoding = rng.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"))
    return (mark + text).encode(encoding), rng.choice((".csv", ".CSV", ".tsv"))


@pytest.mark.parametrize("seed", range(60))
def test_any_spelling_in_any_dialect_is_the_same_dataset(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    table = rng.choice(list(TABLES))
    rows, column = TABLES[table], IMAGE_COLUMN[table]
    good = read(folder_of(tmp_path / "good", rows, column, as_text(rows).encode()))
    content, suffix = encoded(rng, respelt(rng, rows, column, one_hot=table == "one-hot"))
    assert comparable(read(folder_of(tmp_path / "changed", rows, column, content, f"table{suffix}"))) == comparable(
        good
    )


DAMAGES: dict[str, Callable[[Rows, int], Rows]] = {
    "rows missing": lambda rows, column: rows[:-2],
    "a further row": lambda rows, column: [*rows, [f"{c}9" if k == column else c for k, c in enumerate(rows[-1])]],
    "a wrong table": lambda rows, column: [
        rows[0],
        *([f"other{n}" if k == column else c for k, c in enumerate(row)] for n, row in enumerate(rows[1:])),
    ],
    "two rows for an image": lambda rows, column: [
        *rows,
        [c if k == column else d for k, (c, d) in enumerate(zip(rows[1], rows[8], strict=True))],
    ],
    "rows without an image": lambda rows, column: [*rows, ["" if k == column else c for k, c in enumerate(rows[1])]],
}


@pytest.mark.parametrize("damage", [*DAMAGES, "two tables"])
@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_does_not_fit_the_images_is_named(tmp_path: Path, table: str, damage: str) -> None:
    rng = random.Random(f"{table} {damage}")
    rows, column = TABLES[table], IMAGE_COLUMN[table]
    changed = DAMAGES.get(damage, lambda rows, column: rows)(rows, column)
    content, suffix = encoded(rng, respelt(rng, changed, column, one_hot=table == "one-hot"))
    root = folder_of(tmp_path, rows, column, content, f"table{suffix}")
    if damage == "two tables":
        (root / "second.csv").write_bytes(as_text(rows, rng.choice(",;")).encode())
    with pytest.raises(DataError) as caught:
        read(root)
    assert f"table{suffix}" in str(caught.value) and caught.value.todo


def test_what_was_guessed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(folder_of(tmp_path, HAM, 1, as_text(HAM, ";").encode("utf-16")))
    line = "table table.csv: image image_id; label dx; lesion lesion_id; sex sex; age age; site localization; "
    assert f"{line}confirmed_by dx_type; read with UTF-16, delimiter ;" in capsys.readouterr().err


def test_a_table_that_is_not_understood_is_named_with_its_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder_of(tmp_path, HAM, 1, as_text(HAM).encode())
    (root / "visits.csv").write_text("visit;doctor\n1;x\n")
    (root / "labels.xlsx").write_bytes(b"PK")
    read(root)
    err = capsys.readouterr().err
    assert "not understood, and not used: visits.csv (columns visit, doctor)" in err and "not read: labels.xlsx" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image_id,dx\na,b,c\n", "line 2 has more cells than the header"),
        (b"image_id,Image ID\na,b\n", "two columns are named 'image_id'"),
        (b"\xff\xfea", "unreadable table"),
    ],
)
def test_a_broken_table_beside_class_folders_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    for label in ("mel", "nv"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / f"{label}1.png")
    (tmp_path / "meta.csv").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path)
    assert "meta.csv" in str(caught.value)


@pytest.mark.parametrize("rows", [[], [["image_id"]], [["image_id", "dx"]]])
def test_a_table_without_rows(tmp_path: Path, rows: Sequence[Sequence[str]]) -> None:
    (tmp_path / "t.csv").write_text("\n".join(",".join(row) for row in rows))
    assert read_table(tmp_path, "t.csv").rows == ()
