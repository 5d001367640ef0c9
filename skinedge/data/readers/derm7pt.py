"""Derm7pt (Kawahara et al., IEEE JBHI 2019): a table of cases, and the official split as lists of row numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.labelled import find_label_table, layout_of, read_labelled
from skinedge.data.table_file import Table

INDEXES = {"train_indexes.csv": "train", "valid_indexes.csv": "val", "test_indexes.csv": "test"}


def read_derm7pt(contents: Contents) -> Dataset | None:
    """Read the dermoscopic image of each case, with the official split where its index files are there.

    Raises: DataError for index files that do not list each row once, and as `readers.labelled.read_labelled`.
    """
    cases = find_label_table(contents)
    if cases is None or layout_of(cases).kind != "Derm7pt":
        return None
    indexes = {table.name: table for table in contents.tables if _name(table) in INDEXES and table.has("indexes")}
    for name, table in indexes.items():
        contents.uses[name] = f"official split {INDEXES[_name(table)]}, by row of {cases.name}"
    dataset = read_labelled(contents)
    if dataset is None or not indexes:
        return dataset
    splits = _splits(contents, cases, list(indexes.values()))
    samples = tuple(replace(sample, split=splits[sample.path]) for sample in dataset.samples)
    return replace(dataset, samples=samples)


def _splits(contents: Contents, cases: Table, indexes: list[Table]) -> dict[str, str]:
    """Return path of each dermoscopic image -> its official split."""
    rows: dict[str, str] = {}
    for table in indexes:
        for row in table.rows:
            if rows.setdefault(row["indexes"], INDEXES[_name(table)]) != INDEXES[_name(table)]:
                raise DataError(f"row {row['indexes']} is in two official splits", where=str(contents.root))
    if set(rows) != {str(number) for number in range(len(cases.rows))}:
        raise DataError(
            f"{', '.join(table.name for table in indexes)} do not list each of the {len(cases.rows)} rows of "
            f"{cases.name} once",
            where=str(contents.root),
            todo="Restore the dataset's files, or move the index files away: the split is then made anew.",
        )
    images = {contents.find(cases.name, case["derm"]): rows[str(number)] for number, case in enumerate(cases.rows)}
    return {path: split for path, split in images.items() if path is not None}


def _name(table: Table) -> str:
    return PurePosixPath(table.name).name.lower()
