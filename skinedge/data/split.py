"""Train, val, cal and test: whole lesions, every class in each, the same for a seed whatever the file order.

train: weights; val: early stopping, choice of precision; cal: temperature, bias, thresholds; test: read once.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import DataError
from skinedge.data.dataset import SPLITS, Dataset, Sample, isic_id
from skinedge.data.hashing import content_hash, hash_images, near_pairs

FRACTIONS: Mapping[str, float] = {"train": 0.70, "val": 0.10, "cal": 0.10, "test": 0.10}


@dataclass(frozen=True)
class Group:
    """Images that must stay together: photos of one lesion, copies of one photo.

    key: the smallest lesion or image id in it; label: of most of its images, or, for the images of a patient, the
    rarest one, so that every class comes into every split.
    """

    key: str
    label: str
    samples: tuple[Sample, ...]


def split(dataset: Dataset, seed: int, fractions: Mapping[str, float] = FRACTIONS) -> tuple[Sample, ...]:
    """Give every sample a split; sorted by path.

    Groups are photos of a lesion (by lesion id, else ISIC id) and exact or near copies. Official splits are kept:
    test stays test, val is halved into val and cal, and what they lack is cut from train. Hashes the images where
    that was not done. Fractions are of the images of each class.
    Raises: DataError for a class with too few groups for its splits, one image under two labels, a lesion in two
        official splits, or an unreadable image.
    """
    if not all(sample.sha256 and sample.phash for sample in dataset.samples):
        dataset = hash_images(dataset)
    check_labels(dataset.samples)
    done: list[Sample] = []
    for official, parts in _pools(dataset.samples, fractions).items():
        pool = [sample for sample in dataset.samples if sample.split == official]
        if len(parts) == 1:
            done += pool
            continue
        groups = group_samples(pool)
        for label in dataset.labels:
            _check_enough(label, groups, parts)
            done += _divide([group for group in groups if group.label == label], parts, seed)
    result = tuple(sorted(done, key=lambda sample: sample.path))
    check_split(result)
    return result


def limit(dataset: Dataset, count: int, seed: int) -> Dataset:
    """At most `count` images, whole lesions, each class (of each official split) in proportion.

    Small classes keep up to ten images, so that they can still be split.
    Raises: DataError when `count` is too small to give every class four.
    """
    if len(dataset.samples) <= count:
        return dataset
    if count < 4 * len(dataset.labels):
        least = 4 * len(dataset.labels)
        raise DataError(f"a limit of {count} images is too small", todo=f"{len(dataset.labels)} classes need {least}.")
    strata: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for group in group_samples(dataset.samples):
        strata[group.label, group.samples[0].split].append(group)
    sizes = {key: sum(len(g.samples) for g in groups) for key, groups in sorted(strata.items())}
    quotas = _quotas(sizes, count)
    kept = [s for key, groups in strata.items() for s in _pick(_shuffled(groups, seed), quotas[key])]
    return replace(dataset, samples=tuple(sorted(kept, key=lambda sample: sample.path)))


def group_samples(samples: Sequence[Sample]) -> list[Group]:
    """Samples joined by lesion id, ISIC id, equal bytes or equal look (as far as each is known), by key."""
    parent = list(range(len(samples)))

    def top(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        for mark in _identities(sample):
            parent[top(i)] = top(first.setdefault(mark, i))
    hashed = [i for i, sample in enumerate(samples) if sample.phash]
    for a, b, _ in near_pairs([samples[i].phash for i in hashed]):
        parent[top(hashed[a])] = top(hashed[b])
    members: dict[int, list[Sample]] = defaultdict(list)
    for i, sample in enumerate(samples):
        members[top(i)].append(sample)
    images = Counter(sample.label for sample in samples)
    return sorted((_group(m, images) for m in members.values()), key=lambda group: group.key)


def unit_of(samples: Sequence[Sample]) -> str:
    """Return what a split keeps together, for the screen."""
    patients = {sample.patient_id for sample in samples} - {""}
    lesions = {sample.lesion_id for sample in samples} - {""}
    unknown = sum(not (sample.patient_id or sample.lesion_id) for sample in samples)
    kinds = [f"{len(ids)} {name}" for name, ids in (("patients", patients), ("lesions", lesions)) if ids]
    if not kinds:
        return "by image, copies together: no table tells lesions or patients"
    rest = f"; {unknown} images of no known one, by image" if unknown else ""
    return f"by {'patient' if patients else 'lesion'} ({', '.join(kinds)}){rest}"


def check_split(samples: Iterable[Sample]) -> None:
    """Raises: DataError when a lesion, an ISIC image or the same bytes are in two splits, or a split is unknown."""
    seen: dict[tuple[str, str], Sample] = {}
    crossing: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        if sample.split not in SPLITS:
            raise DataError(f"image {sample.image_id} is in no split of {', '.join(SPLITS)}")
        for mark in _identities(sample):
            other = seen.setdefault(mark, sample)
            if other.split != sample.split:
                crossing[mark] |= {other.split, sample.split}
    if crossing:
        (kind, name), splits = next(iter(crossing.items()))
        listed = [split for split in SPLITS if split in splits]
        raise DataError(
            f"{len(crossing)} lesions or images are in two splits, e.g. {kind} {name[:16]} in {' and '.join(listed)}",
            todo="Results on such a split would be too good. Make a new one, or repair the folder's own splits.",
        )


def check_labels(samples: Iterable[Sample]) -> None:
    """Raises: DataError when the same bytes are there under two labels."""
    seen: dict[str, Sample] = {}
    conflicts: dict[str, tuple[Sample, Sample]] = {}
    for sample in samples:
        other = seen.setdefault(sample.sha256, sample)
        if sample.sha256 and other.label != sample.label:
            conflicts.setdefault(sample.sha256, (other, sample))
    if conflicts:
        one, two = next(iter(conflicts.values()))
        more = f" (and {len(conflicts) - 1} more images)" if len(conflicts) > 1 else ""
        raise DataError(
            f"the same image has two labels: {one.path} is {one.label}, {two.path} is {two.label}{more}",
            todo="Remove the wrong one. `skinedge data check DIR` lists all of them.",
        )


def check_complete(samples: Iterable[Sample], labels: Sequence[str], where: str) -> None:
    """Check, before any training, that each split has an image of each class.

    Raises: DataError that lists all that is missing.
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
            "Every split needs images of every class: train for weights, val for the epoch, cal for thresholds, test."
        )
        raise DataError("; ".join(missing), where=where, todo=todo)


