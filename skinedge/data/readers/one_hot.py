"""Tables with a column for each class: ISIC challenges, by image, and MILK10k, by lesion."""

from __future__ import annotations

from collections.abc import Sequence

from skinedge.core.errors import DataError
from skinedge.data.columns import classes_of, is_bit, key_of
from skinedge.data.dataset import Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.facts import facts_of
from skinedge.data.readers.labelled import as_sample, dataset_of, distinct_rows, locate, refuse_rows
from skinedge.data.table_file import Table, fold_column

# ISIC 2016 and 2017 (Part 3) have a column for two of three classes.
_PART_3, _NEITHER = frozenset({"melanoma", "seborrheic_keratosis"}), "nevus"


def read_one_hot(contents: Contents) -> Dataset | None:
    """Read the images that a one-hot table labels; None where no table is one-hot.

    A row without exactly one 1 is a problem, as are those of `readers.labelled.locate`.
    Raises: DataError for several such tables.
    """
    table = contents.label_table()
    if table is None or not contents.is_one_hot(table):
        return None
    roles = contents.roles[table.name]
    key, classes = key_of(roles), classes_of(table, roles)
    labels: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for name, row in distinct_rows(contents, table, key):
        labels[name], hot = _label(row, classes)
        if not labels[name]:
            wrong[name] = ", ".join(hot) or "no class"
    cases = [(f"{name} (1 in {hot})", contents.find(table.name, name) or "") for name, hot in wrong.items()]
    refuse_rows(contents, table, "rows without exactly one 1 and otherwise 0s", cases)
    kind = "ISIC challenge"
    if not roles.image:
        labels, kind = _by_image(contents, table, labels), "MILK10k"
    facts = facts_of(contents)
    places = locate(contents, table, labels)
    samples = [as_sample(image, path, label, facts) for path, (image, label) in places.items()]
    return dataset_of(contents, kind, domain_of(samples, "dermoscopic", isic=True), samples)


def _label(row: dict[str, str], classes: Sequence[str]) -> tuple[str, list[str]]:
    """Return the row's label, '' unless exactly one class is 1 and all others 0, and the classes that are 1."""
    values = {name: row[fold_column(name)] for name in classes}
    hot = [name for name, value in values.items() if is_bit(value) and float(value.replace(",", ".")) == 1.0]
    bits = all(is_bit(value) for value in values.values())
    if bits and not hot and {fold_column(name) for name in classes} == _PART_3:
        return _NEITHER, hot
    return hot[0] if len(hot) == 1 and bits else "", hot


def _by_image(contents: Contents, truth: Table, labels: dict[str, str]) -> dict[str, str]:
    """Return image id -> label, '' for an image of a lesion without one, from labels by lesion.

    Raises: DataError without a table that says which lesion an image shows.
    """
    where = str(contents.root / truth.name)
    for table in contents.tables:
        roles = contents.roles[table.name]
        if table.name != truth.name and roles.image and roles.lesion:
            lesions = {row[roles.image]: row[roles.lesion] for row in table.rows if row[roles.image]}
            unlabelled = [
                (image, contents.find(table.name, image) or "") for image, name in lesions.items() if name not in labels
            ]
            refuse_rows(contents, truth, "images show a lesion without a row", unlabelled)
            shown = set(lesions.values())
            absent = [(lesion, "") for lesion in labels if lesion not in shown]
            refuse_rows(contents, truth, f"lesions have no image in {table.name} and a row", absent)
            return {image: labels.get(lesion, "") for image, lesion in lesions.items()}
    raise DataError(
        "it labels lesions, and no table says which images show them",
        where=where,
        todo="Put the dataset's metadata table, with isic_id and lesion_id, beside it.",
    )
