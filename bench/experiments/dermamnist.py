"""DermaMNIST's splits over the images of HAM10000, as a split.csv that `skinedge train` takes.

The published arrays were made from photos of 600 x 450 pixels; here `prepare` cuts the same centre square out of the
copies of 200 x 150 (to the pixel at 150, within one at other sizes) and resizes that: "rebuilt from 200x150".
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
LEAKY = "leaks"  # in the name of a split file that the leak check must not see through


def build(kind: str, data: Path, table: Path, out: Path, seed: int = 0) -> tuple[Sample, ...]:
    """Write the split to `out`, and say what it is.

    kind: 'official' or 'lesion-free'. Train and test stay as the table has them; its validation images are halved into
    val and cal by lesion. The official split has lesions on both sides, which training refuses: its file is written
    without lesion ids, says so in its name, and is for comparison with published figures alone.
    Raises: DataError when table and images do not fit; ConfigError for a name that hides the leak.
    """
    if kind == "official" and LEAKY not in out.name:
        what = "the official split leaks lesions from train into test, and the file's name must say so"
        raise ConfigError(what, where=str(out), todo=f"e.g. --out {out.with_name(f'{out.stem}-{LEAKY}.csv')}")
    dataset = read(data)
    samples = divided(dataset, assigned(dataset, table, COLUMNS[kind]), seed)
    check_labels(samples)
    leaked = shared_lesions(samples)
    if kind == "official":
        note(
            f"LEAK: {leaked['test']} test, {leaked['val']} val and {leaked['cal']} cal images show a lesion that is in "
            f"train too. Lesion ids are left out of {out.name}; figures on it are too good, and only compare with "
            "published ones."
        )
        samples = tuple(replace(sample, lesion_id="") for sample in samples)
    check_split(samples)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, write_split(samples))
    counts = Counter(sample.split for sample in samples)
    note(f"{out}: " + ", ".join(f"{name} {counts[name]}" for name in SPLITS))
    return samples


def assigned(dataset: Dataset, table: Path, column: str) -> tuple[Sample, ...]:
    """The folder's samples with the table's splits: train, val or test; sorted by path.

    Raises: DataError unless each image is in the table once, with the same class and lesion, and has a known split.
    """
    rows = read_table(table, column)
    wrong = sorted(set(rows) ^ {sample.image_id for sample in dataset.samples})
    if wrong:
        what = f"{len(wrong)} images are in the table or in the folder alone, e.g. {wrong[0]}"
        raise DataError(what, where=f"{table}, {dataset.root}")
    for sample in dataset.samples:
        row = rows[sample.image_id]
        if (row["dx"], row["lesion_id"]) != (sample.label, sample.lesion_id):
            told = f"{row['dx']} of lesion {row['lesion_id']}"
            what = f"{sample.image_id} is {told} in the table, {sample.label} of {sample.lesion_id} in the folder"
            raise DataError(what, where=str(table))
    placed = (replace(sample, split=rows[sample.image_id][column]) for sample in dataset.samples)
    return tuple(sorted(placed, key=lambda sample: sample.path))


def read_table(table: Path, column: str) -> dict[str, dict[str, str]]:
    """image id -> its row of dermamnist/split.csv.

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
    found = {row["image_id"]: row for row in rows}
    if len(found) < len(rows):
        raise DataError(f"{len(rows) - len(found)} rows of the table repeat an image", where=str(table))
    return found


def divided(dataset: Dataset, samples: tuple[Sample, ...], seed: int) -> tuple[Sample, ...]:
    """With the validation images halved into val and cal, whole lesions, each class; sha256 filled in."""
    official = [replace(sample, split="") for sample in samples if sample.split == "val"]
    pool = hash_images(replace(dataset, samples=tuple(official)))
    halves = split(pool, seed, {"val": 0.5, "cal": 0.5})
    kept = (s for s in samples if s.split != "val")
    hashed = [replace(sample, sha256=content_hash(dataset.root, sample.path)) for sample in kept]
    return tuple(sorted([*hashed, *halves], key=lambda sample: sample.path))


def shared_lesions(samples: tuple[Sample, ...]) -> Counter[str]:
    """split -> how many of its images show a lesion that train shows too."""
    trained = {sample.lesion_id for sample in samples if sample.split == "train"}
    return Counter(sample.split for sample in samples if sample.split != "train" and sample.lesion_id in trained)
