"""Any table with a column of images and a column of labels, and the known datasets that are laid out so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.image_index import stem_of
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.facts import Facts, facts_of
from skinedge.data.table_file import Table, fold_column
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
_COMPLETE = "Complete the folder, or take these out of the table or the folder."


def layout_of(table: Table) -> Layout:
    """Return the known layout that a table's columns mark, else UNKNOWN_LAYOUT."""
    return next((known for known in LAYOUTS if table.has(*known.marks)), UNKNOWN_LAYOUT)


def read_labelled(contents: Contents) -> Dataset | None:
    """Read the images that a table labels; None where no table does.

    A row without its image or without a label, an image without a row and two rows that differ are problems.
    Raises: DataError for several such tables, or one that numbers its rows instead of naming the images.
    """
    table = contents.label_table()
    if table is None or contents.is_one_hot(table):
        return None
    layout = layout_of(table)
    labels = labels_of(contents, table)
    left_out = _left_out(contents, table, layout, labels)
    labels = {image: label for image, label in labels.items() if image not in left_out}
    refuse_unlabelled(contents, table, labels)
    places = locate(contents, table, labels, left_out)
    facts = facts_of(contents)
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


def labels_of(contents: Contents, table: Table) -> dict[str, str]:
    """Return image id -> label, '' for a row without one. Rows without an image, and two that differ, are problems."""
    roles = contents.roles[table.name]
    return {image: roles.label_of(row) for image, row in distinct_rows(contents, table, roles.image)}


def refuse_unlabelled(contents: Contents, table: Table, labels: Mapping[str, str]) -> None:
    """Add a problem for the images whose label is ''."""
    cases = [(image, contents.find(table.name, image) or "") for image, label in labels.items() if not label]
    refuse_rows(contents, table, f"rows without {' or '.join(contents.roles[table.name].labels)}", cases)


def refuse_rows(contents: Contents, table: Table, what: str, cases: Sequence[tuple[str, str]]) -> None:
    """Add a problem of a table's rows. cases: as `Contents.refuse` takes them."""
    contents.refuse(f"{what} in {table.name}", cases, where=str(contents.root / table.name), todo="Correct the table.")


def distinct_rows(contents: Contents, table: Table, key: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (value of the column `key`, row), of rows with equal cells in the columns that are used the first.

    Rows without a value, and two that differ, are problems.
    """
    rows: dict[str, dict[str, str]] = {}
    unused = {fold_column(column) for column in contents.unused_columns(table)}
    nameless, different = [], {}
    for number, row in enumerate(table.rows):
        first = rows.setdefault(row[key], row) if row[key] else {}
        if not row[key]:
            nameless.append((f"line {table.line(number)}", ""))
        elif any(first[column] != value for column, value in row.items() if column not in unused):
            different[row[key]] = contents.find(table.name, row[key]) or ""
    refuse_rows(contents, table, f"rows without {key}", nameless)
    refuse_rows(contents, table, "images with two different rows", list(different.items()))
    yield from rows.items()


def locate(
    contents: Contents, table: Table, labels: Mapping[str, str], left_out: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """Return path of each image -> (image id, label), sorted by path, without the ids whose label is ''.

    left_out: ids of images that are known and not used. An image without a row is a problem, as are those of `place`.
    Raises: as `place`.
    """
    places = place(contents, table, labels)
    others = {path for image in left_out if (path := contents.find(table.name, image)) is not None}
    refuse_without_row(contents, table.name, {*places, *others})
    return {path: named for path, named in sorted(places.items()) if named[1]}


def place(contents: Contents, table: Table, labels: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return path of each image -> (image id, label). A label without its image and two ids of one are problems.

    Raises: DataError for a table that numbers its rows instead of naming the images.
    """
    places: dict[str, tuple[str, str]] = {}
    missing, twice = [], []
    for image, label in labels.items():
        path = contents.find(table.name, image)
        if path is None:
            missing.append((image, ""))
        elif places.setdefault(path, (image, label))[0] != image:
            twice.append((f"{places[path][0]} and {image}", path))
    if len(missing) == len(labels) > 1 and all(image.isdecimal() for image, _ in missing):
        raise DataError(
            f"{table.name} numbers its rows instead of naming the images",
            where=str(contents.root / table.name),
            todo="Take the table from the dataset's own page: copies without the images' names cannot be matched.",
        )
    contents.refuse(f"images of {table.name} are missing", sorted(missing), todo=_COMPLETE)
    refuse_rows(contents, table, "images with two ids", twice)
    return places


def refuse_without_row(contents: Contents, name: str, known: Collection[str]) -> None:
    """Add a problem for the images that are not among `known` paths. name: of the table or tables of labels."""
    ambiguous = {path for paths in contents.ambiguous.values() for path in paths}
    cases = [(image, image) for image in contents.index.without({*known, *ambiguous})]
    contents.refuse(f"images have no row in {name}", cases, todo=_COMPLETE)


def as_sample(image: str, path: str, label: str, facts: Mapping[str, Facts]) -> Sample:
    """Return the sample with what the tables tell of it."""
    own = facts.get(path, Facts())
    return Sample(stem_of(image), path, label, own.lesion, patient_id=own.patient, meta=own.meta)


def dataset_of(contents: Contents, kind: str, domain: str, samples: list[Sample]) -> Dataset:
    """Return the dataset of these samples, with its labels sorted; their paths are their ids where names repeat."""
    if len({sample.image_id for sample in samples}) < len(samples):
        samples = [replace(sample, image_id=sample.path) for sample in samples]
    labels = tuple(sorted({sample.label for sample in samples}))
    return Dataset(contents.root, kind, labels, tuple(samples), domain)
