"""A map file: how a folder's classes and images are read for a model with other classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError, DataError, one_of
from skinedge.core.json_io import build, read_toml
from skinedge.core.preprocess import LARGEST
from skinedge.data.dataset import OFFICIAL, Dataset, Sample
from skinedge.system.progress import note

DOMAINS = ("dermoscopic", "clinical", "mixed", "synthetic", "unknown")


@dataclass(frozen=True)
class LabelMap:
    """A map file.

    classes: class of the folder -> class of the model; several where the folder does not distinguish them, '' or []
    leaves the images out; without any, classes keep their names; domain, license (SPDX), attribution: override what
    the reader says; stretch: (width, height) in pixels that images are resized to before anything else, for copies
    that were squashed, () for none; columns: role -> column, as `--columns`; splits: value of the column with the role
    'split' -> 'train', 'val' or 'test', where the values are others; test_share: least share (0..1) of each class in
    test.
    """

    classes: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    domain: str = ""
    license: str = ""
    attribution: str = ""
    stretch: tuple[int, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    test_share: float = 0.0

    def __post_init__(self) -> None:
        one_of("domain", self.domain or "unknown", DOMAINS)
        if self.stretch and not (len(self.stretch) == 2 and all(0 < side <= LARGEST for side in self.stretch)):
            what = f"stretch is {list(self.stretch)}; it must be [width, height], 1 to {LARGEST} pixels"
            raise ConfigError(what, todo="For example: stretch = [341, 256]")
        if not 0 <= self.test_share < 1:
            raise ConfigError(f"test_share is {self.test_share}; it must be at least 0 and less than 1")
        for value in self.splits.values():
            one_of("official split", value, ("train", "val", "test"))

    def document(self) -> dict[str, Any]:
        """Return what the file says, as plain values."""
        stated = {key: value for key, value in asdict(self).items() if value}
        classes = {name: to if isinstance(to, str) else list(to) for name, to in self.classes.items()}
        lists = {key: list(value) if isinstance(value, tuple) else value for key, value in stated.items()}
        return lists | ({"classes": classes} if classes else {})

    def targets(self, name: str) -> tuple[str, ...]:
        """Return the model's classes that a class of the folder may be, () if its images are left out."""
        value = self.classes.get(name, name if not self.classes else "")
        return tuple(filter(None, (value,) if isinstance(value, str) else value))


def read_map(path: Path) -> LabelMap:
    """Read a map file. Raises: ConfigError for a missing file, an unknown key or a wrong value."""
    return read_toml(path, LabelMap)


def recorded_map(raw: Mapping[str, Any], where: str) -> LabelMap:
    """Build the map that a run recorded. Raises: ConfigError."""
    return build(dict(raw), LabelMap, where, error=ConfigError)


def apply_map(dataset: Dataset, label_map: LabelMap) -> Dataset:
    """Return the dataset with the map's classes, official splits, stretching and domain.

    Raises: DataError for classes that the map does not name, and classes of the map that the folder lacks.
    """
    _refuse_unnamed(dataset, label_map)
    targets = {name: label_map.targets(name) for name in dataset.labels}
    left_out = sum(not targets[sample.label] for sample in dataset.samples)
    if left_out:
        names = ", ".join(name for name, to in targets.items() if not to)
        note(f"left out: {left_out} images of {names}, which the map gives no class")
    size = "x".join(map(str, label_map.stretch))
    if size:
        note(f"images are stretched to {size} pixels before they are cropped, as the map says")
    samples = tuple(
        replace(sample, label=_label(sample.label, targets[sample.label]), stretch=size)
        for sample in dataset.samples
        if targets[sample.label]
    )
    partial = {name: tuple(sorted(set(to))) for name, to in targets.items() if len(set(to)) > 1}
    exact = {to[0] for to in targets.values() if len(set(to)) == 1}
    if clash := sorted(exact & set(partial)):
        raise DataError(
            f"the map uses '{clash[0]}' as a class, and gives the folder's class of this name several classes",
            where=str(dataset.root),
            todo="Rename one of them.",
        )
    return replace(
        dataset,
        labels=tuple(sorted(exact)),
        samples=samples,
        partial=partial,
        domain=label_map.domain or dataset.domain,
        test_shares={"": label_map.test_share} if label_map.test_share else {},
    )


def _label(name: str, targets: tuple[str, ...]) -> str:
    return targets[0] if len(set(targets)) == 1 else name


def _refuse_unnamed(dataset: Dataset, label_map: LabelMap) -> None:
    """Raises: DataError naming every class of the folder that the map lacks, and every class that it has in vain."""
    if not label_map.classes:
        return
    missing = [name for name in dataset.labels if name not in label_map.classes]
    absent = sorted(set(label_map.classes) - set(dataset.labels))
    if missing:
        lines = [f'  "{name}" = "..."' for name in missing]
        lines += [f"It names classes that the folder lacks: {', '.join(absent)}."] if absent else []
        todo = 'Add them to [classes]: a class of the model, a list where it may be any of several, or "" to leave out.'
        what = f"the map does not name all classes of this folder; {len(missing)} missing:"
        raise DataError(what, where=str(dataset.root), lines=lines, todo=todo)
    if absent:
        shown = f"{', '.join(absent)}; its classes are {', '.join(dataset.labels)}"
        raise DataError(f"the map names classes that this folder lacks: {shown}", where=str(dataset.root))


def official_splits(dataset: Dataset, named: Mapping[str, str]) -> Dataset:
    """Take the official splits from `Sample.meta['split']`, the column that a user named for it.

    named: value of the column -> split, where it is not one of `OFFICIAL`.
    Raises: DataError for a value that is none, or images without one.
    """
    values = {sample.meta.get("split", "") for sample in dataset.samples}
    known = {value: named.get(value) or OFFICIAL.get(value.casefold(), "") for value in values}
    unknown = sorted(value or "(empty)" for value, split in known.items() if not split)
    if unknown:
        raise DataError(
            f"the column of the official split has {', '.join(unknown[:5])}, which is no split",
            where=str(dataset.root),
            todo='Known: train, val, test. Name others in a map file: [splits], then for example "fold 1" = "val".',
        )

    def split_of(sample: Sample) -> Sample:
        meta = {key: value for key, value in sample.meta.items() if key != "split"}
        return replace(sample, split=known[sample.meta["split"]], meta=meta)

    return replace(dataset, samples=tuple(map(split_of, dataset.samples)))
