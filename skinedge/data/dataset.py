"""Dataset and Sample: the types that readers return and splits refine; images of archives; split.csv."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from skinedge.core.arrays import open_arrays
from skinedge.core.colour import SRGB
from skinedge.core.errors import DataError
from skinedge.core.files import read_regular
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import LARGEST, Pixels
from skinedge.data.csv_cells import from_cell, to_cell
from skinedge.data.hdf5_images import hdf5_member, image_bytes

SPLITS = ("train", "val", "cal", "test")
SPLIT_COLUMNS = ("image_id", "lesion_id", "label", "split", "path", "sha256")
OPTIONAL_COLUMNS = ("patient_id", "source", "stretch")  # only where an image has one
# Folders and values of tables that name an official split.
OFFICIAL = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"} | {
    "test": "test",
    "testing": "test",
}
SPLIT_BYTES = 256 << 20
_ARCHIVE_MEMBER = re.compile(r"(.*\.npz)#([^/.]*/[^/.]*)", re.IGNORECASE | re.DOTALL)
# Ids of lesions and patients that are unique across folders, such as 'HAM_0000118' and 'IP_7279968', unlike '17'.
GLOBAL_ID = re.compile(r"[A-Za-z]{2,}_")
_ISIC_ID = re.compile(r"ISIC_\d{5,}", re.IGNORECASE)
_HAM10000 = "ISIC_0024306", "ISIC_0034320"  # first and last of its ids in the ISIC archive


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    path: relative to the dataset's root, '/' as separator; an image inside a MedMNIST archive is
    'FILE.npz#SPLIT/INDEX', inside an HDF5 file 'FILE.hdf5#ID'. lesion_id: '' if unknown. split:
    'train', 'val', 'cal', 'test', or '' if unassigned. sha256: of the encoded image's bytes (of the
    array's bytes inside a MedMNIST archive), '' until computed; phash:
    `skinedge.data.hashing.perceptual_hash`, '' until computed.
    meta: sex, age, site, ... as far as the source has them; patient_id: '' if unknown; source: name of its folder
    among several, '' for one; stretch: 'WIDTHxHEIGHT' in pixels that the image is resized to first, '' for none.
    """

    image_id: str
    path: str
    label: str
    lesion_id: str = ""
    split: str = ""
    sha256: str = ""
    phash: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    patient_id: str = ""
    source: str = ""
    stretch: str = ""


@dataclass(frozen=True)
class DataSource:
    """One of several folders of a dataset, and what is recorded of it.

    name: its samples' `source`; path: relative to the dataset's root; kind, domain: as of a dataset; license: SPDX
    expression, '' if unknown; attribution: '' for none; labels: the classes that it distinguishes; reading:
    `ReadOptions.document` of how it was read.
    """

    name: str
    path: str
    kind: str
    domain: str
    license: str
    attribution: str
    labels: tuple[str, ...]
    reading: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Labelled images of a folder.

    kind: layout, for display ('class folders', 'HAM10000', 'ISIC challenge', 'MedMNIST');
    labels: class names, sorted; domain: 'dermoscopic', 'clinical', 'mixed', 'synthetic' or 'unknown';
    partial: label of samples whose class is only known to be one of several -> these classes; test_shares: name of a
    source ('' for a single folder) -> least share (0..1) of each class in test; sources: of several folders, else ().
    """

    root: Path
    kind: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    domain: str = "unknown"
    synthetic: bool = False
    partial: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    test_shares: Mapping[str, float] = field(default_factory=dict)
    sources: tuple[DataSource, ...] = ()


def isic_id(sample: Sample) -> str:
    """Return the ISIC archive's id in a sample's name ('ISIC_0024306'), '' for none."""
    match = _ISIC_ID.search(sample.image_id) or _ISIC_ID.search(Path(sample.path).stem)
    return match.group().upper() if match else ""


def in_ham10000(sample: Sample) -> bool:
    """Return True for an image of HAM10000, by its ISIC id."""
    return _HAM10000[0] <= isic_id(sample) <= _HAM10000[1]


def data_root(data: Path) -> Path:
    """Return the folder that samples' paths are relative to: `data`, or the folder of a MedMNIST archive."""
    return data.parent if data.suffix == ".npz" and not data.is_dir() else data


def images_of(data: Path | None, recorded: str) -> Path | None:
    """Return the root of a run's samples: `data`, else `recorded`, the manifest's data_root; None without both."""
    return data_root(data or Path(recorded)) if data or recorded else None


