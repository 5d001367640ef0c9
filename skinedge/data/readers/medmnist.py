"""Read MedMNIST archives (Yang et al., Scientific Data 2023): arrays of images and labels with official splits."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from skinedge.core.arrays import open_arrays
from skinedge.core.errors import DataError
from skinedge.core.json_io import read_toml, refusal
from skinedge.data.dataset import Dataset, Sample, archive_images

SPLITS = ("train", "val", "test")
# Classes in the order of the archive's label numbers (MedMNIST's INFO table), in HAM10000's abbreviations.
DERMAMNIST = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


class LabelList(TypedDict):
    """Content of labels.toml: class names in the order of the label numbers."""

    labels: list[str]


def read(root: Path, name: str) -> Dataset:
    """Read the archive `root/name`; the paths of its samples are 'NAME#SPLIT/INDEX'.

    Class names: built in for dermamnist*.npz, else from labels.toml beside it: labels = ["...", ...].
    Raises: DataError when it is damaged, lacks class names, has several labels per image, or no 2-D images.
    """
    path = root / name
    samples: list[Sample] = []
    names = _class_names(path)
    for split, numbers in _labels(path).items():
        _check_images(path, split, len(numbers))
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(names):
            raise DataError(f"labels go up to {numbers.max()}, but there are {len(names)} class names", where=str(path))
        samples += [
            Sample(f"{path.stem}/{split}/{index}", f"{name}#{split}/{index}", names[number], split=split)
            for index, number in enumerate(numbers)
        ]
    labels = tuple(sorted({sample.label for sample in samples}))
    dermoscopic = path.name.lower().startswith("dermamnist")
    return Dataset(root, "MedMNIST", labels, tuple(samples), "dermoscopic" if dermoscopic else "unknown")


def _labels(path: Path) -> dict[str, NDArray[np.int64]]:
    with open_arrays(path, DataError, "a MedMNIST archive") as archive:
        arrays = {split: archive.read(f"{split}_labels", "biuf", 1, 2, 3) for split in SPLITS}
    for split, labels in arrays.items():
        if labels.ndim > 2 or prod(labels.shape[1:]) != 1 or labels.dtype.kind not in "iu":
            what = f"{split}_labels is {labels.dtype} {labels.shape}, not one class per image"
            raise DataError(what, where=str(path))
    return {split: labels.reshape(-1).astype(np.int64) for split, labels in arrays.items()}


def _check_images(path: Path, split: str, count: int) -> None:
    images = archive_images(path, split)
    flat = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if not flat or images.dtype != np.uint8 or len(images) != count or 0 in images.shape[1:]:
        raise DataError(
            f"{split}_images is {images.dtype} {images.shape}, not {count} grey or RGB uint8 images", where=str(path)
        )


def _class_names(path: Path) -> tuple[str, ...]:
    label_file = path.with_name("labels.toml")
    todo = f'Write {label_file.name} beside it, in the order of the label numbers: labels = ["nevus", "melanoma"]'
    if label_file.is_file():
        refuse = refusal("unusable list of labels", DataError, todo)
        names = read_toml(label_file, LabelList, error=refuse)["labels"]
        if not all(names):
            raise refuse("a label is empty", where=str(label_file))
        if len(set(names)) < len(names):
            raise DataError("duplicate label", where=str(label_file))
        return tuple(names)
    if path.name.lower().startswith("dermamnist"):
        return DERMAMNIST
    raise DataError("the archive does not name its classes", where=str(path), todo=todo)
