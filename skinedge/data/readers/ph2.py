"""PH2 (Mendonca et al. 2013): a folder for each image, and PH2_dataset.txt with fields between double bars."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from skinedge.core.errors import DataError
from skinedge.core.files import read_regular
from skinedge.data.dataset import Dataset, Sample
from skinedge.data.readers.contents import Contents
from skinedge.data.readers.labelled import dataset_of

TABLE = "ph2_dataset.txt"
CLASSES = {"0": "common nevus", "1": "atypical nevus", "2": "melanoma"}
_IMAGE = re.compile(r"IMD\d{3}", re.IGNORECASE)
_MOST = 1 << 20  # bytes


def read_ph2(contents: Contents) -> Dataset | None:
    """Read PH2's images; None where PH2_dataset.txt is not there.

    Raises: DataError for a table without the columns Name and Clinical Diagnosis, an unknown diagnosis, or an image
        without a row.
    """
    tables = [name for name in contents.folder.others if PurePosixPath(name).name.lower() == TABLE]
    if not tables:
        return None
    labels = _labels(contents, tables[0])
    samples = []
    for path in contents.folder.images:
        if "_dermoscopic_image/" not in path.lower():
            continue  # masks of the lesion and of its colours
        name = PurePosixPath(path).stem.upper()
        if name not in labels:
            raise DataError(f"no row for {path}", where=str(contents.root / tables[0]))
        samples.append(Sample(name, path, labels[name]))
    return dataset_of(contents, "PH2", "dermoscopic", samples)


def _labels(contents: Contents, table: str) -> dict[str, str]:
    text = read_regular(contents.root / table, _MOST, DataError).decode("utf-8", "replace")
    lines = [[cell.strip() for cell in line.split("||")[1:]] for line in text.splitlines() if line.startswith("||")]
    header = lines[0] if lines else []
    try:
        name, diagnosis = header.index("Name"), header.index("Clinical Diagnosis")
    except ValueError:
        raise DataError("no columns Name and Clinical Diagnosis", where=str(contents.root / table)) from None
    rows = [row for row in lines[1:] if len(row) > max(name, diagnosis) and _IMAGE.fullmatch(row[name])]
    unknown = [row for row in rows if row[diagnosis] not in CLASSES]
    if unknown:
        raise DataError(f"unknown diagnosis '{unknown[0][diagnosis]}'", where=str(contents.root / table))
    return {row[name].upper(): CLASSES[row[diagnosis]] for row in rows}
