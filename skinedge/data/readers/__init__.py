"""Read labelled images in the layout of HAM10000, an ISIC challenge, a MedMNIST archive or class folders."""

from __future__ import annotations

import contextlib
import difflib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from skinedge.core.errors import ConfigError, DataError
from skinedge.data import plan
from skinedge.data.dataset import Dataset
from skinedge.data.folder import Folder, list_folder
from skinedge.data.hdf5_images import HDF5_SUFFIXES, list_hdf5
from skinedge.data.problems import Problem, refuse
from skinedge.data.read_options import DEFAULT, ReadOptions, SourceFolder
from skinedge.data.readers import medmnist
from skinedge.data.readers.class_folders import read_class_folders
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.derm7pt import read_derm7pt
from skinedge.data.readers.imagefolder import read_imagefolder
from skinedge.data.readers.incomplete import YOLO_SUFFIXES, refuse_without_images, yolo_error
from skinedge.data.readers.labelled import read_labelled
from skinedge.data.readers.one_hot import read_one_hot
from skinedge.data.readers.ph2 import read_ph2
from skinedge.data.readers.scin import read_scin
from skinedge.data.readers.table_notes import note_tables
from skinedge.data.sources.folders import join
from skinedge.data.sources.label_map import apply_map, official_splits
from skinedge.system.progress import note

_LINE_BREAKING = frozenset({"Cc", "Zl", "Zp", "Cs"})  # Unicode categories; surrogates: bytes that are not UTF-8
_FEW = "class(es) found, but at least two are needed"
# By what a folder holds, most specific first; class folders are what is left.
TABLE_READERS = (read_imagefolder, read_one_hot, read_derm7pt, read_labelled)  # where a table of labels was chosen
READERS = (read_ph2, read_scin, *TABLE_READERS)


@dataclass(frozen=True)
class Survey:
    """What was read of a folder, and what training refuses in it.

    dataset: the images that could be read, without those of a plan; unused_tables: descriptions of the tables that no
    reader understands or that cannot be read.
    """

    dataset: Dataset
    problems: tuple[Problem, ...] = ()
    unused_tables: tuple[str, ...] = ()


def read(root: Path, options: ReadOptions = DEFAULT) -> Dataset:
    """Read a folder (or .npz file): a table of labels takes precedence, then class folders, then an archive.

    Excluded images (`list_folder`) and unsupported formats (.avif, ...) are skipped with a note; tables that are not
    understood are named. Official splits (MedMNIST, folders named train, val, test) are kept in `Sample.split`.
    Raises: DataError for a missing folder, no image, fewer than two classes, an image without a label, a label
        without an image, or two tables that could both be the labels; ConfigError for options that do not fit.
    """
    surveyed = survey(root, options)
    refuse(surveyed.problems, root)
    return surveyed.dataset


def survey(root: Path, options: ReadOptions = DEFAULT) -> Survey:
    """Read a folder as `read` does, and collect the problems of its images and tables.

    Raises: DataError where no image can be read, with the problems found until then; ConfigError as `read`.
    """
    check_folder(root)
    if options.sources:
        return _several(root, options.sources)
    if root.is_file():
        return _archive(medmnist.read(root.parent, root.name), options)
    options = options.located(root)
    options = replace(options, columns=options.named_columns)
    folder = list_folder(root)
    folder.note_left_out()
    if not folder.images and folder.archives:
        if len(folder.archives) > 1:
            names = ", ".join(folder.archives[:5])
            raise DataError(f"several archives: {names}", where=str(root), todo="Give the path of one .npz file.")
        return _archive(_marked(medmnist.read(root, folder.archives[0]), folder), options)
    contents = _contents(_with_hdf5(folder), options)
    tried = (reader(contents) for reader in (TABLE_READERS if options.table else READERS))
    dataset = next((dataset for dataset in tried if dataset is not None), None) or read_class_folders(contents)
    contents.refuse_unread()
    contents.refuse_ambiguous()
    if not dataset.samples:
        refuse(contents.problems, root)
    note_tables(contents)
    unused = [table.describe() for table in contents.tables if not contents.is_understood(table)]
    unused += [unread.describe() for unread in contents.unread]
    dataset = _mapped(_marked(_without(dataset, contents.left_out), folder), options)
    problems = _class_problems(dataset)
    if contents.problems:  # which may be why a class is missing
        problems = tuple(problem for problem in problems if problem.what != _FEW)
    return Survey(dataset, (*contents.problems, *problems), tuple(unused))


