"""Any table with a column of images and a column of labels, and the known datasets that are laid out so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from skinedge.data.columns import Roles
from skinedge.data.dataset import Dataset, Sample, isic_id
from skinedge.data.image_index import stem_of
from skinedge.data.readers.contents import Contents, Facts, only_one
from skinedge.data.table_file import Table, fold_column
from skinedge.system.progress import note


@dataclass(frozen=True)
class Layout:
    """A dataset whose table is known by its columns.

    kind: name for the screen; domain: 'dermoscopic', 'clinical' or 'mixed', '' where a column of image types tells;
    marks: columns (folded) that no other layout has together; second_images: columns that name further images of the
    same lesion, which are left out.
    """

    kind: str
    domain: str
    marks: tuple[str, ...]
    second_images: tuple[str, ...] = ()


# Most specific first.
LAYOUTS = (
    Layout("HAM10000", "dermoscopic", ("image_id", "lesion_id", "dx")),
    Layout("ISIC 2024 (SLICE-3D)", "clinical", ("isic_id", "iddx_full")),
    Layout("ISIC archive", "", ("isic_id", "diagnosis_1")),
    Layout("ISIC archive", "", ("isic_id", "diagnosis")),
    Layout("ISIC 2020", "dermoscopic", ("image_name", "benign_malignant")),
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


def label_tables(contents: Contents) -> list[Table]:
    """Return the tables that can be the labels, with a column of images and one of labels."""
    return [table for table in contents.label_tables if not contents.is_one_hot(table)]


def find_label_table(contents: Contents) -> Table | None:
    """Return the one table that labels the folder's images, None where none does. Raises: DataError for several."""
    return only_one(contents, label_tables(contents))


def read_labelled(contents: Contents) -> Dataset | None:
    """Read the images that a table labels; None where no table does.

    A row without its image or without a label, an image without a row and two rows that differ are problems.
    Raises: DataError for several such tables.
    """
    table = find_label_table(contents)
    if table is None:
        return None
    layout = layout_of(table)
    labels = labels_of(contents, table, contents.roles[table.name])
    refuse_unlabelled(contents, table, labels)
    places = locate(contents, table.name, labels, _second_images(contents, table, layout.second_images))
    facts = contents.facts()
    samples = [as_sample(image, path, label, facts) for path, (image, label) in places.items()]
    return dataset_of(contents, layout.kind, layout.domain or domain_of(samples), samples)


def domain_of(samples: Sequence[Sample]) -> str:
    """Return the domain that a column of image types tells, else 'dermoscopic' for the ISIC archive's images."""
    types = {sample.meta.get("image_type", "").casefold().partition(":")[0] for sample in samples}
    if types == {""}:
        return domain_by_name(samples)
    known = {"dermoscopic": "dermoscopic", "clinical": "clinical", "overview": "clinical", "tbp tile": "clinical"}
    domains = {known.get(kind, "mixed") for kind in types}
    return domains.pop() if len(domains) == 1 else "mixed"


def domain_by_name(samples: Sequence[Sample]) -> str:
    """Return 'dermoscopic' if every image has a name of the ISIC archive, else 'unknown'."""
    return "dermoscopic" if all(isic_id(sample) for sample in samples) else "unknown"


def labels_of(contents: Contents, table: Table, roles: Roles) -> dict[str, str]:
    """Return image id -> label, '' where the row has none."""
    return {image: roles.label_of(row) for image, row in distinct_rows(contents, table, roles.image)}


def refuse_unlabelled(contents: Contents, table: Table, labels: Mapping[str, str]) -> None:
    """Add a problem for images without a label."""
    columns = " or ".join(contents.roles[table.name].labels)
    cases = [(image, contents.find(table.name, image) or "") for image, label in labels.items() if not label]
    refuse_rows(contents, table, f"rows without {columns}", cases)


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
    contents: Contents, table: str, labels: Mapping[str, str], left_out: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """Return path of each image -> (image id, label), sorted by path, without the ids whose label is ''.

    A label without its image, an image without a label and two ids for one image are problems.
    table: name of the table of labels; left_out: ids of images that are known and not used.
    """
    places: dict[str, tuple[str, str]] = {}
    missing, twice = [], []
    for image, label in labels.items():
        path = contents.find(table, image)
        if path is None:
            missing.append((image, ""))
        elif places.setdefault(path, (image, label))[0] != image:
            twice.append((f"{places[path][0]} and {image}", path))
    others = {path for image in left_out if (path := contents.find(table, image)) is not None}
    known = {*places, *others, *(path for paths in contents.ambiguous.values() for path in paths)}
    unlabelled = [(image, image) for image in contents.index.without(known)]
    todo = "Complete the folder, or take these out of the table or the folder."
    contents.refuse(f"images of {table} are missing", sorted(missing), todo=todo)
    contents.refuse(f"images have no row in {table}", unlabelled, todo=todo)
    contents.refuse(f"images have two ids in {table}", twice, todo="Correct the table.")
    return {path: named for path, named in sorted(places.items()) if named[1]}


def _second_images(contents: Contents, table: Table, columns: Sequence[str]) -> set[str]:
    """Return the ids of further images of the same lesions, with a note."""
    ids = {row[column] for row in table.rows for column in columns if row[column]}
    ids = {image for image in ids if contents.find(table.name, image) is not None}
    if ids:
        note(f"left out: {len(ids)} further images of the same lesions (column {', '.join(columns)} of {table.name})")
    return ids


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
