"""Labels from a table beside the images: HAM10000's metadata, an ISIC challenge's one-hot ground truth."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.files import sha256
from skinedge.data.dataset import Dataset, Sample

# Columns of the ISIC 2019 test table that are no classes.
_NO_CLASS = frozenset({"image", "score_weight", "validation_weight"})
_IMAGE_COLUMNS = frozenset({"image", "image_id", "isic_id"})
# What is told of an image besides its label, by the columns' names in HAM10000 and in the ISIC archive.
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
    """A CSV file: its name relative to the data root, its columns, its rows."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


def read_ham10000(root: Path, images: Sequence[str], names: Sequence[str]) -> Dataset | None:
    """HAM10000 (Tschandl et al. 2018): images anywhere, and a table with image_id, lesion_id and dx.

    Returns: None where no table has these columns. Raises: DataError (see `skinedge.data.readers.read`).
    """
    table = _only(root, ham10000_tables(root, names))
    if table is None:
        return None
    labels = {row["image_id"]: row["dx"] for row in _unique(root, table, "image_id", "dx")}
    places = _places(root, table, images, labels)
    rows = {row["image_id"]: row for row in table.rows}
    samples = tuple(
        Sample(
            image_id=image_id,
            path=path,
            label=labels[image_id],
            lesion_id=rows[image_id]["lesion_id"],
            meta=_meta(rows[image_id]),
        )
        for image_id, path in places.items()
    )
    return Dataset(root, "HAM10000", tuple(sorted(set(labels.values()))), samples, "dermoscopic")


def read_isic(root: Path, images: Sequence[str], names: Sequence[str]) -> Dataset | None:
    """ISIC challenges: images, a one-hot table with a column 'image', and, maybe, tables with lesion_id.

    Returns: None where no table is one-hot. Raises: DataError (see `skinedge.data.readers.read`).
    """
    read = [_read(root, name) for name in names if "image" in _header(root / name)]
    table = _only(root, [t for t in read if _one_hot(t)])
    if table is None:
        return None
    classes = [column for column in table.columns if column not in _NO_CLASS]
    labels = {row["image"]: _hot(root, table, row, classes) for row in _unique(root, table, "image", "image")}
    places = _places(root, table, images, labels)
    lesions = read_lesions(root, names)
    meta = read_meta(root, names)
    samples = tuple(Sample(i, path, labels[i], lesions.get(i, ""), meta=meta.get(i, {})) for i, path in places.items())
    return Dataset(root, "ISIC challenge", tuple(sorted(set(labels.values()))), samples, "dermoscopic")


def read_lesions(root: Path, names: Sequence[str]) -> dict[str, str]:
    """image id -> lesion id, from whichever tables tell: ISIC's lesion groupings, the ISIC archive's metadata.csv."""
    return {image: row["lesion_id"] for image, row in _about(root, names, {"lesion_id"}) if row["lesion_id"]}


def read_meta(root: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """image id -> sex, age, site, ..., from whichever tables tell."""
    meta: dict[str, dict[str, str]] = {}
    for image, row in _about(root, names, set(_META)):
        meta[image] = {**meta.get(image, {}), **_meta(row)}
    return meta


def ham10000_tables(root: Path, names: Sequence[str]) -> list[Table]:
    """Those of the CSV files that have HAM10000's columns."""
    return [_read(root, name) for name in names if {"image_id", "lesion_id", "dx"} <= set(_header(root / name))]


def _about(root: Path, names: Sequence[str], columns: set[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """(image id, row) of every table that is about images and has any of the columns."""
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
        return []  # a table of something else


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
    """The table's rows, after it was seen that each has a key and a label, and no key comes twice."""
    seen: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if not row[key] or not row[value]:
            raise DataError(f"a row without {key} or {value}: {dict(row)}", where=str(root / table.name))
        if seen.setdefault(row[key], row) != row:
            raise DataError(f"image {row[key]} has two different rows", where=str(root / table.name))
    return tuple(seen.values())


def _one_hot(table: Table) -> bool:
    classes = [column for column in table.columns if column not in _NO_CLASS]
    return len(classes) > 1 and bool(table.rows) and all(_is_bit(table.rows[0][name]) for name in classes)


def _is_bit(text: str) -> bool:
    try:
        return float(text) in (0.0, 1.0)
    except ValueError:
        return False


def _hot(root: Path, table: Table, row: dict[str, str], classes: Sequence[str]) -> str:
    hot = [name for name in classes if _is_bit(row[name]) and float(row[name]) == 1.0]
    if len(hot) != 1 or not all(_is_bit(row[name]) for name in classes):
        raise DataError(f"image {row['image']} needs one 1 among 0s, has {hot}", where=str(root / table.name))
    return hot[0]


def _places(root: Path, table: Table, images: Sequence[str], labels: dict[str, str]) -> dict[str, str]:
    """image id -> path of the image, sorted by path; a second copy of the same bytes is passed over."""
    places: dict[str, str] = {}
    unknown = []
    for path in images:
        stem = Path(path).stem
        if stem not in labels:
            unknown.append(path)
        elif stem in places and sha256(root / path) != sha256(root / places[stem]):
            raise DataError(f"two different images are named {stem}: {places[stem]} and {path}", where=str(root))
        else:
            places.setdefault(stem, path)
    missing = [name for name in labels if name not in places]
    for count, what, listed in (
        (len(missing), f"images of {table.name} are missing", missing),
        (len(unknown), f"images have no row in {table.name}", unknown),
    ):
        if count:
            raise DataError(
                f"{count} {what}: {', '.join(sorted(listed)[:3])}{', ...' if count > 3 else ''}",
                where=str(root),
                todo="Complete the folder, or take these out of the table or the folder.",
            )
    return places