def check_against(samples: Sequence[Sample], root: Path) -> None:
    """Check that the images of a reused split are still there, byte for byte.

    Raises: DataError when images are missing or changed (says how many, and names one), or the split is leaky.
    """
    check_split(samples)
    bad = []
    for sample in samples:
        try:
            if content_hash(root, sample.path) != sample.sha256:
                bad.append(f"{sample.path} (changed)")
        except DataError:
            bad.append(f"{sample.path} (missing)")
    if bad:
        raise DataError(
            f"{len(bad)} of {len(samples)} images of the split are not as they were, e.g. {bad[0]}",
            where=str(root),
            todo="Give the folder that the run was trained on with --data, or train again.",
        )


def _identities(sample: Sample) -> list[tuple[str, str]]:
    """What makes two samples the same lesion or image for certain."""
    marks = [
        ("patient", sample.patient_id),
        ("lesion", sample.lesion_id),
        ("image", isic_id(sample)),
        ("bytes", sample.sha256),
    ]
    return [mark for mark in marks if mark[1]]


def _group(members: list[Sample], images: Mapping[str, int]) -> Group:
    """images: label -> images in all groups."""
    counts = Counter(sample.label for sample in members)
    of_patient = any(sample.patient_id for sample in members)
    label = min(counts, key=lambda name: (images[name] if of_patient else -counts[name], name))
    return Group(min(s.lesion_id or s.image_id for s in members), label, tuple(members))


def _pools(samples: Sequence[Sample], fractions: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Official split ('' where there is none) -> what it is divided into, with the share of each part."""
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


def _check_enough(label: str, groups: Sequence[Group], parts: Mapping[str, float]) -> None:
    """Raises: DataError for a class that is in fewer groups than there are parts."""
    own = [group for group in groups if any(sample.label == label for sample in group.samples)]
    if len(own) < len(parts):
        patients = any(sample.patient_id for group in groups for sample in group.samples)
        unit = "patients" if patients else "lesions (or different images)"
        raise DataError(
            f"class '{label}' has {len(own)} {unit}, and needs at least {len(parts)}",
            todo=f"One for each of {', '.join(parts)}: add images of it, or leave the class out.",
        )


def _divide(groups: list[Group], parts: Mapping[str, float], seed: int) -> list[Sample]:
    """Deal one class's groups out in random order, each to the part that lacks most images; none stays empty."""
    images = sum(len(group.samples) for group in groups)
    target = {name: share / sum(parts.values()) * images for name, share in parts.items()}
    have = dict.fromkeys(parts, 0)
    done: list[Sample] = []
    for left, group in zip(range(len(groups), 0, -1), _shuffled(groups, seed), strict=True):
        empty = [part for part in parts if have[part] == 0]
        name = max(empty if left <= len(empty) else parts, key=lambda part: target[part] - have[part])
        have[name] += len(group.samples)
        done += [replace(sample, split=name) for sample in group.samples]
    return done


def _shuffled(groups: Iterable[Group], seed: int) -> list[Group]:
    return sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group.key}".encode()).digest())


def _quotas(sizes: Mapping[tuple[str, str], int], count: int) -> dict[tuple[str, str], int]:
    """Images to keep of each stratum: in proportion, but small strata keep up to a floor."""
    floor = min(10, count // len(sizes))
    quotas = {key: min(size, floor) for key, size in sizes.items()}
    spare = count - sum(quotas.values())
    rest = {key: size - quotas[key] for key, size in sizes.items()}
    total = sum(rest.values())
    return {key: quotas[key] + rest[key] * spare // total for key in sizes}


def _pick(groups: list[Group], quota: int) -> list[Sample]:
    """Groups in order as long as they fit; those that would fill more than a quarter come last."""
    small = [g for g in groups if len(g.samples) <= max(1, quota // 4)]
    large = [g for g in groups if len(g.samples) > max(1, quota // 4)]
    kept: list[Sample] = []
    for group in small + large:
        if len(kept) + len(group.samples) <= quota:
            kept += group.samples
    return kept
