"""The header of a long table is read without the rest; a row is known by its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from skinedge.core.errors import DataError
from skinedge.data.folder import list_folder
from skinedge.data.readers import class_folders, read
from skinedge.data.readers.contents import Contents
from skinedge.data.table_file import HEADER_BYTES, read_header, read_table

ROWS = [f"bild{number};läsion {number}" for number in range(9000)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_the_header_of_a_long_table(tmp_path: Path, encoding: str) -> None:
    for first in range(4):  # the end of what is read falls on every byte of a character
        text = "\n".join(["Image;Läsion" + "x" * first, *ROWS])
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        assert (tmp_path / "t.csv").stat().st_size > 2 * HEADER_BYTES
        header, table = read_header(tmp_path, "t.csv"), read_table(tmp_path, "t.csv")
        assert (header.columns, header.guesses) == (table.columns, table.guesses)
        assert 0 < len(header.rows) < len(table.rows) == 9000
        assert header.rows == table.rows[: len(header.rows)]


def test_a_short_table_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"file_name": "a\u2028b"}\n\n{"file_name": "c", "label": "mel"}')
    for table in (read_header(tmp_path, "t.jsonl"), read_table(tmp_path, "t.jsonl")):
        assert [row["file_name"] for row in table.rows] == ["a\u2028b", "c"] and table.lines == (1, 3)
    with pytest.raises(DataError, match="cannot be read"):
        read_header(tmp_path, "none.csv")


def test_the_rows_of_a_table_of_pixels_are_not_read(tmp_path: Path) -> None:
    """Kaggle's HAM10000 has tables of pixels with 23 million cells."""
    (tmp_path / "a.png").touch()
    columns = [f"pixel{number}" for number in range(784)]
    (tmp_path / "pixels.csv").write_text(",".join([*columns, "label"]) + "\n" + (",".join(["7"] * 785) + "\n") * 200)
    (tmp_path / "labels.csv").write_text("image,label\n" + "a,mel\n" * 20000)
    contents = Contents.of(list_folder(tmp_path))
    labels, pixels = contents.tables
    assert len(labels.rows) == 20000 and 0 < len(pixels.rows) < 200
    assert contents.label_tables == (labels,) and not contents.is_understood(pixels)


def test_lines_count_blank_rows_line_breaks_in_cells_and_excels_first_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('sep=;\nimage;note\n\na;"two\nlines"\n;\nb;x\n')
    assert read_table(tmp_path, "t.csv").lines == (4, 7)
    (tmp_path / "t.csv").write_text('image,note\n\n\na,"two\nlines"\nb,x,y\n')
    with pytest.raises(DataError, match="line 6 has more cells than the header"):
        read_table(tmp_path, "t.csv")


@pytest.mark.parametrize(("column", "found"), [("lesion_id", True), ("weather", False)])
def test_only_a_table_of_lesions_above_the_folder_is_read_whole(
    tmp_path: Path, column: str, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is in the last row."""
    for label in ("mel", "nv"):
        (tmp_path / "images" / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "images" / label / f"{label}1.png")
    rows = [f"image,{column}", *(f"x{number},HAM_{number}" for number in range(9000))]
    (tmp_path / "t.csv").write_text("\n".join([*rows, "mel1,HAM_1"]))
    if not found:
        monkeypatch.setattr(class_folders, "read_table", lambda *_: pytest.fail("read whole"))
        assert len(read(tmp_path / "images").samples) == 2
        return
    with pytest.raises(DataError, match=r"in the parent folder contain .*: t\.csv \(lesion_id\)"):
        read(tmp_path / "images")