def _several(root: Path, sources: Sequence[SourceFolder]) -> Survey:
    """Read each source, and join them; the problems of all are listed."""
    parts = [survey(root / source.path, source.reading) for source in sources]
    dataset = join(sources, [part.dataset for part in parts], root)
    problems = tuple(problem for part in parts for problem in part.problems if problem.what != _FEW)
    unused = tuple(table for part in parts for table in part.unused_tables)
    return Survey(dataset, (*problems, *_class_problems(dataset)), unused)


def check_folder(root: Path) -> None:
    """Raises: DataError unless the path is a folder or an .npz file."""
    if root.is_file() and root.suffix == ".npz":
        return
    if root.is_file() and root.suffix.lower() in YOLO_SUFFIXES:
        raise yolo_error(root)
    if root.is_file() and root.suffix.lower() in HDF5_SUFFIXES:
        raise DataError("an HDF5 file of images has no labels", where=str(root), todo="Give the folder of its table.")
    if not root.is_dir():
        todo = "Give the folder of the images." if root.exists() else _similar_folder(root)
        raise DataError("is a file, not a folder" if root.exists() else "no such folder", where=str(root), todo=todo)


def _similar_folder(root: Path) -> str:
    """Return a remedy for a folder that does not exist: the most similar name beside it, else sample data."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # no such parent, or one that may not be listed
        names = [path.name for path in root.parent.iterdir() if path.is_dir()]
    similar = difflib.get_close_matches(root.name, names, n=1, cutoff=0.7)
    return f"Did you mean {root.parent / similar[0]}?" if similar else "Sample data: skinedge data synth OUT"


def _contents(folder: Folder, options: ReadOptions) -> Contents:
    """Read the folder's tables and the plan. Raises: DataError without images; ConfigError as `survey`."""
    contents = Contents.of(folder, options, plan.left_out(options, folder.root, folder.images))
    if not folder.images:
        refuse(contents.problems, folder.root)
        refuse_without_images(contents)
        contents.refuse_unread()
        refuse(contents.problems, folder.root)
    return contents


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


def _archive(dataset: Dataset, options: ReadOptions) -> Survey:
    if options.table or options.named_columns:
        raise ConfigError("an archive has no tables: --table and --columns do not apply", where=str(dataset.root))
    omitted = plan.left_out(options, dataset.root, [sample.path for sample in dataset.samples])
    dataset = _mapped(_without(dataset, omitted), options)
    return Survey(dataset, _class_problems(dataset))


def _without(dataset: Dataset, omitted: frozenset[str]) -> Dataset:
    """Return the dataset without these paths, and without the classes that then have no image."""
    if not omitted:
        return dataset
    samples = tuple(sample for sample in dataset.samples if sample.path not in omitted)
    return replace(dataset, samples=samples, labels=tuple(sorted({sample.label for sample in samples})))


def _mapped(dataset: Dataset, options: ReadOptions) -> Dataset:
    """Apply the column of the official split, and the map."""
    label_map = options.label_map
    if "split" in options.columns:
        dataset = official_splits(dataset, label_map.splits if label_map else {})
    return dataset if label_map is None else apply_map(dataset, label_map)


def _marked(dataset: Dataset, folder: Folder) -> Dataset:
    """Mark a dataset as synthetic if any image is: a mixture must not pass for real data."""
    names = (name.upper() for s in dataset.samples for name in (s.image_id, PurePosixPath(s.path).name))
    synthetic = folder.marked_synthetic or any(name.startswith("SYNTHETIC") for name in names)
    return replace(dataset, domain="synthetic", synthetic=True) if synthetic else dataset


def _class_problems(dataset: Dataset) -> tuple[Problem, ...]:
    """Return the problems of the class names: fewer than two, or names that a list of labels cannot hold."""
    where, problems = str(dataset.root), []
    if len(dataset.labels) + len(dataset.partial) < 2:
        todo = "Give a folder with one folder per class (at least two), or with a metadata table."
        problems.append(Problem(_FEW, where, dataset.labels, todo))
    odd = [label for label in dataset.labels if any(unicodedata.category(c) in _LINE_BREAKING for c in label)]
    if odd:
        todo = "Rename them: a list of labels has one line for each class."
        what = "class names with control characters, line breaks or other bytes than UTF-8"
        problems.append(Problem(what, where, tuple(map(repr, odd)), todo))
    return tuple(problems)
