"""What a folder of labelled images is, once read: the type that readers return and splits refine."""

from __future__ import annotations

import csv
import io
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from skinedge.core.arrays import open_arrays
from skinedge.core.errors import DataError
from skinedge.core.files import read_regular
from skinedge.core.image_file import load_image
from skinedge.core.preprocess import Pixels
from skinedge.data.csv_cells import from_cell, to_cell

SPLITS = ("train", "val", "cal", "test")
SPLIT_COLUMNS = ("image_id", "lesion_id", "label", "split", "path", "sha256")
PATIENT_COLUMN = "patient_id"  # only where a table tells the patients
SPLIT_BYTES = 256 << 20
_ARCHIVE_MEMBER = re.compile(r"(.*\.npz)#([^/.]*/[^/.]*)", re.IGNORECASE | re.DOTALL)
_ISIC_ID = re.compile(r"ISIC_\d{5,}", re.IGNORECASE)


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    path: relative to the dataset's root, '/' as separator; an image inside a MedMNIST archive is
    'FILE.npz#SPLIT/INDEX'. lesion_id: '' where unknown. split: 'train', 'val', 'cal', 'test', or ''
    where not decided. sha256: of the file's bytes (of the array's bytes inside an archive), '' until
    computed; phash: `skinedge.data.hashing.perceptual_hash`, '' until computed.
    meta: sex, age, site, ... where the source tells; patient_id: '' where unknown.
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


@dataclass(frozen=True)
class Dataset:
    """A folder's images with their labels.

    kind: what the reader found, for the screen ('class folders', 'HAM10000', 'ISIC challenge',
    'MedMNIST'); labels: class names, sorted; domain: 'dermoscopic', 'clinical', 'synthetic' or 'unknown'.
    """

    root: Path
    kind: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    domain: str = "unknown"
    synthetic: bool = False


def isic_id(sample: Sample) -> str:
    """The ISIC archive's id in a sample's name ('ISIC_0024306'), '' where it has none."""
    found = _ISIC_ID.search(sample.image_id) or _ISIC_ID.search(Path(sample.path).stem)
    return found.group().upper() if found else ""


def data_root(data: Path) -> Path:
    """The folder that samples' paths are relative to: `data`, or the folder of a MedMNIST archive."""
    return data.parent if data.suffix == ".npz" and not data.is_dir() else data


def images_of(data: Path | None, known: str) -> Path | None:
    """The folder that a run's samples are relative to: `data`, else the manifest's data_root; None without either."""
    return data_root(data or Path(known)) if data or known else None


def archive_member(path: str) -> tuple[str, str]:
    """Split a sample's path into its file and its place in a MedMNIST archive, '' for an image file."""
    match = _ARCHIVE_MEMBER.fullmatch(path)
    return (match[1], match[2]) if match else (path, "")


def load_pixels(root: Path, path: str) -> Pixels:
    """Decode one sample's image, from a file or from a MedMNIST archive.

    Returns: (H, W, 3) uint8. Raises: DataError when it cannot be read.
    """
    archive, place = archive_member(path)
    if not place:
        return load_image(root / path)
    split, _, index = place.partition("/")
    images = archive_images(root / archive, split)
    if not index.isdecimal() or int(index) >= len(images):
        raise DataError(f"no image '{place}' in the archive", where=str(root / archive))
    image = images[int(index)]
    return np.ascontiguousarray(image if image.ndim == 3 else np.stack([image] * 3, axis=-1))


_archives: dict[tuple[Path, str], Pixels] = {}
_archives_lock = threading.Lock()  # decompressing takes long, and threads ask for the same split at once


def archive_images(path: Path, split: str) -> Pixels:
    """The images of one official split of a MedMNIST archive: (N, H, W[, 3]) uint8, kept in memory."""
    key = (path, split)
    with _archives_lock:
        if key not in _archives:
            with open_arrays(path, DataError, "a MedMNIST archive") as archive:
                _archives[key] = archive.read(f"{split}_images", "u", 3, 4)
        return _archives[key]


def write_split(samples: tuple[Sample, ...]) -> str:
    """The text of split.csv; no cell is a formula to a spreadsheet."""
    out = io.StringIO()
    columns = [*SPLIT_COLUMNS, *([PATIENT_COLUMN] if any(sample.patient_id for sample in samples) else [])]
    rows = [[to_cell(getattr(sample, column)) for column in columns] for sample in samples]
    odd = any("\r" in cell for row in rows for cell in row)  # which the csv module leaves unquoted
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL)
    writer.writerows([columns, *rows])
    return out.getvalue()


def read_split(path: Path) -> tuple[Sample, ...]:
    """Read a split.csv.

    Raises: DataError when it cannot be read, columns are missing or a split name is unknown.
    """
    try:
        text = read_regular(path, SPLIT_BYTES, DataError).decode()
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"unreadable split file ({error})", where=str(path)) from None
    if not rows or not set(SPLIT_COLUMNS) <= set(rows[0]):
        raise DataError(f"not a split file: it needs the columns {', '.join(SPLIT_COLUMNS)}", where=str(path))
    bad = {row["split"] for row in rows} - set(SPLITS)
    if bad:
        raise DataError(f"unknown split names {sorted(bad)}", where=str(path), todo=f"Valid: {', '.join(SPLITS)}.")
    cells = ([from_cell(row.get(column) or "") for column in (*SPLIT_COLUMNS, PATIENT_COLUMN)] for row in rows)
    samples = tuple(
        Sample(image, path_, label, lesion, split, digest, patient_id=patient)
        for image, lesion, label, split, path_, digest, patient in cells
    )
    outside = next((sample.path for sample in samples if not _is_below(sample.path)), None)
    if outside is not None:
        raise DataError(f"the image {outside!r} is not below the folder of images", where=str(path))
    return samples


def _is_below(name: str) -> bool:
    """Whether a path is relative and does not climb. Symbolic links below the folder are the user's own."""
    path = PurePosixPath(name)
    return bool(path.parts) and not (
        path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts or "\0" in name
    )
