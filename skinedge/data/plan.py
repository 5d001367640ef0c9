"""Cleaning plan: a CSV file that says which images of a folder to keep and which to leave out. Nothing is deleted."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import ConfigError, DataError
from skinedge.data.csv_cells import from_cell, to_cell
from skinedge.data.read_options import ReadOptions
from skinedge.data.table_file import Table, read_table
from skinedge.system.progress import note

KEEP, LEAVE_OUT = "keep", "leave out"
COLUMNS = ("action", "image", "label", "reason", "same_as", "sha256")
PLAN = "plan.csv"  # the copy in a run
_SHOWN = 5


@dataclass(frozen=True)
class PlanRow:
    """One image of a plan.

    action: KEEP or LEAVE_OUT; image: path relative to the data root; reason: for the reader; same_as: path of an image
    with the same bytes or of the same lesion, '' for none; sha256: of the image, '' to accept any; line: in the file.
    """

    action: str
    image: str
    label: str = ""
    reason: str = ""
    same_as: str = ""
    sha256: str = ""
    line: int = 0


def is_plan(table: Table) -> bool:
    """Return True for a table that is a cleaning plan."""
    return table.has(*COLUMNS)


def to_text(rows: Sequence[PlanRow]) -> str:
    """Return the text of a plan's file, with formulas escaped for spreadsheets."""
    text = io.StringIO()
    cells = [[to_cell(getattr(row, column)) for column in COLUMNS] for row in rows]
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([COLUMNS, *cells])
    return text.getvalue()


def read_plan(path: Path) -> tuple[PlanRow, ...]:
    """Read a plan, also one that a spreadsheet saved in another dialect.

    Raises: ConfigError for a file that is no plan, an unknown action, a row without an image, or an image with two
        actions; it names the lines.
    """
    try:
        table = read_table(path.parent, path.name)
    except DataError as error:
        raise ConfigError(f"the plan cannot be read: {error.what}", where=str(path)) from None
    if not table.has("action", "image"):
        columns = ", ".join(table.columns)
        todo = "Make one with: skinedge data clean DIR --plan FILE"
        raise ConfigError(f"not a cleaning plan: its columns are {columns}", where=str(path), todo=todo)
    rows = tuple(
        PlanRow(**{column: from_cell(row.get(column, "")) for column in COLUMNS}, line=line)
        for row, line in zip(table.rows, table.lines, strict=True)
    )
    first: dict[str, PlanRow] = {}
    faults = []
    for row in rows:
        if row.action not in (KEEP, LEAVE_OUT):
            faults.append(f"line {row.line}: unknown action '{row.action}'")
        elif not row.image:
            faults.append(f"line {row.line}: no image")
        elif first.setdefault(row.image, row).action != row.action:
            faults.append(f"line {row.line}: {row.image} has another action in line {first[row.image].line}")
    _refuse(faults, path, f"Actions are: {KEEP}, {LEAVE_OUT}.")
    return rows


def left_out(options: ReadOptions, root: Path, images: Collection[str]) -> frozenset[str]:
    """Return which of the folder's images the plan of `options` leaves out; none without a plan.

    A run's own plan may name images that are no longer there.
    Raises: ConfigError as `read_plan`, and for an image that the folder lacks or that has another sha256.
    """
    if options.plan is None:
        return frozenset()
    from skinedge.data.hashing import content_hash

    paths = {image.strip(): image for image in images}  # as cells are read
    omitted, faults = set(), []
    for row in read_plan(options.plan):
        image = paths.get(row.image)
        if image is None:
            faults += [] if options.recorded else [f"line {row.line}: no image {row.image}"]
        elif row.sha256 and content_hash(root, image) != row.sha256:
            faults.append(f"line {row.line}: {row.image} is another image than the plan was made for (sha256)")
        elif row.action == LEAVE_OUT:
            omitted.add(image)
    todo = f"It is of another folder than {root}, or that was changed: make it again, or correct these lines."
    _refuse(faults, options.plan, todo, options.origin)
    note(f"plan {options.plan}{options.origin}: {len(omitted)} images left out")
    return frozenset(omitted)


def _refuse(faults: Sequence[str], path: Path, todo: str, origin: str = "") -> None:
    if faults:
        more = [f"... and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        lines = [f"  {fault}" for fault in (*faults[:_SHOWN], *more)]
        raise ConfigError(f"the plan{origin} cannot be applied:", where=str(path), lines=lines, todo=todo)
