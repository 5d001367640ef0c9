"""DermaMNIST's splits of the images of HAM10000, as a split.csv for `skinedge train`.

The published arrays were made from photos of 600 x 450 pixels. Here `prepare` crops the same centre square from the
copies of 200 x 150 (exactly at 150 px, within one pixel at other sizes) and resizes it: "rebuilt from 200x150".
"""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import ConfigError, DataError
from skinedge.core.files import write_atomic
from skinedge.data.dataset import SPLITS, Dataset, Sample, write_split
from skinedge.data.hashing import content_hash, hash_images
from skinedge.data.readers import read
from skinedge.data.split import check_labels, check_split, split
from skinedge.system.progress import note

COLUMNS = {"official": "split", "lesion-free": "lesion_free_split"}
LEAKY = "leaks"  # part of the file name of a split without lesion ids, which hides its leak from the leak check


def build(kind: str, data: Path, table: Path, out: Path, seed: int = 0) -> tuple[Sample, ...]:
    """Write the split to `out`, report its size and leak, and return its samples.

    kind: 'official' or 'lesion-free'. Train and test are those of the table; its validation images are halved into val
    and cal by lesion. The official split has lesions in both train and test, which training refuses. So its file has no
    lesion ids and 'leaks' in its name, and is only for comparison with published figures.
    Raises: DataError when table and images do not match; ConfigError for a file name without 'leaks'.
    """
    if kind == "official" and LEAKY not in out.name:
        what = f"the official split leaks lesions from train into test: its file name must contain '{LEAKY}'"
        raise ConfigError(what, where=str(out), todo=f"e.g. --out {out.with_name(f'{out.stem}-{LEAKY}.csv')}")
    dataset = read(data)
    samples = halve_validation(dataset, assign_splits(dataset, table, COLUMNS[kind]), seed)
    check_labels(samples)
    leaked = shared_lesions(samples)
    if kind == "official":
        note(
            f"LEAK: {leaked['test']} test, {leaked['val']} val and {leaked['cal']} cal images show a lesion that is "
            f"also in train. {out.name} has no lesion ids; figures on it are optimistic: compare them with published "
            "figures only."
        )
        samples = tuple(replace(sample, lesion_id="") for sample in samples)
    check_split(samples)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, write_split(samples))
    counts = Counter(sample.split for sample in samples)
    note(f"{out}: " + ", ".join(f"{name} {counts[name]}" for name in SPLITS))
    return samples


def assign_splits(dataset: Dataset, table: Path, column: str) -> tuple[Sample, ...]:
    """Return the folder's samples with the table's splits (train, val or test), sorted by path.

    Raises: DataError unless each image is in the table once, with the same class and lesion, and has a known split.
    """
    rows = read_table(table, column)
    unmatched = sorted(set(rows) ^ {sample.image_id for sample in dataset.samples})
    if unmatched:
        what = f"{len(unmatched)} images are only in the table or only in the folder, e.g. {unmatched[0]}"
        raise DataError(what, where=f"{table}, {dataset.root}")
    for sample in dataset.samples:
        row = rows[sample.image_id]
        if (row["dx"], row["lesion_id"]) != (sample.label, sample.lesion_id):
            entry = f"{row['dx']} of lesion {row['lesion_id']}"
            what = f"{sample.image_id} is {entry} in the table, {sample.label} of {sample.lesion_id} in the folder"
            raise DataError(what, where=str(table))
    assigned = (replace(sample, split=rows[sample.image_id][column]) for sample in dataset.samples)
    return tuple(sorted(assigned, key=lambda sample: sample.path))


def read_table(table: Path, column: str) -> dict[str, dict[str, str]]:
    """Map each image id to its row of dermamnist/split.csv.

    Raises: DataError when it cannot be read, lacks a column, names an image twice or an unknown split.
    """
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"unreadable table ({error})", where=str(table)) from None
    columns = {"image_id", "lesion_id", "dx", column}
    if not rows or not columns <= set(rows[0]):
        raise DataError(f"the table needs the columns {', '.join(sorted(columns))}", where=str(table))
    if unknown := {row[column] for row in rows} - {"train", "val", "test"}:
        raise DataError(f"unknown splits in the table: {sorted(unknown)}", where=str(table))
    by_id = {row["image_id"]: row for row in rows}
    if len(by_id) < len(rows):
        raise DataError(f"{len(rows) - len(by_id)} rows of the table repeat an image", where=str(table))
    return by_id


def halve_validation(dataset: Dataset, samples: tuple[Sample, ...], seed: int) -> tuple[Sample, ...]:
    """Halve the validation images into val and cal, by lesion and stratified by class, and fill in every sha256."""
    validation = [replace(sample, split="") for sample in samples if sample.split == "val"]
    pool = hash_images(replace(dataset, samples=tuple(validation)))
    halves = split(pool, seed, {"val": 0.5, "cal": 0.5})
    others = (s for s in samples if s.split != "val")
    hashed = [replace(sample, sha256=content_hash(dataset.root, sample.path)) for sample in others]
    return tuple(sorted([*hashed, *halves], key=lambda sample: sample.path))


def shared_lesions(samples: tuple[Sample, ...]) -> Counter[str]:
    """Count, for each other split, its images of lesions that train contains too."""
    training_lesions = {sample.lesion_id for sample in samples if sample.split == "train"}
    others = (sample for sample in samples if sample.split != "train")
    return Counter(sample.split for sample in others if sample.lesion_id in training_lesions)
