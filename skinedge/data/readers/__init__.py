"""Read labelled images in the layout of HAM10000, an ISIC challenge, a MedMNIST archive or class folders."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset, isic_id
from skinedge.data.folder import Folder, list_folder
from skinedge.data.readers import medmnist
from skinedge.data.readers.class_folders import read_class_folders
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.labelled import read_labelled
from skinedge.data.readers.one_hot import read_one_hot
from skinedge.data.readers.ph2 import read_ph2

_LINE_BREAKING = frozenset({"Cc", "Zl", "Zp", "Cs"})  # Unicode categories; surrogates: bytes that are not UTF-8
# By what a folder holds, most specific first; class folders are what is left.
READERS = (read_ph2, read_one_hot, read_labelled)


def read(root: Path) -> Dataset:
    """Read a folder (or .npz file): a table of labels takes precedence, then class folders, then an archive.

    Excluded images (`list_folder`) and unsupported formats (.heic, ...) are skipped with a note; tables that are not
    understood are named. Official splits (MedMNIST, folders named train, val, test) are kept in `Sample.split`.
    Raises: DataError for a missing folder, no image, fewer than two classes, an image without a label, a label
        without an image, an image id with two labels, or two tables that could both be the labels.
    """
    if root.is_file() and root.suffix == ".npz":
        return _checked(medmnist.read(root.parent, root.name))
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), todo="Sample data: skinedge data synth OUT")
    folder = list_folder(root)
    folder.note_left_out()
    if not folder.images and folder.archives:
        if len(folder.archives) > 1:
            names = ", ".join(folder.archives[:5])
            raise DataError(f"several archives: {names}", where=str(root), todo="Give the path of one .npz file.")
        return _checked(_marked(medmnist.read(root, folder.archives[0]), folder))
    contents = Contents.of(folder)
    tried = (reader(contents) for reader in READERS)
    dataset = next((dataset for dataset in tried if dataset is not None), None) or read_class_folders(contents)
    contents.note_tables()
    return _checked(_marked(dataset, folder))


def _marked(dataset: Dataset, folder: Folder) -> Dataset:
    """Mark a dataset as synthetic if any image is: a mixture must not pass for real data."""
    synthetic = folder.marked_synthetic or any(s.image_id.upper().startswith("SYNTHETIC") for s in dataset.samples)
    if not synthetic:
        return dataset
    return Dataset(dataset.root, dataset.kind, dataset.labels, dataset.samples, "synthetic", True)


def _checked(dataset: Dataset) -> Dataset:
    """Return the dataset. Raises: DataError for fewer than two classes, or an image with two labels."""
    where = str(dataset.root)
    if len(dataset.labels) < 2:
        raise DataError(
            f"found only one class: {dataset.labels[0]}" if dataset.labels else "found no classes",
            where=where,
            todo="Give a folder with one folder per class (at least two), or with a metadata table.",
        )
    odd = [label for label in dataset.labels if any(unicodedata.category(c) in _LINE_BREAKING for c in label)]
    if odd:
        raise DataError(
            f"class names with control characters, line breaks or other bytes than UTF-8: {', '.join(map(repr, odd))}",
            where=where,
            todo="Rename them: a list of labels has one line for each class.",
        )
    labels: dict[str, str] = {}
    for sample in dataset.samples:
        name = isic_id(sample) or sample.image_id
        if labels.setdefault(name, sample.label) != sample.label:
            raise DataError(f"image {name} has two labels: {labels[name]} and {sample.label}", where=where)
    return dataset
