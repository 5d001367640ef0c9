"""Any table with a column of images and a column of labels, and the known datasets that are laid out so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from skinedge.core.errors import DataError
from skinedge.data.columns import Roles
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.image_index import stem_of
from skinedge.data.readers.contents import Contents, Facts
from skinedge.data.readers.domains import domain_of
from skinedge.data.table_file import Table
from skinedge.system.progress import note


@dataclass(frozen=True)
class Layout:
    """A dataset whose table is known by its columns.

    kind: name for the screen; domain, isic: as in `domains.domain_of`; marks: columns (folded) that no other layout has
    together; second_images: columns that name further images of the same lesion, which are left out; has_unlabelled:
    its publisher gives some images no diagnosis, which are left out.
    """

    kind: str
    domain: str
    marks: tuple[str, ...]
    second_images: tuple[str, ...] = ()
    isic: bool = False
    has_unlabelled: bool = False


# Most specific first.
LAYOUTS = (
    Layout("HAM10000", "dermoscopic", ("image_id", "lesion_id", "dx"), isic=True),
    Layout("ISIC 2024 (SLICE-3D)", "clinical", ("isic_id", "iddx_full")),
    Layout("ISIC archive", "", ("isic_id", "diagnosis_1"), has_unlabelled=True),
    Layout("ISIC archive", "", ("isic_id", "diagnosis"), has_unlabelled=True),
    Layout("ISIC archive", "", ("isic_id", "diagnosis_3"), has_unlabelled=True),  # BCN20000's newer table
    Layout("ISIC 2016", "dermoscopic", ("image_id", "benign_malignant"), isic=True),
    Layout("ISIC 2020", "dermoscopic", ("image_name", "benign_malignant"), isic=True),
    Layout("BCN20000", "dermoscopic", ("bcn_filename", "diagnosis")),
    Layout("PAD-UFES-20", "clinical", ("img_id", "diagnostic")),
    Layout("Fitzpatrick17k", "clinical", ("md5hash", "label")),
    Layout("DDI", "clinical", ("ddi_file", "disease")),
    Layout("Derm7pt", "dermoscopic", ("derm", "clinic", "diagnosis"), ("clinic",)),
)
UNKNOWN_LAYOUT = Layout("labelled table", "", ())


def layout_of(table: Table) -> Layout:
    """Return the known layout that a table's columns mark, else UNKNOWN_LAYOUT."""
    return next((known for known in LAYOUTS if table.has(*known.marks)), UNKNOWN_LAYOUT)


def find_label_table(contents: Contents) -> Table | None:
    """Return the one table that labels the folder's images, None where none does.

    Raises: DataError when there are several.
    """
    return only_one(contents, label_tables(contents))


def label_tables(contents: Contents) -> list[Table]:
    """Return the tables with a column of images and one of labels, without a challenge's sample submission."""
    roles = contents.roles
    tables = [table for table in contents.tables if roles[table.name].image and roles[table.name].labels]
    samples = [table for table in tables if PurePosixPath(table.name).stem.lower() == "sample_submission"]
    for table in samples:
        contents.uses[table.name] = "not used: its labels are placeholders"
    return [table for table in tables if table not in samples]


def only_one(contents: Contents, tables: list[Table]) -> Table | None:
    """Return the only table, None without one. Raises: DataError for several."""
    if len(tables) > 1:
        raise DataError(
            f"several tables could be the labels: {', '.join(table.name for table in tables)}",
            where=str(contents.root),
            todo="Give a folder that holds one of them.",
        )
    return tables[0] if tables else None


def read_labelled(contents: Contents) -> Dataset | None:
    """Read the images that a table labels; None where no table does.

    Raises: DataError for several such tables, an image without a row or a row without its image, a row without a label,
        or one image under two labels.
    """
    table = find_label_table(contents)
    if table is None:
        return None
    layout = layout_of(table)
    labels = labels_of(contents, table, contents.roles[table.name])
    left_out = _left_out(contents, table, layout, labels)
    labels = {image: label for image, label in labels.items() if image not in left_out}
    refuse_unlabelled(contents, table, labels)
    places = locate(contents, table.name, labels, left_out)
    facts = contents.facts()
    samples = [as_sample(image, path, label, facts) for path, (image, label) in places.items()]
    return dataset_of(contents, layout.kind, domain_of(samples, layout.domain, isic=layout.isic), samples)


