"""Hugging Face's imagefolder: a metadata.csv or metadata.jsonl in each folder of images, with file_name and label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from skinedge.data.dataset import OFFICIAL, Dataset
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.facts import facts_of
from skinedge.data.readers.labelled import (
    as_sample,
    dataset_of,
    labels_of,
    place,
    refuse_unlabelled,
    refuse_without_row,
)
from skinedge.data.table_file import Table


def read_imagefolder(contents: Contents) -> Dataset | None:
    """Read the images that metadata tables label; None where there is none, or where other tables have labels too.

    Folders train, validation and test are official splits. Problems are those of `readers.labelled.read_labelled`, and
    an image with different labels in two tables. Of several tables, each names only images in and below its own folder.
    Raises: DataError for a table that numbers its rows.
    """
    tables = contents.label_tables
    if not tables or not all(_is_metadata(table) and not contents.is_one_hot(table) for table in tables):
        return None
    if len(tables) > 1:
        contents.local.update(table.name for table in tables)
    places: dict[str, tuple[str, str]] = {}
    contradictions = []
    for table in tables:
        labels = labels_of(contents, table)
        refuse_unlabelled(contents, table, labels)
        for path, named in place(contents, table, labels).items():
            if places.setdefault(path, named)[1] != named[1]:
                contradictions.append((path, path))
    contents.refuse("images have different labels in two tables", contradictions, todo="Correct the tables.")
    refuse_without_row(contents, tables[0].name if len(tables) == 1 else f"{len(tables)} tables", places)
    facts = facts_of(contents)
    samples = [as_sample(image, path, label, facts) for path, (image, label) in sorted(places.items()) if label]
    splits = {_folder(sample.path): OFFICIAL.get(_folder(sample.path).lower(), "") for sample in samples}
    if all(splits.values()) and len(set(splits.values())) > 1:
        samples = [replace(sample, split=splits[_folder(sample.path)]) for sample in samples]
    return dataset_of(contents, "imagefolder", domain_of(samples), samples)


def _is_metadata(table: Table) -> bool:
    return PurePosixPath(table.name).stem.lower() == "metadata" and table.has("file_name")


def _folder(path: str) -> str:
    """Return the top folder of a path, '' for a file directly in the root."""
    return PurePosixPath(path).parts[0] if len(PurePosixPath(path).parts) > 1 else ""
