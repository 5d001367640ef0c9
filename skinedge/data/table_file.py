"""Tables beside the images: CSV and TSV files of any dialect, and JSON lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import DataError, SkinedgeError
from skinedge.core.files import read_regular
from skinedge.core.json_io import parse_json

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab"})
# Tables without such a suffix: of Hugging Face's imagefolder (other JSON lines are no labels), and of HAM10000.
_NAMED = frozenset({"metadata.jsonl", "ham10000_metadata"})
SPREADSHEETS = frozenset({".xlsx", ".xls", ".ods", ".numbers", ".parquet"})
TABLE_BYTES = 512 << 20
HEADER_BYTES = 64 << 10
DELIMITERS = ",;\t|"
_PROBED = 50  # rows that decide the delimiter
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # which Excel reads and writes
Row = tuple[int, list[str]]  # number of its line, cells


@dataclass(frozen=True)
class Table:
    """One table.

    name: relative to the data root; columns: names as written, stripped; rows: folded column name (`fold_column`) ->
    stripped value, '' where the row is shorter, blank rows left out; guesses: what was assumed to read the file, e.g.
    'delimiter ;', empty for a comma-separated UTF-8 file; lines: number of each row's line in the file, from 1.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    guesses: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()

    def line(self, row: int) -> int:
        """Return the number of the line of a row, from 1."""
        return self.lines[row] if self.lines else row + 2

    def has(self, *columns: str) -> bool:
        """Return True if the table has all of these columns."""
        return set(columns) <= {fold_column(column) for column in self.columns}

    def describe(self, most: int = 12) -> str:
        """Return the name with the columns, for messages: 'labels.csv (columns image, dx)'. most: columns to name."""
        shown = ", ".join(self.columns[:most]) + (", ..." if len(self.columns) > most else "")
        return f"{self.name} (columns {shown})" if self.columns else f"{self.name} (empty)"


def is_table(name: str) -> bool:
    """Return True if a file is read as a table, by its name."""
    return Path(name).suffix.lower() in TABLE_SUFFIXES or name.lower() in _NAMED


def fold_column(name: str) -> str:
    """Fold a column name: case, surrounding spaces, and spaces and hyphens for underscores do not count."""
    return re.sub(r"[\s\-]+", "_", name.strip().casefold())


def read_table(root: Path, name: str) -> Table:
    """Read root/name.

    The encoding (UTF-8, UTF-16, else Windows-1252) and the delimiter (comma, semicolon, tab, bar) are recognized.
    Raises: DataError for a file that cannot be read, two columns of one name, or a row longer than the header.
    """
    path = root / name
    return _parsed(name, path, *_decode(read_regular(path, TABLE_BYTES, DataError), str(path)))


def read_header(root: Path, name: str) -> Table:
    """Read the columns and the first rows of root/name, at most HEADER_BYTES. Raises: DataError as `read_table`."""
    path = root / name
    try:
        with path.open("rb") as stream:
            content = stream.read(HEADER_BYTES)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(path)) from None
    text, encoding = _decode(content, str(path), complete=False)
    end = max(text.rfind("\n"), text.rfind("\r"))
    if len(content) < HEADER_BYTES or end < 0:
        return read_table(root, name)
    return _parsed(name, path, text[: end + 1], encoding)


def _parsed(name: str, path: Path, text: str, encoding: str) -> Table:
    if path.suffix.lower() == ".jsonl":
        columns, rows, guesses = _json_lines(text, str(path))
    else:
        columns, rows, guesses = _delimited(text, path)
    folded = [fold_column(column) for column in columns]
    twice = [column for column, count in Counter(folded).items() if count > 1]
    if twice:
        raise DataError(f"two columns are named '{twice[0]}'", where=str(path))
    cells = tuple(dict(zip(folded, row, strict=True)) for _, row in rows)
    guesses = [*([encoding] if encoding else []), *guesses]
    return Table(name, tuple(columns), cells, tuple(guesses), tuple(line for line, _ in rows))


def _decode(content: bytes, where: str, *, complete: bool = True) -> tuple[str, str]:
    """Return the text and, where it is not UTF-8, the encoding's name. complete: False for the start of a file."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "UTF-16"
    elif (zeros := content[:4096].count(0)) and zeros > len(content[:4096]) // 4:
        encoding = "UTF-16-LE" if content[1:2] == b"\0" else "UTF-16-BE"
    else:
        encoding = "UTF-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(content, complete)
        return text, "" if encoding == "UTF-8-sig" else encoding
    except UnicodeDecodeError as error:
        if encoding != "UTF-8-sig":
            raise DataError(f"unreadable table ({error})", where=where) from None
    try:
        return content.decode("cp1252"), "encoding Windows-1252"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "encoding Latin-1"


def _delimited(text: str, path: Path) -> tuple[list[str], list[Row], list[str]]:
    marked = _SEPARATOR_LINE.match(text)
    first = 2 if marked else 1
    if marked:
        text, delimiter = text[marked.end() :], marked[1]
    else:
        delimiter = _find_delimiter(text)
    lines: list[Row] = []
    reader, number = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), first
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            lines += [(number, cells)] if any(cells) else []
            number = first + reader.line_num
    except csv.Error as error:
        raise DataError(f"unreadable table ({error})", where=str(path)) from None
    if not lines:
        return [], [], []
    (_, columns), *rows = lines
    filled = max((number for _, row in rows for number, cell in enumerate(row, 1) if cell), default=0)
    while len(columns) > filled and not columns[-1]:
        columns.pop()
    for number, row in rows:
        if any(row[len(columns) :]):
            raise DataError(f"line {number} has more cells than the header", where=str(path))
    rows = [(number, (row + [""] * len(columns))[: len(columns)]) for number, row in rows]
    named = {";": "delimiter ;", "\t": "delimiter tab", "|": "delimiter |", ",": ""}.get(delimiter, delimiter)
    return columns, rows, [named] if named else []


def _find_delimiter(text: str) -> str:
    """Return the delimiter that gives the most columns to the same number of cells in nearly all of the first rows."""
    head = "".join(text.splitlines(keepends=True)[: _PROBED + 1])

    def columns(delimiter: str) -> tuple[float, int]:
        try:
            rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if any(row)]
        except csv.Error:
            return 0.0, 0
        if not rows or len(rows[0]) < 2:
            return 0.0, 0
        alike = sum(len(row) == len(rows[0]) for row in rows) / len(rows)
        return round(alike, 1), len(rows[0])

    return max(DELIMITERS, key=columns)


def _json_lines(text: str, where: str) -> tuple[list[str], list[Row], list[str]]:
    rows: list[tuple[int, dict[str, object]]] = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        try:
            rows.append((number, parse_json(line.encode(), dict[str, object], f"{where}, line {number}")))
        except SkinedgeError as error:
            raise DataError(f"unreadable table ({error.args[0]})", where=f"{where}, line {number}") from None
    columns = list(dict.fromkeys(column for _, row in rows for column in row))
    return columns, [(number, [_cell(row.get(column)) for column in columns]) for number, row in rows], []


def _cell(value: object) -> str:
    return "" if value is None else str(value).strip()


def first_value(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """Return the first non-empty value of these (folded) columns, '' without one."""
    return next((row[column] for column in columns if row.get(column)), "")
