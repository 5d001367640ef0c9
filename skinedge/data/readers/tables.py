"""Read labels from a table beside the images: HAM10000's metadata, an ISIC challenge's one-hot ground truth."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.files import sha256
from skinedge.data.dataset import Dataset, Sample

# Columns of the ISIC 2019 test table that are not classes.
_NO_CLASS = frozenset({"image", "score_weight", "validation_weight"})
_IMAGE_COLUMNS = frozenset({"image", "image_id", "isic_id"})
# Column names of HAM10000 and the ISIC archive -> names in `Sample.meta`.
_META = {
    "sex": "sex",
    "age": "age",
    "age_approx": "age",
    "localization": "site",
    "anatom_site_general": "site",
    "anatom_site_general_challenge": "site",
    "dx_type": "confirmed_by",
}


@dataclass(frozen=True)
class Table:
    """A CSV file: name relative to the data root, columns, rows."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def read_ham10000(root: Path, images: Sequence[str], names: Sequence[str]) -> Dataset | None:
    """Read HAM10000's layout (Tschandl et al. 2018): images anywhere, and a table with image_id, lesion_id and dx.

    Returns: None if no table has these columns. Raises: DataError (see `skinedge.data.readers.read`).
    """
    table = _only(root, ham10000_tables(root, names))
    if table is None:
        return None
    labels = {row["image_id"]: row["dx"] for row in _unique(root, table, "image_id", "dx")}
    paths = _image_paths(root, table, images, labels)
    rows = {row["image_id"]: row for row in table.rows}
    samples = tuple(
        Sample(
            image_id=image_id,
            path=path,
            label=labels[image_id],
            lesion_id=rows[image_id]["lesion_id"],
            meta=_meta(rows[image_id]),
        )
        for image_id, path in paths.items()
    )
    return Dataset(root, "HAM10000", tuple(sorted(set(labels.values()))), samples, "dermoscopic")


def read_isic(root: Path, images: Sequence[str], names: Sequence[str]) -> Dataset | None:
    """Read an ISIC challenge's layout: images, a one-hot table with a column 'image', optional tables with lesion_id.

    Returns: None if no table is one-hot. Raises: DataError (see `skinedge.data.readers.read`).
    """
    candidates = [_read(root, name) for name in names if "image" in _header(root / name)]
    table = _only(root, [candidate for candidate in candidates if _is_one_hot(candidate)])
    if table is None:
        return None
    classes = [column for column in table.columns if column not in _NO_CLASS]
    labels = {row["image"]: _hot_class(root, table, row, classes) for row in _unique(root, table, "image", "image")}
    paths = _image_paths(root, table, images, labels)
    lesions = read_lesions(root, names)
    meta = read_meta(root, names)
    samples = tuple(Sample(i, path, labels[i], lesions.get(i, ""), meta=meta.get(i, {})) for i, path in paths.items())
    return Dataset(root, "ISIC challenge", tuple(sorted(set(labels.values()))), samples, "dermoscopic")


def read_lesions(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return image id -> lesion id, from any table with both, such as ISIC's lesion groupings or metadata.csv."""
    return {image: row["lesion_id"] for image, row in _image_rows(root, names, {"lesion_id"}) if row["lesion_id"]}


def read_meta(root: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return image id -> sex, age, site, ..., from all tables with these columns."""
    meta: dict[str, dict[str, str]] = {}
    for image, row in _image_rows(root, names, set(_META)):
        meta[image] = {**meta.get(image, {}), **_meta(row)}
    return meta


def ham10000_tables(root: Path, names: Sequence[str]) -> list[Table]:
    """Read the CSV files that have HAM10000's columns."""
    return [_read(root, name) for name in names if {"image_id", "lesion_id", "dx"} <= set(_header(root / name))]


def _image_rows(root: Path, names: Sequence[str], columns: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (image id, row) of every table with an image column and any of `columns`."""
    for name in names:
        header = _header(root / name)
        key = next((column for column in header if column in _IMAGE_COLUMNS), None)
        if key is not None and columns & set(header):
            yield from ((row[key], row) for row in _read(root, name).rows)


def _meta(row: dict[str, str]) -> dict[str, str]:
    return {name: row[column] for column, name in _META.items() if row.get(column)}


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []  # not one of our tables


def _read(root: Path, name: str) -> Table:
    try:
        with (root / name).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            return Table(name, tuple(reader.fieldnames or ()), tuple(reader))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"unreadable table ({error})", where=str(root / name)) from None


def _only(root: Path, tables: list[Table]) -> Table | None:
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise DataError(
            f"several tables could be the labels: {names}",
            where=str(root),
            todo="Give a folder that holds one of them.",
        )
    return tables[0] if tables else None


def _unique(root: Path, table: Table, key: str, value: str) -> tuple[dict[str, str], ...]:
    """Return the table's distinct rows.

    Raises: DataError for a row without a key or value, or two different rows with one key.
    """
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if not row[key] or not row[value]:
            raise DataError(f"a row without {key} or {value}: {dict(row)}", where=str(root / table.name))
        if rows.setdefault(row[key], row) != row:
            raise DataError(f"image {row[key]} has two different rows", where=str(root / table.name))
    return tuple(rows.values())


def _is_one_hot(table: Table) -> bool:
    classes = [column for column in table.columns if column not in _NO_CLASS]
    return len(classes) > 1 and bool(table.rows) and all(_is_bit(table.rows[0][name]) for name in classes)


def _is_bit(text: str) -> bool:
    try:
        return float(text) in (0.0, 1.0)
    except ValueError:
        return False


def _hot_class(root: Path, table: Table, row: dict[str, str], classes: Sequence[str]) -> str:
    hot = [name for name in classes if _is_bit(row[name]) and float(row[name]) == 1.0]
    if len(hot) != 1 or not all(_is_bit(row[name]) for name in classes):
        what = f"image {row['image']} needs exactly one 1 and otherwise 0s, has 1 in {hot}"
        raise DataError(what, where=str(root / table.name))
    return hot[0]


def _image_paths(root: Path, table: Table, images: Sequence[str], labels: dict[str, str]) -> dict[str, str]:
    """Return image id -> path, sorted by path; further copies with the same bytes are skipped."""
    paths: dict[str, str] = {}
    unlabelled = []
    for path in images:
        stem = Path(path).stem
        if stem not in labels:
            unlabelled.append(path)
        elif stem in paths and sha256(root / path) != sha256(root / paths[stem]):
            raise DataError(f"two different images are named {stem}: {paths[stem]} and {path}", where=str(root))
        else:
            paths.setdefault(stem, path)
    missing = [name for name in labels if name not in paths]
    for count, what, listed in (
        (len(missing), f"images of {table.name} are missing", missing),
        (len(unlabelled), f"images have no row in {table.name}", unlabelled),
    ):
        if count:
            raise DataError(
                f"{count} {what}: {', '.join(sorted(listed)[:3])}{', ...' if count > 3 else ''}",
                where=str(root),
                todo="Add the missing images or rows, or remove these from the table or the folder.",
            )
    return paths
