"""Read labelled images in the layout of HAM10000, an ISIC challenge, a MedMNIST archive or class folders."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.dataset import Dataset, isic_id
from skinedge.data.folder import Folder, list_folder
from skinedge.data.hdf5_images import HDF5_SUFFIXES, list_hdf5
from skinedge.data.readers import medmnist
from skinedge.data.readers.class_folders import read_class_folders
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.derm7pt import read_derm7pt
from skinedge.data.readers.imagefolder import read_imagefolder
from skinedge.data.readers.incomplete import refuse_without_images
from skinedge.data.readers.labelled import read_labelled
from skinedge.data.readers.one_hot import read_one_hot
from skinedge.data.readers.ph2 import read_ph2
from skinedge.data.readers.scin import read_scin
from skinedge.system.progress import note

_LINE_BREAKING = frozenset({"Cc", "Zl", "Zp"})  # Unicode categories
# By what a folder holds, most specific first; class folders are what is left.
READERS = (read_ph2, read_scin, read_one_hot, read_imagefolder, read_derm7pt, read_labelled)


def read(root: Path) -> Dataset:
    """Read a folder (or .npz file): a table of labels takes precedence, then class folders, then an archive.

    Excluded images (`list_folder`) and unsupported formats (.heic, ...) are skipped with a note; tables that are not
    understood are named. Official splits (MedMNIST, folders named train, val, test) are kept in `Sample.split`.
    Raises: DataError for a missing folder, no image, fewer than two classes, an image without a label, a label
        without an image, an image id with two labels, or two tables that could both be the labels.
    """
    if root.is_file() and root.suffix == ".npz":
        return _checked(medmnist.read(root.parent, root.name))
    if root.is_file() and root.suffix.lower() in HDF5_SUFFIXES:
        raise DataError("an HDF5 file of images has no labels", where=str(root), todo="Give the folder of its table.")
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), todo="Sample data: skinedge data synth OUT")
    folder = list_folder(root)
    folder.note_left_out()
    if not folder.images and folder.archives:
        if len(folder.archives) > 1:
            names = ", ".join(folder.archives[:5])
            raise DataError(f"several archives: {names}", where=str(root), todo="Give the path of one .npz file.")
        return _checked(_marked(medmnist.read(root, folder.archives[0]), folder))
    contents = Contents.of(_with_hdf5(folder))
    if not contents.folder.images:
        refuse_without_images(contents)
    tried = (reader(contents) for reader in READERS)
    dataset = next((dataset for dataset in tried if dataset is not None), None) or read_class_folders(contents)
    contents.note_tables()
    return _checked(_marked(dataset, folder))


def _with_hdf5(folder: Folder) -> Folder:
    """Add the images of HDF5 files where there are no image files; a challenge's test images have no labels."""
    if not folder.hdf5 or folder.images:
        unread = folder.hdf5
    else:
        unread = tuple(name for name in folder.hdf5 if Path(name).name.startswith("test") and len(folder.hdf5) > 1)
    if unread:
        why = "the folder has image files" if folder.images else "a challenge's test images"
        note(f"not read: {', '.join(unread)} ({why})")
    images = [path for name in folder.hdf5 if name not in unread for path in list_hdf5(folder.root, name)]
    return replace(folder, images=(*folder.images, *images))


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
            f"class names with control characters or line breaks: {', '.join(map(repr, odd))}",
            where=where,
            todo="Rename them: a list of labels has one line for each class.",
        )
    labels: dict[str, str] = {}
    for sample in dataset.samples:
        name = isic_id(sample) or sample.image_id
        if labels.setdefault(name, sample.label) != sample.label:
            raise DataError(f"image {name} has two labels: {labels[name]} and {sample.label}", where=where)
    return dataset
