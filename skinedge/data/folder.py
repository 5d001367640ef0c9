"""List the images of a folder, by one rule for training, predict, evaluate, explain and the data commands."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.hdf5_images import HDF5_SUFFIXES
from skinedge.data.table_file import SPREADSHEETS, is_table
from skinedge.system.progress import note

# Common formats of photos and scans that are not supported.
UNREAD_SUFFIXES = frozenset({".avif", ".jxl", ".jp2", ".dicom", ".svs", ".dng", ".cr2", ".nef", ".arw"})
# Folders in which systems and programs keep copies: Synology, macOS archives, Windows.
_SYSTEM = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found"})
# Files and folders of ISIC's, HAM10000's and PH2's masks, and those that people name so.
_MASK = re.compile(r"_(segmentation|superpixels|mask|attribute_\w+)$", re.IGNORECASE)
_MASKS = re.compile(r"masks?|segmentations?|superpixels|imd\d{3}_(lesion|roi)", re.IGNORECASE)
_THUMBNAIL = re.compile(r"[._-]thumb(nail)?$", re.IGNORECASE)
_THUMBNAILS = re.compile(r"thumb(nail)?s?", re.IGNORECASE)
_MARKERS = frozenset({"synthetic.json", "synthetic.txt"})


@dataclass(frozen=True)
class Folder:
    """Files of a folder, sorted, relative to its root: images, tables, archives (.npz), HDF5 files, others.

    ignored: the suffix of each image in an unsupported format; left_out: the reason for each excluded image, table or
    folder, in the plural.
    """

    root: Path
    images: tuple[str, ...]
    tables: tuple[str, ...]
    archives: tuple[str, ...]
    marked_synthetic: bool
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    hdf5: tuple[str, ...] = ()

    def note_left_out(self) -> None:
        """Print the numbers of excluded files and folders, with the reasons."""
        if self.left_out:
            note(f"left out: {_summary(self.left_out)} in {self.root}")
        if self.ignored:
            note(f"not read: {_summary(self.ignored)} in {self.root}; convert such images to .jpg or .png")
        for name in self.others:
            if Path(name).suffix.lower() in SPREADSHEETS:
                note(f"not read: {name}; labels or lesions in it are not used: save it as CSV")


def list_folder(root: Path) -> Folder:
    """List every image, table and archive under `root`.

    Excludes hidden files and folders, folders of systems and programs, segmentation masks and thumbnails.
    """
    images, tables, archives, ignored, others, hdf5 = [], [], [], [], [], []
    left_out: list[str] = []
    marked = False
    for path in _walk(root, left_out):
        name, suffix = Path(path).name, Path(path).suffix.lower()
        marked = marked or name.lower() in _MARKERS
        reason = "hidden files" if name.startswith(".") else _no_photo(path) if suffix in IMAGE_SUFFIXES else None
        if reason:
            left_out += [reason] if suffix in IMAGE_SUFFIXES or is_table(name) else []
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif is_table(name):
            tables.append(path)
        elif suffix in SPREADSHEETS or suffix == ".txt":
            others.append(path)
        elif suffix == ".npz":
            archives.append(path)
        elif suffix in HDF5_SUFFIXES:
            hdf5.append(path)
        elif suffix in UNREAD_SUFFIXES:
            ignored.append(suffix)
    files = tuple(sorted(images)), tuple(sorted(tables)), tuple(sorted(archives))
    return Folder(root, *files, marked, tuple(ignored), tuple(left_out), tuple(sorted(others)), tuple(sorted(hdf5)))


def _walk(root: Path, left_out: list[str]) -> Iterator[str]:
    """Yield the files under `root`, relative to it, following links; append excluded folders' reasons to `left_out`."""
    visited = set()
    for top, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(top)
        if real in visited:  # a link to a parent folder would list everything again
            folders.clear()
            continue
        visited.add(real)
        hidden = [name for name in folders if name.startswith(".")]
        system = [name for name in folders if name.lower() in _SYSTEM]
        left_out += ["hidden folders"] * len(hidden) + ["folders of other programs"] * len(system)
        folders[:] = sorted(set(folders) - {*hidden, *system})
        for name in names:
            yield (Path(top) / name).relative_to(root).as_posix()


def _no_photo(path: str) -> str | None:
    """Return what an image is by its name or that of a folder below the root, in the plural; None for a photo."""
    *folders, name = path.split("/")
    stem = Path(name).stem
    if _MASK.search(stem) or any(_MASKS.fullmatch(folder) for folder in folders):
        return "segmentation masks"
    return "thumbnails" if _THUMBNAIL.search(stem) or any(_THUMBNAILS.fullmatch(folder) for folder in folders) else None


def _summary(reasons: tuple[str, ...]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(reasons).items()))
