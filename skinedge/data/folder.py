"""What counts as an image of a folder: one rule for training, predict, evaluate, explain and the data commands."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from skinedge.core.image_file import IMAGE_SUFFIXES
from skinedge.data.table_file import JSON_LINES, SPREADSHEETS, TABLE_SUFFIXES
from skinedge.system.progress import note

# Kinds of photos and scans that people have, and that are not read.
UNREAD_SUFFIXES = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".jfif", ".dcm", ".dicom", ".svs", ".dng", ".cr2", ".nef", ".arw"}
)
# Folders that systems and programs keep copies in: Synology, macOS archives, Windows.
_SYSTEM = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "thumbnails"})
_MASK = re.compile(r"_(segmentation|superpixels|mask)$", re.IGNORECASE)
_THUMBNAIL = re.compile(r"[._-]thumbnail$", re.IGNORECASE)
_MARKERS = frozenset({"synthetic.json", "synthetic.txt"})


@dataclass(frozen=True)
class Folder:
    """A folder's files, sorted, relative to its root: images, tables (.csv, .tsv), archives (.npz), others.

    ignored: the suffix of each file that is an image of a kind that is not read; left_out: for each image (or folder)
    that does not count, the reason, in the plural.
    """

    root: Path
    images: tuple[str, ...]
    tables: tuple[str, ...]
    archives: tuple[str, ...]
    marked_synthetic: bool
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def note_left_out(self) -> None:
        """Print how many images do not count, and why."""
        if self.left_out:
            note(f"left out: {_counted(self.left_out)} in {self.root}")
        if self.ignored:
            note(f"not read: {_counted(self.ignored)} in {self.root}; convert such images to .jpg or .png")
        for name in self.others:
            if Path(name).suffix.lower() in SPREADSHEETS:
                note(f"not read: {name}; labels or lesions in it are not used: save it as CSV")


def list_folder(root: Path) -> Folder:
    """List every image, table and archive under `root`.

    Hidden files and folders, folders of systems and programs, segmentation masks and thumbnails do not count.
    """
    images, tables, archives, ignored, others = [], [], [], [], []
    left_out: list[str] = []
    marked = False
    for path in _walk(root, left_out):
        name, suffix = Path(path).name, Path(path).suffix.lower()
        marked = marked or name.lower() in _MARKERS
        reason = _reason(name)
        if reason:
            left_out += [reason] if suffix in IMAGE_SUFFIXES else []
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif suffix in TABLE_SUFFIXES or name.lower() == JSON_LINES:
            tables.append(path)
        elif suffix in SPREADSHEETS or suffix == ".txt":
            others.append(path)
        elif suffix == ".npz":
            archives.append(path)
        elif suffix in UNREAD_SUFFIXES:
            ignored.append(suffix)
    listed = tuple(sorted(images)), tuple(sorted(tables)), tuple(sorted(archives))
    return Folder(root, *listed, marked, tuple(ignored), tuple(left_out), tuple(sorted(others)))


def _walk(root: Path, left_out: list[str]) -> Iterator[str]:
    """Yield the files under `root`, links followed, relative to it; folders that do not count go to `left_out`."""
    seen = set()
    for top, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:  # a link back up would list everything again
            folders.clear()
            continue
        seen.add(real)
        hidden = [name for name in folders if name.startswith(".")]
        system = [name for name in folders if name.lower() in _SYSTEM]
        left_out += ["hidden folders"] * len(hidden) + ["folders of other programs"] * len(system)
        folders[:] = sorted(set(folders) - {*hidden, *system})
        for name in names:
            yield (Path(top) / name).relative_to(root).as_posix()


def _reason(name: str) -> str | None:
    """Return why a file's name says that it is no image of the folder, None where it says nothing."""
    if name.startswith("."):
        return "hidden files"
    if _MASK.search(Path(name).stem):
        return "segmentation masks"
    return "thumbnails" if _THUMBNAIL.search(Path(name).stem) else None


def _counted(kinds: tuple[str, ...]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kinds).items()))