def archive_member(path: str) -> tuple[str, str]:
    """Split a sample's path into its file and its place in a MedMNIST archive, '' for an image file."""
    match = _ARCHIVE_MEMBER.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def file_of(path: str) -> str:
    """Return the file that holds a sample: the image file, MedMNIST archive or HDF5 file."""
    return hdf5_member(archive_member(path)[0])[0]


def load_pixels(root: Path, path: str, colour: str = SRGB) -> Pixels:
    """Decode one sample's image from a file or HDF5 file, by the rule `colour`, or from a MedMNIST archive.

    Returns: (H, W, 3) uint8. Raises: DataError when it cannot be read.
    """
    archive, item = archive_member(path)
    if hdf5_member(path)[1]:
        data = image_bytes(root / path)
        try:
            return load_image(data, colour)
        except DataError as error:
            raise DataError(error.what, where=str(root / path)) from None
    if not item:
        return load_image(root / path, colour)
    split, _, index = item.partition("/")
    images = archive_images(root / archive, split)
    if not index.isdecimal() or int(index) >= len(images):
        raise DataError(f"no image '{item}' in the archive", where=str(root / archive))
    image = images[int(index)]
    return np.ascontiguousarray(image if image.ndim == 3 else np.stack([image] * 3, axis=-1))


_archives: dict[tuple[Path, str], Pixels] = {}
_archives_lock = threading.Lock()  # threads request the same split at once, and decompressing it is slow


def archive_images(path: Path, split: str) -> Pixels:
    """Return the images of one official split of a MedMNIST archive, cached in memory: (N, H, W[, 3]) uint8."""
    key = (path, split)
    with _archives_lock:
        if key not in _archives:
            with open_arrays(path, DataError, "a MedMNIST archive") as archive:
                _archives[key] = archive.read(f"{split}_images", "u", 3, 4)
        return _archives[key]


def write_split(samples: tuple[Sample, ...]) -> str:
    """Return the text of split.csv, with formulas escaped for spreadsheets."""
    text = io.StringIO()
    optional = [column for column in OPTIONAL_COLUMNS if any(getattr(sample, column) for sample in samples)]
    columns = [*SPLIT_COLUMNS, *optional]
    rows = [[to_cell(getattr(sample, column)) for column in columns] for sample in samples]
    has_cr = any("\r" in cell for row in rows for cell in row)  # the csv module does not quote it by itself
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if has_cr else csv.QUOTE_MINIMAL)
    writer.writerows([columns, *rows])
    return text.getvalue()


def read_split(path: Path) -> tuple[Sample, ...]:
    """Read a split.csv.

    Raises: DataError when it cannot be read, lacks columns, has an unknown split name or a path outside the data root.
    """
    try:
        text = read_regular(path, SPLIT_BYTES, DataError).decode("utf-8", "surrogateescape")  # as `files.encode`
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise DataError(f"unreadable split file ({error})", where=str(path)) from None
    if not rows or not set(SPLIT_COLUMNS) <= set(rows[0]):
        raise DataError(f"not a split file: it needs the columns {', '.join(SPLIT_COLUMNS)}", where=str(path))
    unknown = {row["split"] for row in rows} - set(SPLITS)
    if unknown:
        raise DataError(f"unknown split names {sorted(unknown)}", where=str(path), todo=f"Valid: {', '.join(SPLITS)}.")
    columns = (*SPLIT_COLUMNS, *OPTIONAL_COLUMNS)
    cells = ({name: from_cell(row.get(name) or "") for name in columns} for row in rows)
    samples = tuple(
        Sample(
            row["image_id"],
            row["path"],
            row["label"],
            row["lesion_id"],
            row["split"],
            row["sha256"],
            patient_id=row["patient_id"],
            source=row["source"],
            stretch=row["stretch"],
        )
        for row in cells
    )
    wrong = next((sample.stretch for sample in samples if sample.stretch and not is_size(sample.stretch)), None)
    if wrong is not None:
        raise DataError(f"the column 'stretch' has {wrong!r}, not WIDTHxHEIGHT", where=str(path))
    outside = next((sample.path for sample in samples if not _is_below(sample.path)), None)
    if outside is not None:
        raise DataError(f"the image path {outside!r} is not below the image folder", where=str(path))
    return samples


def is_size(text: str) -> bool:
    """Return True for 'WIDTHxHEIGHT' with sides of 1 to LARGEST pixels."""
    return re.fullmatch(r"[1-9]\d{0,3}x[1-9]\d{0,3}", text) is not None and max(map(int, text.split("x"))) <= LARGEST


def _is_below(name: str) -> bool:
    """Return True for a relative path without '..'; symbolic links inside the folder are allowed."""
    path = PurePosixPath(name)
    return bool(path.parts) and not (
        path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name
    )
