"""Any table with a column of images and a column of labels, and the known datasets that are laid out so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from skinedge.core.errors import DataError
from skinedge.data.columns import Roles
from skinedge.data.dataset import Dataset, Sample, isic_id
from skinedge.data.image_index import stem_of
from skinedge.data.readers.contents import Contents, Facts
from skinedge.data.table_file import Table
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


def find_label_table(contents: Contents) -> Table | None:
    """Return the one table that labels the folder's images, None where none does.

    Raises: DataError when there are several.
    """
    roles = contents.roles
    tables = [table for table in contents.tables if roles[table.name].image and roles[table.name].labels]
    return only_one(contents, tables)


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
    roles = contents.roles[table.name]
    layout = next((known for known in LAYOUTS if table.has(*known.marks)), UNKNOWN_LAYOUT)
    places = locate(contents, table, labels_of(contents, table, roles), layout.second_images)
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
    """Return image id -> label.

    Raises: DataError for a row without one of them, or two different rows for an image.
    """
    where = str(contents.root / table.name)
    labels: dict[str, str] = {}
    for image, row in distinct_rows(contents, table, roles.image):
        label = roles.label_of(row)
        if not image or not label:
            shown = {column: value for column, value in row.items() if value}
            raise DataError(f"a row without {roles.image} or {' or '.join(roles.labels)}: {shown}", where=where)
        labels[image] = label
    return labels


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
    contents: Contents, table: Table, labels: Mapping[str, str], second_images: Sequence[str] = ()
) -> dict[str, tuple[str, str]]:
    """Return path of each image -> (image id, label), sorted by path. second_images: as in `Layout`.

    Raises: DataError for a label without its image, an image without a label, or two ids for one image.
    """
    places: dict[str, tuple[str, str]] = {}
    missing: list[str] = []
    for image, label in labels.items():
        path = contents.index.find(image)
        if path is None:
            missing.append(image)
        elif places.setdefault(path, (image, label))[0] != image:
            raise DataError(
                f"{places[path][0]} and {image} are the same image, {path}", where=str(contents.root / table.name)
            )
    seconds = _second_images(contents, table, second_images)
    unlabelled = [image for image in contents.index.without(places) if image not in seconds]
    for count, what, listed in (
        (len(missing), f"images of {table.name} are missing", missing),
        (len(unlabelled), f"images have no row in {table.name}", unlabelled),
    ):
        if count:
            raise DataError(
                f"{count} {what}: {', '.join(sorted(listed)[:3])}{', ...' if count > 3 else ''}",
                where=str(contents.root),
                todo="Complete the folder, or take these out of the table or the folder.",
            )
    return dict(sorted(places.items()))


def _second_images(contents: Contents, table: Table, columns: Sequence[str]) -> set[str]:
    """Return the paths of further images of the same lesions, with a note."""
    ids = [row[column] for row in table.rows for column in columns if row[column]]
    paths = {path for image in ids if (path := contents.index.find(image)) is not None}
    if paths:
        note(f"left out: {len(paths)} further images of the same lesions (column {', '.join(columns)} of {table.name})")
    return paths


def as_sample(image: str, path: str, label: str, facts: Mapping[str, Facts]) -> Sample:
    """Return the sample with what the tables tell of it."""
    own = facts.get(path, Facts())
    return Sample(stem_of(image), path, label, own.lesion, patient_id=own.patient, meta=own.meta)


def dataset_of(contents: Contents, kind: str, domain: str, samples: list[Sample]) -> Dataset:
    """Return the dataset of these samples, with its labels sorted."""
    labels = tuple(sorted({sample.label for sample in samples}))
    return Dataset(contents.root, kind, labels, tuple(samples), domain)
