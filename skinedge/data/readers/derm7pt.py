"""Derm7pt (Kawahara et al., IEEE JBHI 2019): a table of cases, and the official split as lists of row numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from skinedge.data.dataset import Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.labelled import layout_of, read_labelled
from skinedge.data.table_file import Table

INDEXES = {"train_indexes.csv": "train", "valid_indexes.csv": "val", "test_indexes.csv": "test"}


def read_derm7pt(contents: Contents) -> Dataset | None:
    """Read the dermoscopic image of each case, with the official split where its index files are there.

    Index files that do not list each row once are a problem, as are those of `readers.labelled.read_labelled`.
    Raises: as `readers.labelled.read_labelled`.
    """
    cases = contents.label_table()
    if cases is None or layout_of(cases).kind != "Derm7pt":
        return None
    indexes = {table.name: table for table in contents.tables if _name(table) in INDEXES and table.has("indexes")}
    for name, table in indexes.items():
        contents.uses[name] = f"official split {INDEXES[_name(table)]}, by row of {cases.name}"
    dataset = read_labelled(contents)
    if dataset is None or not indexes:
        return dataset
    splits = _splits(contents, cases, list(indexes.values()))
    samples = tuple(replace(sample, split=splits.get(sample.path, "")) for sample in dataset.samples)
    return replace(dataset, samples=samples)


def _splits(contents: Contents, cases: Table, indexes: list[Table]) -> dict[str, str]:
    """Return path of each dermoscopic image -> its official split; {} where the index files do not fit the table."""
    rows: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for table in indexes:
        for row in table.rows:
            if rows.setdefault(row["indexes"], INDEXES[_name(table)]) != INDEXES[_name(table)]:
                wrong[row["indexes"]] = "in two"
    numbers = _row_numbers(cases)
    wrong |= {number: "in none" for number in numbers if number not in rows}
    wrong |= dict.fromkeys(sorted(rows.keys() - set(numbers)), "no such row")
    contents.refuse(
        f"rows of {cases.name} are not in exactly one of {', '.join(table.name for table in indexes)}",
        [(f"row {number} ({what})", "") for number, what in wrong.items()],
        todo="Restore the dataset's files, or move the index files away: the split is then made anew.",
    )
    if wrong:
        return {}
    images = (contents.find(cases.name, case[contents.roles[cases.name].image]) for case in cases.rows)
    return {path: rows[number] for number, path in zip(numbers, images, strict=True) if path is not None}


def _row_numbers(cases: Table) -> list[str]:
    """Return each row's number in the published table, whose rows are in the order of `case_num`.

    A copy may be sorted anew or repeat rows. Where the case numbers are not 1, 2, ..., n, the copy's order counts.
    """
    numbers = [row.get("case_num", "") for row in cases.rows]
    if set(numbers) == {str(number) for number in range(1, len(set(numbers)) + 1)}:
        return [str(int(number) - 1) for number in numbers]
    return [str(number) for number in range(len(cases.rows))]


def _name(table: Table) -> str:
    return PurePosixPath(table.name).name.lower()
