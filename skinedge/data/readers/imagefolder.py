"""Hugging Face's imagefolder: a metadata.csv or metadata.jsonl in each folder of images, with file_name and label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from skinedge.data.dataset import Dataset
from skinedge.data.readers.class_folders import OFFICIAL
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.domains import domain_of
from skinedge.data.readers.labelled import as_sample, dataset_of, label_tables, labels_of, locate, refuse_unlabelled
from skinedge.data.table_file import Table


def read_imagefolder(contents: Contents) -> Dataset | None:
    """Read the images that metadata tables label; None where there is none, or where other tables have labels too.

    Folders train, validation and test are official splits.
    Raises: DataError for an image without a row or label, or a row without its image.
    """
    tables = label_tables(contents)
    if not tables or not all(_is_metadata(table) for table in tables):
        return None
    labels: dict[str, str] = {}
    for table in tables:
        own = labels_of(contents, table, contents.roles[table.name])
        refuse_unlabelled(contents, table, own)
        labels |= {(PurePosixPath(table.name).parent / image).as_posix(): label for image, label in own.items()}
    facts = contents.facts()
    name = tables[0].name if len(tables) == 1 else f"{len(tables)} tables"
    places = locate(contents, name, labels)
    samples = [as_sample(image, path, label, facts) for path, (image, label) in places.items()]
    splits = {_folder(sample.path): OFFICIAL.get(_folder(sample.path).lower(), "") for sample in samples}
    if all(splits.values()) and len(set(splits.values())) > 1:
        samples = [replace(sample, image_id=sample.path, split=splits[_folder(sample.path)]) for sample in samples]
    return dataset_of(contents, "imagefolder", domain_of(samples), samples)


def _is_metadata(table: Table) -> bool:
    return PurePosixPath(table.name).stem.lower() == "metadata" and table.has("file_name")


def _folder(path: str) -> str:
    """Return the top folder of a path, '' for a file directly in the root."""
    return PurePosixPath(path).parts[0] if len(PurePosixPath(path).parts) > 1 else ""