def _left_out(contents: Contents, table: Table, layout: Layout, labels: Mapping[str, str]) -> set[str]:
    """Return the ids of images that the layout leaves out, with a note of their numbers."""
    unlabelled = {image for image, label in labels.items() if not label} if layout.has_unlabelled else set()
    if unlabelled:
        note(f"left out: {len(unlabelled)} images without a diagnosis in {table.name}")
    seconds = {row[column] for row in table.rows for column in layout.second_images}
    seconds = {image for image in seconds if image and contents.find(table.name, image) is not None}
    if seconds:
        columns = f"column {', '.join(layout.second_images)} of {table.name}"
        note(f"left out: {len(seconds)} further images of the same lesions ({columns})")
    return unlabelled | seconds


def labels_of(contents: Contents, table: Table, roles: Roles) -> dict[str, str]:
    """Return image id -> label, '' where the row has none.

    Raises: DataError for a row without an image, or two different rows for an image.
    """
    labels: dict[str, str] = {}
    for image, row in distinct_rows(contents, table, roles.image):
        if not image:
            shown = {column: value for column, value in row.items() if value}
            raise DataError(f"a row without {roles.image}: {shown}", where=str(contents.root / table.name))
        labels[image] = roles.label_of(row)
    return labels


def refuse_unlabelled(contents: Contents, table: Table, labels: Mapping[str, str]) -> None:
    """Raise a DataError for images without a label."""
    blank = [image for image, label in labels.items() if not label]
    if blank:
        columns = " or ".join(contents.roles[table.name].labels)
        raise DataError(
            f"{len(blank)} of {len(labels)} rows have no {columns}: {some(blank)}",
            where=str(contents.root / table.name),
            todo="Fill them in, or take these rows and images out.",
        )


def some(names: Iterable[str]) -> str:
    """Return the first three names, sorted, for messages."""
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")


def distinct_rows(contents: Contents, table: Table, key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (value of the column `key`, row), of equal rows the first. Raises: DataError for two different ones."""
    rows: dict[str, dict[str, str]] = {}
    for row in table.rows:
        if row[key] not in rows or not row[key]:
            rows[row[key]] = row
            yield row[key], row
        elif rows[row[key]] != row:
            raise DataError(f"image {row[key]} has two different rows", where=str(contents.root / table.name))


def locate(
    contents: Contents, table: str, labels: Mapping[str, str], left_out: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """Return path of each image -> (image id, label), sorted by path.

    table: name of the table of labels; left_out: ids of images that are known and not used.
    Raises: DataError for a label without its image, an image without a label, or two ids for one image.
    """
    where = str(contents.root / table)
    places: dict[str, tuple[str, str]] = {}
    missing: list[str] = []
    for image, label in labels.items():
        path = contents.find(table, image)
        if path is None:
            missing.append(image)
        elif places.setdefault(path, (image, label))[0] != image:
            raise DataError(f"{places[path][0]} and {image} are the same image, {path}", where=where)
    if len(missing) == len(labels) > 1 and all(image.isdecimal() for image in missing):
        raise DataError(
            f"{table} numbers its rows instead of naming the images",
            where=where,
            todo="Take the table from the dataset's own page: copies without the images' names cannot be matched.",
        )
    known = {contents.find(table, image) for image in left_out}
    unlabelled = [image for image in contents.index.without(places) if image not in known]
    for what, listed in (
        (f"of {len(labels)} images of {table} are missing", missing),
        (f"images have no row in {table}", unlabelled),
    ):
        if listed:
            raise DataError(
                f"{len(listed)} {what}: {some(listed)}",
                where=str(contents.root),
                todo="Complete the folder, or take these out of the table or the folder.",
            )
    return dict(sorted(places.items()))


def as_sample(image: str, path: str, label: str, facts: Mapping[str, Facts]) -> Sample:
    """Return the sample with what the tables tell of it."""
    own = facts.get(path, Facts())
    return Sample(stem_of(image), path, label, own.lesion, patient_id=own.patient, meta=own.meta)


def dataset_of(contents: Contents, kind: str, domain: str, samples: list[Sample]) -> Dataset:
    """Return the dataset of these samples, with its labels sorted."""
    labels = tuple(sorted({sample.label for sample in samples}))
    return Dataset(contents.root, kind, labels, tuple(samples), domain)
