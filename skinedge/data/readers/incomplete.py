"""Recognize a folder that is a part of a public dataset, and say which part is missing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from skinedge.core.errors import DataError
from skinedge.core.taxonomy import find
from skinedge.data.columns import classes_of, is_bit, key_of
from skinedge.data.readers.contents import SPLIT, Contents, refuse_datasets
from skinedge.data.readers.labelled import UNKNOWN_LAYOUT, layout_of
from skinedge.data.readers.ph2 import TABLE as PH2_TABLE
from skinedge.data.table_file import Table, fold_column


@dataclass(frozen=True)
class Sign:
    """How a dataset names its images, and the tables that label them.

    paths: pattern in the path of an image, case does not count; tables: their file names; by_file: the pattern is of
    file names only, which class folders may hold too.
    """

    kind: str
    paths: str
    tables: tuple[str, ...]
    by_file: bool = False


YOLO_SUFFIXES = (".yaml", ".yml")  # of the file that describes a dataset in YOLO's layout
_END = r"\.\w+$"
# Most specific first.
SIGNS = (
    Sign("HAM10000", r"(^|/)HAM10000_images_part_\d/", ("HAM10000_metadata.csv",)),
    Sign(
        "MILK10k",
        r"(^|/)(MILK10k_\w+_Input|IL_\d+)/",
        ("MILK10k_Training_GroundTruth.csv", "MILK10k_Training_Metadata.csv"),
    ),
    Sign("ISIC 2016", r"(^|/)ISBI2016_ISIC_Part3\w*_Data/", ("ISBI2016_ISIC_Part3_Training_GroundTruth.csv",)),
    Sign("ISIC 2017", r"(^|/)ISIC-2017_\w+_Data/", ("ISIC-2017_Training_Part3_GroundTruth.csv",)),
    Sign("ISIC 2018", r"(^|/)ISIC2018_Task3_\w+_Input/", ("ISIC2018_Task3_Training_GroundTruth.csv",)),
    Sign("ISIC 2019", r"(^|/)ISIC_2019_\w+_Input/", ("ISIC_2019_Training_GroundTruth.csv",)),
    Sign("ISIC 2020", r"(^|/)ISIC_2020_\w+_JPEG/", ("train.csv",)),
    Sign("ISIC 2024 (SLICE-3D)", r"(^|/)train-image(/|\.hdf5#)", ("train-metadata.csv",)),
    Sign("PAD-UFES-20", r"(^|/)imgs_part_\d/", ("metadata.csv",)),
    Sign("PH2", r"(^|/)IMD\d{3}/", ("PH2_dataset.txt",)),
    Sign("Derm7pt", rf"(^|/)([a-z]{{3}})/\2\d{{3}}{_END}", ("meta/meta.csv",)),
    Sign("BCN20000", rf"(^|/)BCN_\d{{10}}{_END}", ("bcn_20k_train.csv",), by_file=True),
    Sign("PAD-UFES-20", rf"(^|/)PAT_\d+_\d+_\d+{_END}", ("metadata.csv",), by_file=True),
    Sign("Fitzpatrick17k", rf"(^|/)[0-9a-f]{{32}}{_END}", ("fitzpatrick17k.csv",), by_file=True),
    Sign("SCIN", rf"(^|/)-?\d{{16,20}}{_END}", ("scin_cases.csv", "scin_labels.csv"), by_file=True),
    Sign(
        "images of the ISIC archive",
        rf"(^|/)ISIC_\d{{7}}(_downsampled)?{_END}",
        ("metadata.csv (or the table of HAM10000 or of the challenge)",),
        by_file=True,
    ),
)
_IMAGES = {"Derm7pt": " (images/)", "PAD-UFES-20": " (imgs_part_1/, imgs_part_2/, imgs_part_3/)"}


def refuse_incomplete(contents: Contents, labels: Collection[str], below: Sequence[str]) -> None:
    """Raise a DataError for images of a known dataset without its tables, which are no class folders.

    labels: names of the folders that would be the classes; below: the images' paths from there on. A folder with the
    name of a condition is a class folder.
    """
    _refuse_numbered(contents)
    _refuse_yolo(contents)
    _refuse_single_class(contents)
    _refuse_several(contents)
    if any(find(label) for label in labels):
        return
    for sign in SIGNS:
        if len(labels) < 2 or not sign.by_file:
            pattern = re.compile(sign.paths, re.IGNORECASE)
            paths = contents.images if len(labels) < 2 else below
            if 2 * sum(bool(pattern.search(path)) for path in paths) > len(paths):
                _refuse(contents, sign)


def _refuse(contents: Contents, sign: Sign) -> None:
    present = {_stem(name) for name in (*contents.folder.tables, *contents.folder.others)}
    missing = [name for name in sign.tables if _stem(name) not in present]
    state = "missing" if missing else "not understood"
    names = missing or sign.tables
    others = not_understood(contents)
    raise DataError(
        f"looks like {sign.kind}: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} {state}",
        where=str(contents.root),
        lines=[
            *(f"  not understood: {table.describe()}" for table in others),
            *(f"  not read: {unread.describe()}" for unread in contents.unread),
        ],
        todo="\n".join(["The images' labels are in there: put it beside the images.", *map(choice, others[:1])]),
    )


def _refuse_single_class(contents: Contents) -> None:
    """Raise a DataError for a folder of images without tables or folders, named after a condition as its siblings."""
    root = contents.root.resolve()
    folder = contents.folder
    if folder.tables or folder.hdf5 or any("/" in image for image in folder.images) or not find(root.name):
        return
    siblings = sorted(path.name for path in root.parent.iterdir() if path.is_dir() and find(path.name))
    beside = f" (beside {', '.join(name for name in siblings if name != root.name)})" if len(siblings) > 1 else ""
    parent = root.parent if contents.root.parent == Path() else contents.root.parent
    raise DataError(
        f"looks like a single class, '{root.name}': its images lie directly in it{beside}",
        where=str(contents.root),
        todo=f"Give the parent folder, whose folders are the classes: {shlex.quote(str(parent))}",
    )


def _refuse_several(contents: Contents) -> None:
    """Raise a DataError for a folder of datasets: two folders, none a class, with two class folders each."""
    classes: dict[str, set[str]] = {}
    for image in contents.images:
        top, *others = image.split("/")[:-1] or [""]
        classes.setdefault(top, set()).update(name for name in others if find(name))
    datasets = sorted(top for top, names in classes.items() if len(names) > 1 and not find(top))
    if not any(SPLIT.match(name) for name in datasets):
        refuse_datasets(contents.root, datasets)


def yolo_error(where: Path) -> DataError:
    """Return the error for a dataset in YOLO's layout."""
    return DataError(
        "a dataset in YOLO's layout: it has boxes in images, and skinedge needs one class for each image",
        where=str(where),
        todo="Give a folder with one folder of images for each class, or a table with a row for each image:\n"
        "--table FILE.csv --columns image=COLUMN,label=COLUMN",
    )


