"""Tables with a column for each class: ISIC challenges, by image, and MILK10k, by lesion."""

from __future__ import annotations

from collections.abc import Sequence

from skinedge.core.errors import DataError
from skinedge.data.columns import IMAGE, LESION, classes_of, is_bit, is_one_hot, key_of
from skinedge.data.dataset import Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.labelled import as_sample, dataset_of, distinct_rows, locate, only_one
from skinedge.data.table_file import Table, fold_column

# ISIC 2016 and 2017 (Part 3) have a column for two of three classes.
_PART_3, _NEITHER = frozenset({"melanoma", "seborrheic_keratosis"}), "nevus"


def read_one_hot(contents: Contents) -> Dataset | None:
    """Read the images that a one-hot table labels; None where no table is one-hot.

    Raises: DataError for several such tables, a row without exactly one 1, and as `readers.labelled.read_labelled`.
    """
    table = only_one(contents, [table for table in contents.tables if is_one_hot(table)])
    if table is None:
        return None
    key = key_of(table)
    classes = classes_of(table)
    labels = {name: _label(contents, table, row, key, classes) for name, row in distinct_rows(contents, table, key)}
    kind = "ISIC challenge"
    if key in LESION:
        labels, kind = _by_image(contents, table, labels), "MILK10k"
    facts = contents.facts()
    places = locate(contents, table.name, labels)
    samples = [as_sample(image, path, label, facts) for path, (image, label) in places.items()]
    return dataset_of(contents, kind, domain_of(samples, "dermoscopic", isic=True), samples)


def _label(contents: Contents, table: Table, row: dict[str, str], key: str, classes: Sequence[str]) -> str:
    if not row[key]:
        raise DataError(f"a row without {key}", where=str(contents.root / table.name))
    values = {name: row[fold_column(name)] for name in classes}
    hot = [name for name, value in values.items() if is_bit(value) and float(value.replace(",", ".")) == 1.0]
    bits = all(is_bit(value) for value in values.values())
    if bits and not hot and {fold_column(name) for name in classes} == _PART_3:
        return _NEITHER
    if len(hot) != 1 or not bits:
        what = "image" if key in IMAGE else "lesion"
        raise DataError(
            f"{what} {row[key]} needs exactly one 1 and otherwise 0s, has 1 in {hot}",
            where=str(contents.root / table.name),
        )
    return hot[0]


def _by_image(contents: Contents, truth: Table, labels: dict[str, str]) -> dict[str, str]:
    """Return image id -> label, from labels by lesion and the table that says which lesion an image shows.

    Raises: DataError without such a table, or for an image of a lesion without a label.
    """
    where = str(contents.root / truth.name)
    for table in contents.tables:
        roles = contents.roles[table.name]
        if table.name != truth.name and roles.image and roles.lesion:
            lesions = {row[roles.image]: row[roles.lesion] for row in table.rows if row[roles.image]}
            unlabelled = [image for image, lesion in lesions.items() if lesion not in labels]
            if unlabelled:
                raise DataError(
                    f"{len(unlabelled)} images show a lesion without a label, e.g. {unlabelled[0]}", where=where
                )
            return {image: labels[lesion] for image, lesion in lesions.items()}
    raise DataError(
        "it labels lesions, and no table says which images show them",
        where=where,
        todo="Put the dataset's metadata table, with isic_id and lesion_id, beside it.",
    )
