"""Split a dataset into train, val, cal and test by lesion, with every class in each split.

The result depends on the seed, not on the file order. train: weights; val: early stopping, choice of precision;
cal: calibration (temperature, bias, thresholds); test: read once.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.core.files import encode
from skinedge.data.dataset import SPLITS, Dataset, Sample, isic_id
from skinedge.data.hashing import content_hash, hash_images
from skinedge.data.sources.groups import Group, by_source, group_samples, identities_of
from skinedge.system.progress import note

CLEAN = "`skinedge data check DIR` lists all of them, and how to train without them."
Stratum = tuple[str, str, str]  # label, official split, source
FRACTIONS: Mapping[str, float] = {"train": 0.70, "val": 0.10, "cal": 0.10, "test": 0.10}


def split(dataset: Dataset, seed: int, fractions: Mapping[str, float] = FRACTIONS) -> tuple[Sample, ...]:
    """Assign every sample to a split; returns the samples sorted by path.

    Groups are photos of a lesion (by lesion id, else ISIC id) and exact or near copies. Official splits are kept:
    test stays test, val is halved into val and cal, and missing splits are taken from train. Hashes the images if
    needed. Fractions apply to the images of each class. Several sources, and those with a share for test, are divided
    by `by_source`, which moves copies out of training instead of refusing them.
    Raises: DataError for a class with too few groups for its splits, an image with two labels, a lesion in two
        official splits, or an unreadable image.
    """
    if not all(sample.sha256 and sample.phash for sample in dataset.samples):
        dataset = hash_images(dataset)
    check_labels(dataset.samples, dataset.partial)
    assigned: list[Sample] = []
    scarce: dict[str, tuple[int, int]] = {}
    joined = bool(dataset.sources or dataset.test_shares)
    for source, samples in (by_source(dataset.samples) if joined else {"": dataset.samples}).items():
        labels = tuple(label for label in dataset.labels if any(sample.label == label for sample in samples))
        share = dataset.test_shares.get(source, 0.0)
        for official, parts in pools_of(samples, fractions).items():
            pool = [sample for sample in samples if sample.split == official]
            if len(parts) == 1:
                assigned += [replace(sample, split=next(iter(parts))) for sample in pool]
                continue
            groups = group_samples(pool)
            scarce |= _scarce(labels, groups, parts)
            for label in labels:
                own = [group for group in groups if group.label == label]
                raised = with_test_share(parts, samples, own, share) if share and "train" in parts else parts
                assigned += _divide(own, raised, seed)
            assigned += [replace(s, split="train") for g in groups if g.label in dataset.partial for s in g.samples]
    _refuse_scarce(scarce, dataset)
    result = tuple(sorted(_without_partial(assigned, dataset.partial), key=lambda sample: sample.path))
    check_split(result)
    return result


def with_test_share(
    parts: Mapping[str, float], samples: Sequence[Sample], groups: Sequence[Group], share: float
) -> dict[str, float]:
    """Return `parts` with a share for test, so that `share` of the images of the groups' class are in test.

    samples: all of the source; groups: those of one class that are divided.
    """
    divided = sum(len(group.samples) for group in groups)
    if not divided:
        return dict(parts)
    images = [sample for sample in samples if sample.label == groups[0].label]
    missing = max(0.0, share * len(images) - sum(sample.split == "test" for sample in images))
    others = {name: part for name, part in parts.items() if name != "test"}
    if "test" in parts:
        missing = max(missing, parts["test"] / sum(parts.values()) * divided)
    scale = max(divided - missing, 0) / sum(others.values())
    return {**{name: part * scale for name, part in others.items()}, **({"test": missing} if missing else {})}


def _without_partial(samples: Sequence[Sample], partial: Mapping[str, tuple[str, ...]]) -> list[Sample]:
    """Leave out images of several possible classes that are not in train: no figure can be computed of them."""
    kept = [sample for sample in samples if sample.split == "train" or sample.label not in partial]
    if len(kept) < len(samples):
        note(f"left out: {len(samples) - len(kept)} images outside train whose class is one of several")
    return kept


def limit(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Reduce a dataset to at most `count` images: complete lesions, classes (of each source and official split) in
    proportion.

    Small classes keep up to ten images, so that they can still be split.
    Raises: DataError when `count` is below four images per class.
    """
    if len(dataset.samples) <= count:
        return dataset
    if count < 4 * len(dataset.labels):
        least = 4 * len(dataset.labels)
        raise DataError(f"a limit of {count} images is too small", todo=f"{len(dataset.labels)} classes need {least}.")
    strata: dict[Stratum, list[Group]] = defaultdict(list)
    for group in group_samples(dataset.samples):
        first = min(group.samples, key=lambda sample: sample.path)
        strata[group.label, first.split, first.source].append(group)
    sizes = {key: sum(len(g.samples) for g in groups) for key, groups in sorted(strata.items())}
    quotas = _quotas(sizes, count)
    selected = [s for key, groups in strata.items() for s in _pick(_shuffled(groups, seed), quotas[key])]
    return replace(dataset, samples=tuple(sorted(selected, key=lambda sample: sample.path)))


