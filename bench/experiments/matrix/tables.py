"""Each dataset's tables as other programs write them: the same dataset, or an error that names the table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from experiments.fuzz.case import Outcome
from experiments.matrix.cell import Cell, Expected, Plan, nothing_wrong, one_line, shown, works, works_or_one_line
from experiments.matrix.layouts import LAYOUTS, Layout, Rows, Truth, as_csv

CHECK = ("data", "check", "data")
DRAWN = 4  # cells of each layout with several mutations at once
QUICK = 2  # mutations of each layout in the quick part


@dataclass(frozen=True)
class Dialect:
    """How a program writes a table."""

    delimiter: str = ","
    encoding: str = "utf-8"
    line: str = "\n"
    quoting: int = csv.QUOTE_MINIMAL
    before: str = ""

    def write(self, rows: Rows) -> bytes:
        """Return the table; characters that the encoding lacks become question marks."""
        return (self.before + as_csv(rows, self.delimiter, self.line, self.quoting)).encode(self.encoding, "replace")


DIALECTS = {
    "semicolons": Dialect(";"),
    "tabs": Dialect("\t"),
    "bars": Dialect("|"),
    "Excel, sep=;": Dialect(";", line="\r\n", before="sep=;\r\n"),
    "UTF-8 with a mark": Dialect(encoding="utf-8-sig", line="\r\n"),
    "UTF-16": Dialect("\t", "utf-16"),
    "UTF-16 without a mark": Dialect(encoding="utf-16-le"),
    "UTF-16, big endian": Dialect(";", "utf-16-be"),
    "Latin-1": Dialect(encoding="latin-1"),
    "all quoted, CRLF": Dialect(line="\r\n", quoting=csv.QUOTE_ALL),
    "line ends of old Macs": Dialect(line="\r"),
    "blank lines at the start": Dialect(before="\n\n"),
}
Change = Callable[[Rows, int, Random], Rows]  # rows, column of the image ids -> changed rows


def on_cells(change: Callable[[str], str]) -> Change:
    return lambda rows, key, rng: [[change(cell) for cell in row] for row in rows]


def on_ids(change: Callable[[str], str]) -> Change:
    return lambda rows, key, rng: (
        [rows[0]] + [[change(c) if k == key else c for k, c in enumerate(r)] for r in rows[1:]]
    )


def on_header(change: Callable[[str], str]) -> Change:
    return lambda rows, key, rng: [[change(cell) for cell in rows[0]], *rows[1:]]


def with_suffix(name: str) -> str:
    return name if "." in name[-5:] else f"{name}.jpg"


def without_suffix(name: str) -> str:
    return name.rpartition(".")[0] if name.endswith((".jpg", ".png")) else name


def blank_rows(rows: Rows, key: int, rng: Random) -> Rows:
    blank = [[""] * len(rows[0]), []]
    return [rows[0], *(line for row in rows[1:] for line in (row, *blank[: rng.randrange(3)])), []]


def repeated(rows: Rows, key: int, rng: Random) -> Rows:
    return [*rows, *rng.sample(rows[1:], 3)]


def shuffled(rows: Rows, key: int, rng: Random) -> Rows:
    return [rows[0], *rng.sample(rows[1:], len(rows) - 1)]


def reordered(rows: Rows, key: int, rng: Random) -> Rows:
    order = rng.sample(range(len(rows[0])), len(rows[0]))
    return [[row[column] for column in order] if row else [] for row in rows]


def wider(rows: Rows, key: int, rng: Random) -> Rows:
    return [[*rows[0], "my notes"], *([*row, f"seen; twice, {n}"] for n, row in enumerate(rows[1:]))]


# The same dataset. Several are applied in this order. Header and ids change in every table that names images.
HARMLESS: Mapping[str, Change] = {
    "ids with suffix": on_ids(with_suffix),
    "ids without suffix": on_ids(without_suffix),
    "ids with a folder": on_ids(lambda name: f"images/{name}"),
    "ids with a Windows folder": on_ids(lambda name: f"C:\\images\\{name}"),
    "a further column": wider,
    "upper-case header": on_header(str.upper),
    "spaces in the header": on_header(lambda cell: f" {cell} "),
    "spaces in the cells": on_cells(lambda cell: f" {cell}  "),
    "rows repeated": repeated,
    "rows shuffled": shuffled,
    "blank rows": blank_rows,
    "columns reordered": reordered,
}


def fewer(rows: Rows, key: int, rng: Random) -> Rows:
    dropped = rng.sample(range(1, len(rows)), 2)
    return [row for number, row in enumerate(rows) if number not in dropped]


def more(rows: Rows, key: int, rng: Random) -> Rows:
    return [*rows, [f"{cell}9" if column == key else cell for column, cell in enumerate(rows[-1])]]


def contradicting(rows: Rows, key: int, rng: Random) -> Rows:
    first, last = rows[1], rows[-1]  # of different classes
    return [*rows, [first[key] if column == key else cell for column, cell in enumerate(last)]]


def other_ids(rows: Rows, key: int, rng: Random) -> Rows:
    return on_ids(lambda name: f"X{name[::-1]}")(rows, key, rng)


def too_long(rows: Rows, key: int, rng: Random) -> Rows:
    number = rng.randrange(1, len(rows))
    return [[*row, "x", "y"] if n == number else row for n, row in enumerate(rows)]


def two_ids(rows: Rows, key: int, rng: Random) -> Rows:
    return [[*row, row[key]] for row in rows]


def without_header(rows: Rows, key: int, rng: Random) -> Rows:
    return rows[1:]


def no_ids(rows: Rows, key: int, rng: Random) -> Rows:
    return [
        ["number" if column == key else cell for column, cell in enumerate(rows[0])],
        *([str(n) if column == key else cell for column, cell in enumerate(row)] for n, row in enumerate(rows[1:])),
    ]


def empty(rows: Rows, key: int, rng: Random) -> Rows:
    return rows[:1]


# An error that names the table.
DAMAGE: Mapping[str, Change] = {
    "rows missing": fewer,
    "a row without an image": more,
    "an image with two labels": contradicting,
    "the ids of another dataset": other_ids,
    "a row that is too long": too_long,
    "the column of ids twice": two_ids,
    "no header": without_header,
    "no column of ids": no_ids,
    "no rows": empty,
}


GROUPS = ("lesion_id", "case_id")  # keys of tables that label lesions or cases instead of images
TOLD_BY_TRAIN = ("rows missing", "a row without an image", "two tables of labels", "cut off")  # images without a lesion


def cells(plan: Plan) -> list[Cell]:
    """Return the cells of every layout; the quick part has each as it is, and a few mutations."""
    drawn: list[Cell] = []
    for make in LAYOUTS:
        first, *others = of_layout(make(), plan.rng)
        drawn += [first, *(plan.rng.sample(others, min(QUICK, len(others))) if plan.quick else others)]
    return drawn


def of_layout(layout: Layout, rng: Random) -> Iterator[Cell]:
    """Yield a layout as it is, with each mutation of its tables, and with several drawn ones at once."""
    yield Cell(layout.name, (CHECK,), same(layout), partial(_write, layout, None))
    if not layout.key:
        return
    for name, dialect in DIALECTS.items():
        yield mutated(layout, name, dialect, (), rng)
    for name in HARMLESS:
        yield mutated(layout, name, Dialect(), (name,), rng)
    for name in DAMAGE:
        yield damaged(layout, name, rng)
    yield from whole_tables(layout, rng)
    for _ in range(DRAWN):
        dialect = rng.choice(list(DIALECTS))
        drawn = rng.sample(list(HARMLESS), rng.randint(1, 4))
        changes = [name for name in HARMLESS if name in drawn]
        yield mutated(layout, f"{dialect}, {', '.join(changes)}", DIALECTS[dialect], changes, rng)


def mutated(layout: Layout, name: str, dialect: Dialect, changes: Sequence[str], rng: Random) -> Cell:
    """Return the cell of a layout whose tables are all written so; the dataset must not change."""
    tables = {}
    for number, (table, rows) in enumerate(layout.tables.items()):
        key = key_of(layout, rows)
        for change in changes:
            if change == "upper-case header" and layout.one_hot and number == 0:
                continue  # its header holds the class names
            if "ids" in change and (key < 0 or rows[0][key] in GROUPS):
                continue  # it names no images
            if change == "ids without suffix" and layout.key == "file_name":
                continue
            rows = HARMLESS[change](rows, key, rng)
        tables[table] = dialect.write(rows)
    expected = same(layout)
    if layout.one_hot and "a further column" in changes:  # it may be a class
        expected = works_or_one_line(partial(is_same, layout), first_table(layout))
    return Cell(f"{layout.name}: {name}", (CHECK,), expected, partial(_write, layout, tables))


def damaged(layout: Layout, name: str, rng: Random) -> Cell:
    """Return the cell of a layout whose table of labels is damaged; the error must name it.

    Without a table that tells only lesions, the images can be read: a note must name it.
    """
    first = first_table(layout)
    rows = layout.tables[first]
    changed = {**layout.tables, first: DAMAGE[name](rows, key_of(layout, rows), rng)}
    return _unlike(layout, name, changed, first)


def whole_tables(layout: Layout, rng: Random) -> Iterator[Cell]:
    """Yield two tables of labels, and a table that is cut off."""
    first = first_table(layout)
    rows = layout.tables[first]
    copy = str(Path(first).with_name("copy of labels.csv"))
    yield _unlike(layout, "two tables of labels", {**layout.tables, copy: shuffled(rows, 0, rng)}, first, copy)
    yield _unlike(layout, "cut off", {**layout.tables, first: rows[: len(rows) // 2]}, first)


def _unlike(layout: Layout, name: str, tables: Mapping[str, Rows], *words: str) -> Cell:
    written = {table: Dialect().write(rows) for table, rows in tables.items()}
    names = [Path(word).name for word in words]
    expected = one_line(*names)
    if name == "no header":  # the columns can be told from their values
        expected = works_or_one_line(partial(is_same, layout), names[0])
    elif layout.name == "SCIN" and name in ("rows missing", "cut off"):  # its publisher does not label every case
        expected = works_or_one_line(partial(is_noted, names[0]), *names)
    elif not layout.labels_in_table:
        invariant = nothing_wrong if name in TOLD_BY_TRAIN else partial(is_noted, names[0])
        expected = works_or_one_line(invariant, *names)
    return Cell(f"{layout.name}: {name}", (CHECK,), expected, partial(_write, layout, written))


def is_noted(table: str, outcome: Outcome, work: Path) -> str | None:
    """Look for a note about the table that says what is not known."""
    lines = shown(outcome).splitlines()
    noted = any(table in line and any(word in line for word in ("not ", "no ", "left out")) for line in lines)
    return None if noted else f"no note says what {table} does not tell: {[line for line in lines if table in line]}"


def first_table(layout: Layout) -> str:
    return next(iter(layout.tables))


def key_of(layout: Layout, rows: Rows) -> int:
    """Return the column of image ids, or of lesions or cases where a table has no image ids; -1 without one."""
    others = ("isic_id", "image", "image_1_path")
    known = (*others, layout.key) if layout.key in GROUPS else (layout.key, *others)
    return next((rows[0].index(name) for name in known if name in rows[0]), -1)


def same(layout: Layout) -> Expected:
    return works(partial(is_same, layout))


def is_same(layout: Layout, outcome: Outcome, work: Path) -> str | None:
    """Compare the dataset with what must be read of each image."""
    from skinedge.data.readers import read

    dataset = read(work / "data")
    actual = {s.path: Truth(s.label, s.lesion_id, s.patient_id, s.split) for s in dataset.samples}
    expected = dict(layout.images)
    if actual.keys() != expected.keys():
        return f"reads {len(actual)} images instead of {len(expected)}: {sorted(actual.keys() ^ expected.keys())[:2]}"
    for name, key in (("label", _label), ("lesion", _lesion), ("patient", _patient), ("split", _split)):
        wrong = [path for path in expected if key(actual[path]) != key(expected[path])]
        if wrong:
            return f"{len(wrong)} images with another {name}, e.g. {wrong[0]}: {key(actual[wrong[0]])!r}"
    return None if dataset.domain == layout.domain else f"domain {dataset.domain}"


def _label(truth: Truth) -> str:
    return truth.label


def _lesion(truth: Truth) -> str:
    return truth.lesion


def _patient(truth: Truth) -> str:
    return truth.patient


def _split(truth: Truth) -> str:
    return truth.split


def _write(layout: Layout, tables: Mapping[str, bytes] | None, work: Path) -> None:
    layout.write(work / "data", tables)
