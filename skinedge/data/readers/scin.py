"""SCIN (Ward et al., JAMA Network Open 2024): up to three photos of a case, labelled by weights of conditions."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import NamedTuple

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.image_index import stem_of
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.labelled import dataset_of, locate, refuse_rows
from skinedge.data.table_file import Table
from skinedge.system.progress import note

CASE, WEIGHTS = "case_id", "weighted_skin_condition_label"
PATHS = ("image_1_path", "image_2_path", "image_3_path")
_MOST = 10_000  # characters of a cell of weights; the longest has a few hundred
_EQUAL = 1e-6


class Case(NamedTuple):
    """A case: its number, the heaviest condition ('' without one), and what the tables tell of it."""

    number: str
    label: str
    meta: Mapping[str, str]


def read_scin(contents: Contents) -> Dataset | None:
    """Read the photos of each case; None where neither of SCIN's tables is there.

    The label is the condition of most weight. Cases without one, or with several of equal weight, are left out with a
    note. A case is kept together like a lesion.
    Cells that are no weights are a problem, as are those of `readers.labelled.locate`.
    Raises: DataError for one table without the other, or two of one kind.
    """
    cases, truth = (_table(contents, column) for column in (PATHS[0], WEIGHTS))
    if cases is None and truth is None:
        return None
    if cases is None or truth is None:
        present, absent = (truth, "scin_cases.csv") if cases is None else (cases, "scin_labels.csv")
        raise DataError(
            f"looks like SCIN: {present.name if present else ''} is here, but {absent} is missing",
            where=str(contents.root),
            lines=[f"  not read: {unread.describe()}" for unread in contents.unread],
            todo=f"Put {absent} beside it: one has the images' paths, the other their labels.",
        )
    contents.uses[cases.name] = "; ".join([f"lesion {CASE}", f"images {', '.join(PATHS)}", *_facts(contents, cases)])
    contents.uses[truth.name] = "; ".join([f"label {WEIGHTS} (the heaviest)", *_facts(contents, truth)])
    by_image = _by_image(contents, cases, _cases(contents, cases, truth))
    labels = {image: case.label for image, case in by_image.items() if case.label}
    places = locate(contents, cases, labels, set(by_image) - set(labels))
    samples = [_sample(path, by_image[image]) for path, (image, _) in places.items()]
    return dataset_of(contents, "SCIN", domain_of(samples, "clinical"), samples)


def _table(contents: Contents, column: str) -> Table | None:
    """Return the table of cases with this column, None without it. Raises: DataError for several."""
    tables = [table for table in contents.tables if table.has(CASE, column)]
    if len(tables) > 1:
        raise DataError(
            f"several tables have {CASE} and {column}: {', '.join(table.name for table in tables)}",
            where=str(contents.root),
            todo="Move all but one away.",
        )
    return tables[0] if tables else None


def _facts(contents: Contents, table: Table) -> list[str]:
    return [f"{name} {' or '.join(columns)}" for name, columns in contents.roles[table.name].meta.items()]


def _sample(path: str, case: Case) -> Sample:
    return Sample(stem_of(path), path, case.label, case.number, meta=case.meta)


def _cases(contents: Contents, cases: Table, truth: Table) -> dict[str, Case]:
    """Return case number -> case, and print which cases are left out."""
    meta = {row[CASE]: contents.roles[cases.name].meta_of(row) for row in cases.rows}
    known: dict[str, Case] = {}
    cells: dict[str, str] = {}
    tied, odd, twice = 0, [], []
    for row in truth.rows:
        if row[CASE] in cells:
            twice += [(f"case {row[CASE]}", "")] if cells[row[CASE]] != row[WEIGHTS] else []
            continue
        cells[row[CASE]] = row[WEIGHTS]
        heaviest = _heaviest(row[WEIGHTS])
        if heaviest is None:
            odd.append((f"case {row[CASE]} ('{row[WEIGHTS][:60]}')", ""))
            heaviest = []
        tied += len(heaviest) > 1
        own = {**meta.get(row[CASE], {}), **contents.roles[truth.name].meta_of(row)}
        known[row[CASE]] = Case(row[CASE], heaviest[0] if len(heaviest) == 1 else "", own)
    refuse_rows(contents, truth, "cases with two different conditions", twice)
    absent = [(f"case {number}", "") for number in known if number not in meta]
    refuse_rows(contents, truth, f"cases are not in {cases.name}, but", absent)
    refuse_rows(contents, truth, "cells are no list of conditions with weights", odd)
    unlabelled = sum(case.label == "" for case in known.values()) - tied - len(odd) + len(meta.keys() - known.keys())
    for count, what in ((unlabelled, "without a condition"), (tied, "whose heaviest conditions have equal weights")):
        if count:
            note(f"left out: {count} cases {what} ({truth.name})")
    return known


def _by_image(contents: Contents, cases: Table, known: Mapping[str, Case]) -> dict[str, Case]:
    """Return path of each image, as the table has it -> its case. An image of two labels is left out, with a note."""
    by_image: dict[str, Case] = {}
    disputed: set[str] = set()
    for row in cases.rows:
        case = known.get(row[CASE], Case(row[CASE], "", {}))
        for image in (row[column] for column in PATHS if row.get(column)):
            if by_image.setdefault(image, case).label != case.label:
                disputed.add(image)
    if disputed:
        shown = ", ".join(sorted(disputed)[:3])
        note(f"left out: {len(disputed)} images of two cases with different conditions ({shown})")
    return {image: case._replace(label="") if image in disputed else case for image, case in by_image.items()}


def _heaviest(cell: str) -> list[str] | None:
    """Return the conditions of most weight in a cell such as "{'Eczema': 0.69, 'Psoriasis': 0.08}"; [] for none.

    None for another text.
    """
    if not cell:
        return []
    weights: object = None
    if len(cell) <= _MOST:
        try:
            weights = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            weights = None
    if not isinstance(weights, dict) or not all(_is_weight(name, weight) for name, weight in weights.items()):
        return None
    most = max(weights.values(), default=0.0)
    return [str(name).strip() for name, weight in weights.items() if weight >= most - _EQUAL > 0]


def _is_weight(name: object, weight: object) -> bool:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    return isinstance(name, str) and bool(name.strip()) and number and math.isfinite(weight) and weight >= 0  # type: ignore[operator, arg-type]
