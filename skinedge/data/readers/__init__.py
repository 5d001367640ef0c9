"""Read labelled images in the layout of HAM10000, an ISIC challenge, a MedMNIST archive or class folders."""

from __future__ import annotations

import re
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.folder import Folder, list_folder
from skinedge.data.readers import medmnist, tables

OFFICIAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "test": "test",
    "testing": "test",
}
_ISIC = re.compile(r"ISIC_\d{5,}", re.IGNORECASE)


def read(root: Path) -> Dataset:
    """Read a folder (or .npz file): a table of labels takes precedence, then class folders, then an archive.

    Excluded images (`list_folder`) and unsupported formats (.heic, ...) are skipped with a note.
    Official splits (MedMNIST, folders named train, val, test) are kept in `Sample.split`.
    Raises: DataError for a missing folder, no image, fewer than two classes, an image without a label, a label
        without an image, an image id with two labels, or two tables that could both be the labels.
    """
    if root.is_file() and root.suffix == ".npz":
        return _checked(medmnist.read(root.parent, root.name))
    if not root.is_dir():
        raise DataError("no such folder", where=str(root), todo="Sample data: skinedge data synth OUT")
    folder = list_folder(root)
    folder.note_left_out()
    dataset = tables.read_ham10000(folder.root, folder.images, folder.tables)
    dataset = dataset or tables.read_isic(folder.root, folder.images, folder.tables)
    if dataset is None and not folder.images and len(folder.archives) > 1:
        names = ", ".join(folder.archives[:5])
        raise DataError(f"several archives: {names}", where=str(root), todo="Give the path of one .npz file.")
    if dataset is None and not folder.images and folder.archives:
        dataset = medmnist.read(root, folder.archives[0])
    return _checked(_marked(dataset or _read_class_folders(folder), folder))


def isic_id(sample: Sample) -> str:
    """Return the ISIC archive's id in a sample's name ('ISIC_0024306'), '' for none."""
    match = _ISIC.search(sample.image_id) or _ISIC.search(Path(sample.path).stem)
    return match.group().upper() if match else ""


def _read_class_folders(folder: Folder) -> Dataset:
    if not folder.images:
        raise DataError(
            "no images found (looked for " + ", ".join(sorted(IMAGE_SUFFIXES)) + ")", where=str(folder.root)
        )
    _refuse_lost_lesions(folder)
    prefix = _common_prefix(folder.images)
    parts = [path.removeprefix(prefix).split("/") for path in folder.images]
    tops = {part[0].lower() for part in parts if len(part) > 1}
    official = tops <= set(OFFICIAL) and len({OFFICIAL[top] for top in tops}) > 1
    depth = 1 if official else 0
    loose = [path for path, part in zip(folder.images, parts, strict=True) if len(part) <= depth + 1]
    if loose:
        raise DataError(
            f"{len(loose)} images are in no class folder: {', '.join(loose[:3])}",
            where=str(folder.root),
            todo="Put each image into a folder named after its class, or add a metadata table.",
        )
    stems = [Path(path).stem for path in folder.images]
    unique = len(set(stems)) == len(stems)
    lesions = tables.read_lesions(folder.root, folder.tables)
    meta = tables.read_meta(folder.root, folder.tables)
    samples = tuple(
        Sample(
            image_id=stem if unique else path,
            path=path,
            label=part[depth],
            lesion_id=lesions.get(stem, ""),
            split=OFFICIAL[part[0].lower()] if official else "",
            meta=meta.get(stem, {}),
        )
        for path, part, stem in zip(folder.images, parts, stems, strict=True)
    )
    dermoscopic = all(isic_id(sample) for sample in samples)
    labels = tuple(sorted({sample.label for sample in samples}))
    return Dataset(folder.root, "class folders", labels, samples, "dermoscopic" if dermoscopic else "unknown")


def _common_prefix(paths: tuple[str, ...]) -> str:
    """Return the common parent folders above the class folders, '' or with a trailing '/'."""
    prefix = ""
    while True:
        rest = [path.removeprefix(prefix).split("/") for path in paths]
        tops = {part[0] for part in rest}
        if len(tops) > 1 or any(len(part) < 3 for part in rest):
            return prefix
        prefix += f"{tops.pop()}/"


def _refuse_lost_lesions(folder: Folder) -> None:
    """Refuse images whose lesion ids are in a table one level up: without it, lesions would leak between splits."""
    parent = folder.root.resolve().parent
    csv_files = tuple(sorted(path.name for path in parent.glob("*.csv")))
    for table in tables.ham10000_tables(parent, csv_files):
        image_ids = {row["image_id"] for row in table.rows}
        if any(Path(path).stem in image_ids for path in folder.images):
            raise DataError(
                f"{table.name} in the parent folder contains these images' lesion ids",
                where=str(folder.root),
                todo="Give the parent folder instead, so that no lesion is in two splits.",
            )


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
    labels: dict[str, str] = {}
    for sample in dataset.samples:
        name = isic_id(sample) or sample.image_id
        if labels.setdefault(name, sample.label) != sample.label:
            raise DataError(f"image {name} has two labels: {labels[name]} and {sample.label}", where=where)
    return dataset