def unit_of(samples: Sequence[Sample]) -> str:
    """Return what a split keeps together, and of several sources their images, for the screen."""
    sources = Counter(sample.source for sample in samples)
    of_sources = (
        "; " + ", ".join(f"{name} {n} images" for name, n in sorted(sources.items())) if len(sources) > 1 else ""
    )
    return _kept_together(samples) + of_sources


def _kept_together(samples: Sequence[Sample]) -> str:
    patients = {sample.patient_id for sample in samples} - {""}
    lesions = {sample.lesion_id for sample in samples} - {""}
    unknown = sum(not (sample.patient_id or sample.lesion_id) for sample in samples)
    kinds = [f"{len(ids)} {name}" for name, ids in (("patients", patients), ("lesions", lesions)) if ids]
    if not kinds:
        return "by image, copies together: no table tells lesions or patients"
    rest = f"; {unknown} images of no known one, by image" if unknown else ""
    return f"by {'patient' if patients else 'lesion'} ({', '.join(kinds)}){rest}"


def check_split(samples: Iterable[Sample]) -> None:
    """Check a split for leaks.

    Raises: DataError when a lesion, an ISIC image or the same bytes are in two splits, or a split name is unknown.
    """
    first: dict[tuple[str, str], Sample] = {}
    leaks: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        if sample.split not in SPLITS:
            raise DataError(f"image {sample.image_id} is in no split of {', '.join(SPLITS)}")
        for identity in identities_of(sample):
            other = first.setdefault(identity, sample)
            if other.split != sample.split:
                leaks[identity] |= {other.split, sample.split}
    if leaks:
        (kind, name), splits = next(iter(leaks.items()))
        listed = [split for split in SPLITS if split in splits]
        raise DataError(
            f"{len(leaks)} lesions or images are in two splits, e.g. {kind} {name[:16]} in {' and '.join(listed)}",
            todo="Results on it would be too optimistic. Create a new split, or repair the folder's official splits.",
        )


def conflicting_labels(
    samples: Iterable[Sample], partial: Mapping[str, tuple[str, ...]] | None = None
) -> list[tuple[Sample, ...]]:
    """Return the groups of samples that show the same image, by ISIC id or bytes, under labels that exclude each other.

    partial: label -> the classes that it may be; any other label is one class.
    """
    classes = partial or {}

    def contradict(group: Sequence[Sample]) -> bool:
        labels = {sample.label for sample in group}
        return len(labels) > 1 and not set.intersection(*(set(classes.get(label, (label,))) for label in labels))

    groups: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        for identity in (("image", isic_id(sample)), ("bytes", sample.sha256)):
            if identity[1]:
                groups[identity].append(sample)
    conflicts = [tuple(group) for group in groups.values() if contradict(group)]
    return list({tuple(sample.path for sample in group): group for group in conflicts}.values())