def _refuse_yolo(contents: Contents) -> None:
    """Raise a DataError if most images have a text file of the same name in a folder `labels`."""
    boxes = {PurePosixPath(name).stem for name in contents.folder.others if "labels" in PurePosixPath(name).parts[:-1]}
    if boxes and 2 * sum(PurePosixPath(image).stem in boxes for image in contents.images) > len(contents.images):
        raise yolo_error(contents.root)


def not_understood(contents: Contents) -> list[Table]:
    """Return the tables with columns that no reader makes use of."""
    return [table for table in contents.tables if table.columns and not contents.is_understood(table)]


def choice(table: Table) -> str:
    """Return how to choose a table that is not understood."""
    return f"If {table.name} labels them: --table {table.name} --columns image=COLUMN,label=COLUMN"


def _stem(name: str) -> str:
    return PurePosixPath(name.split(" (")[0]).stem.lower()


def refuse_without_images(contents: Contents) -> None:
    """Raise a DataError for a known dataset's table of labels in a folder without images."""
    tables = [(_kind_of(contents, table), table.name) for table in contents.tables]
    tables += [("PH2", name) for name in contents.folder.others if PurePosixPath(name).name.lower() == PH2_TABLE]
    kind, name = next((pair for pair in tables if pair[0]), ("", ""))
    if kind:
        raise DataError(
            f"looks like {kind}: {name} is here, but its images{_IMAGES.get(kind, '')} are missing",
            where=str(contents.root),
            todo="Put the images' folder beside the table.",
        )


def _kind_of(contents: Contents, table: Table) -> str:
    layout = layout_of(table)
    if layout is not UNKNOWN_LAYOUT:
        return layout.kind
    if contents.is_one_hot(table):
        return "an ISIC challenge" if contents.roles[table.name].image else "MILK10k"
    return ""


def _refuse_numbered(contents: Contents) -> None:
    """Raise a DataError for a table with a column for each class that does not name the images."""
    for table in contents.tables:
        roles = contents.roles[table.name]
        classes = [name for name in classes_of(table, roles) if find(name)]
        bits = all(is_bit(row[fold_column(name)]) for row in table.rows for name in classes)
        if not key_of(roles) and len(classes) > 1 and bits:
            raise DataError(
                f"it labels rows ({', '.join(classes[:4])}), but does not name the images",
                where=str(contents.root / table.name),
                todo="Take the table from the dataset's own page: copies without the images' names cannot be matched.",
            )