def check_labels(samples: Iterable[Sample], partial: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Check for contradictory labels; arguments as `conflicting_labels`.

    Raises: DataError when an image (by ISIC id or bytes) has two labels.
    """
    conflicts = conflicting_labels(samples, partial)
    if conflicts:
        one = conflicts[0][0]
        two = next(sample for sample in conflicts[0] if sample.label != one.label)
        more = f" (and {len(conflicts) - 1} more images)" if len(conflicts) > 1 else ""
        raise DataError(
            f"the same image has two labels: {one.path} is {one.label}, {two.path} is {two.label}{more}",
            todo=f"Remove the wrong ones, or leave them out. {CLEAN}",
        )


def check_complete(samples: Iterable[Sample], labels: Sequence[str], where: str) -> None:
    """Check, before training, that each split has an image of each class.

    Raises: DataError with every missing class and split.
    """
    present = {(sample.split, sample.label) for sample in samples}
    missing = []
    for split in SPLITS:
        absent = [label for label in labels if (split, label) not in present]
        if len(absent) == len(labels):
            missing.append(f"no image in {split}")
        elif absent:
            missing.append(f"no image of {', '.join(absent)} in {split}")
    if missing:
        todo = (
            "Every split needs images of every class: train for weights, val for the epoch, cal for thresholds, "
            "test for results."
        )
        raise DataError("; ".join(missing), where=where, todo=todo)


def check_against(samples: Sequence[Sample], root: Path) -> None:
    """Check that the images of a reused split exist and are unchanged.

    Raises: DataError when images are missing or changed (with their number and one name), or the split leaks.
    """
    check_split(samples)
    problems = []
    for sample in samples:
        try:
            if content_hash(root, sample.path) != sample.sha256:
                problems.append(f"{sample.path} (changed)")
        except DataError:
            problems.append(f"{sample.path} (missing)")
    if problems:
        raise DataError(
            f"{len(problems)} of {len(samples)} images of the split are missing or changed, e.g. {problems[0]}",
            where=str(root),
            todo="Give the folder that the run was trained on with --data, or train again.",
        )


def pools_of(samples: Sequence[Sample], fractions: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return official split ('' for none) -> the splits it is divided into, with the share of each."""
    official = {sample.split for sample in samples}
    if official == {""}:
        return {"": dict(fractions)}
    if not official <= {"train", "val", "test"} or "train" not in official:
        raise DataError(f"official splits are {sorted(official)}, expected train and val or test")
    pools = {"train": {"train": fractions["train"]}, "val": {"val": 0.5, "cal": 0.5}, "test": {"test": 1.0}}
    if "val" not in official:
        pools["train"] |= {"val": fractions["val"], "cal": fractions["cal"]}
    if "test" not in official:
        pools["train"] |= {"test": fractions["test"]}
    return {name: parts for name, parts in pools.items() if name in official}


def scarce_classes(
    samples: Sequence[Sample], labels: Sequence[str], alike: Sequence[tuple[str, str]]
) -> dict[str, tuple[int, int]]:
    """Return label -> (groups, splits) of each class with fewer groups than splits. alike: as `group_samples` takes it.

    {} for official splits that are not divided, such as a test split alone.
    """
    try:
        pools = pools_of(samples, FRACTIONS)
    except DataError:
        return {}
    scarce: dict[str, tuple[int, int]] = {}
    for official, parts in pools.items():
        if len(parts) > 1:
            groups = group_samples([sample for sample in samples if sample.split == official], alike)
            scarce |= _scarce(labels, groups, parts)
    return scarce


def _scarce(labels: Iterable[str], groups: Sequence[Group], parts: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """Return label -> (groups, splits) of each class that is in fewer groups than there are splits."""
    counts = {label: sum(any(s.label == label for s in group.samples) for group in groups) for label in labels}
    return {label: (count, len(parts)) for label, count in counts.items() if count < len(parts)}


def _refuse_scarce(scarce: Mapping[str, tuple[int, int]], dataset: Dataset) -> None:
    """Raises: DataError naming each class that has too few groups."""
    if not scarce:
        return
    unit = "patients" if any(sample.patient_id for sample in dataset.samples) else "lesions (or distinct images)"
    lines = [
        f"class '{label}' has {count} {unit}, but needs at least {need}" for label, (count, need) in scarce.items()
    ]
    raise DataError(
        lines[0] if len(lines) == 1 else f"{len(lines)} classes are too small to be split:",
        lines=[] if len(lines) == 1 else [f"  {line}" for line in lines],
        todo=f"Every split needs one: add images, or leave the class out. {CLEAN}",
    )


def _divide(groups: list[Group], parts: Mapping[str, float], seed: int) -> list[Sample]:
    """Assign one class's groups in random order, each to the split that lacks most images; no split stays empty."""
    image_count = sum(len(group.samples) for group in groups)
    targets = {name: share / sum(parts.values()) * image_count for name, share in parts.items()}
    counts = dict.fromkeys(parts, 0)
    assigned: list[Sample] = []
    for groups_left, group in zip(range(len(groups), 0, -1), _shuffled(groups, seed), strict=True):
        empty = [part for part in parts if counts[part] == 0]
        name = max(empty if groups_left <= len(empty) else parts, key=lambda part: targets[part] - counts[part])
        counts[name] += len(group.samples)
        assigned += [replace(sample, split=name) for sample in group.samples]
    return assigned


def _shuffled(groups: Iterable[Group], seed: int) -> list[Group]:
    return sorted(groups, key=lambda group: hashlib.sha256(encode(f"{seed}:{group.key}")).digest())


def _quotas(sizes: Mapping[Stratum, int], count: int) -> dict[Stratum, int]:
    """Return the number of images to keep of each stratum: in proportion, with a minimum for small strata."""
    minimum = min(10, count // len(sizes))
    quotas = {key: min(size, minimum) for key, size in sizes.items()}
    spare = count - sum(quotas.values())
    rest = {key: size - quotas[key] for key, size in sizes.items()}
    total = sum(rest.values())
    return {key: quotas[key] + rest[key] * spare // total for key in sizes}


def _pick(groups: list[Group], quota: int) -> list[Sample]:
    """Select groups in order while they fit the quota; groups over a quarter of it come last."""
    small = [g for g in groups if len(g.samples) <= max(1, quota // 4)]
    large = [g for g in groups if len(g.samples) > max(1, quota // 4)]
    selected: list[Sample] = []
    for group in small + large:
        if len(selected) + len(group.samples) <= quota:
            selected += group.samples
    return selected
