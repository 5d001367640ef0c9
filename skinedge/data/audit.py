"""What is wrong with a folder before anybody trains on it: unreadable images, duplicates, leaks, overlaps."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skinedge.core.errors import DataError
from skinedge.core.image_file import open_file, open_image
from skinedge.core.taxonomy import resolve
from skinedge.data.dataset import Dataset, Sample, archive_images, archive_member, isic_id
from skinedge.data.hashing import Inspection, near_pairs

# 'HAM_0000118', 'BCN_0003884': ids that mean the same lesion in every folder; '17' does not.
_WORLDWIDE = re.compile(r"[A-Za-z]{2,}_")


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same: paths, and how that is known.

    by: 'ISIC id', 'lesion id', 'bytes' or 'look'; distance: differing bits of 256 for 'look', else 0.
    """

    left: str
    right: str
    by: str
    distance: int = 0


@dataclass(frozen=True)
class AuditReport:
    """The findings in one folder.

    counts: images per class; lesions: None where the folder does not tell; unreadable: (path, reason);
    exact: files with the same bytes; near: others of the same look, of different lesions as far as known;
    two_labels: exact copies under two labels; leaks: the same lesion or image in two official splits.
    """

    kind: str
    synthetic: bool
    counts: dict[str, int]
    lesions: int | None
    unreadable: tuple[tuple[str, str], ...]
    exact: tuple[tuple[str, ...], ...]
    near: tuple[DuplicatePair, ...]
    two_labels: tuple[tuple[str, ...], ...]
    leaks: tuple[DuplicatePair, ...]

    @property
    def passed(self) -> bool:
        """False when something must be repaired; duplicates alone need not be: a split keeps them together."""
        return not (self.unreadable or self.two_labels or self.leaks)


@dataclass(frozen=True)
class Info:
    """A folder in short. classes: label -> (images, taxonomy group or None); sizes: 'WxH' -> images."""

    kind: str
    domain: str
    synthetic: bool
    images: int
    lesions: int | None
    classes: dict[str, tuple[int, str | None]]
    splits: dict[str, int]
    sizes: dict[str, int]


def audit(dataset: Dataset, inspection: Inspection) -> AuditReport:
    """Judge a folder by one pass over its images (`skinedge.data.hashing.inspect_images`)."""
    samples = inspection.samples
    by_bytes: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_bytes[sample.sha256].append(sample)
    copies = [group for group in by_bytes.values() if len(group) > 1]
    alike = _alike(samples)
    return AuditReport(
        kind=dataset.kind,
        synthetic=dataset.synthetic,
        counts=dict(sorted(Counter(sample.label for sample in dataset.samples).items())),
        lesions=count_lesions(dataset),
        unreadable=inspection.unreadable,
        exact=tuple(tuple(s.path for s in group) for group in copies),
        near=tuple(pair for a, b, pair in alike if not a.lesion_id or a.lesion_id != b.lesion_id),
        two_labels=tuple(tuple(s.path for s in group) for group in copies if len({s.label for s in group}) > 1),
        leaks=(*_certain_leaks(samples), *(pair for a, b, pair in alike if a.split != b.split)),
    )


def overlaps(left: Sequence[Sample], right: Sequence[Sample]) -> tuple[DuplicatePair, ...]:
    """The images of `left` whose image or lesion is also in `right`: one pair for each, with the surest evidence.

    By ISIC id, else lesion id (where it is a worldwide one; what one side's table says of an ISIC image holds for
    the other side too), else equal bytes, else equal look; bytes and look count only where the samples are hashed.
    """
    lesions = lesions_of(left, right)
    known: dict[tuple[str, str], str] = {}
    for sample in right:
        for mark in marks(sample, lesions):
            known.setdefault(mark, sample.path)
    found: dict[str, DuplicatePair] = {}
    for sample in left:
        for mark in marks(sample, lesions):
            if mark in known:
                found[sample.path] = DuplicatePair(sample.path, known[mark], mark[0])
                break
    rest = [sample for sample in left if sample.phash and sample.path not in found]
    hashed = [sample for sample in right if sample.phash]
    pairs = near_pairs([s.phash for s in rest], [s.phash for s in hashed]) if rest and hashed else []
    for i, j, distance in sorted(pairs, key=lambda pair: (pair[2], pair[1])):
        found.setdefault(rest[i].path, DuplicatePair(rest[i].path, hashed[j].path, "look", distance))
    return tuple(found[path] for path in sorted(found))


def info(dataset: Dataset) -> Info:
    """Kind, classes with their taxonomy group, splits, and image sizes from the files' headers."""
    counts = Counter(sample.label for sample in dataset.samples)
    splits = Counter(sample.split for sample in dataset.samples if sample.split)
    return Info(
        kind=dataset.kind,
        domain=dataset.domain,
        synthetic=dataset.synthetic,
        images=len(dataset.samples),
        lesions=count_lesions(dataset),
        classes={label: (counts[label], _group(label)) for label in dataset.labels},
        splits=dict(splits),
        sizes=dict(Counter(_size(dataset, sample) for sample in dataset.samples).most_common()),
    )


def count_lesions(dataset: Dataset) -> int | None:
    """How many lesions the folder's table tells apart; None where it tells none."""
    lesions = {sample.lesion_id for sample in dataset.samples if sample.lesion_id}
    return len(lesions) if lesions else None


def lesions_of(*folders: Sequence[Sample]) -> dict[str, str]:
    """ISIC id -> lesion id, from every folder whose table tells it."""
    return {isic_id(sample): sample.lesion_id for folder in folders for sample in folder if sample.lesion_id}


def marks(sample: Sample, lesions: Mapping[str, str]) -> list[tuple[str, str]]:
    """What tells that images of two folders are the same, the surest first: (kind, value).

    lesions: from `lesions_of`. Ids that only mean something within their folder are left out.
    """
    name = isic_id(sample)
    lesion = sample.lesion_id or (lesions.get(name, "") if name else "")
    named = [("ISIC id", name), ("lesion id", lesion if _WORLDWIDE.match(lesion) else ""), ("bytes", sample.sha256)]
    return [mark for mark in named if mark[1]]


def _alike(samples: Sequence[Sample]) -> list[tuple[Sample, Sample, DuplicatePair]]:
    """Pairs of the same look and different bytes, the closest first."""
    found = []
    for i, j, distance in near_pairs([sample.phash for sample in samples]):
        a, b = samples[i], samples[j]
        if a.sha256 != b.sha256:
            found.append((a, b, DuplicatePair(a.path, b.path, "look", distance)))
    return sorted(found, key=lambda item: (item[2].distance, item[2].left, item[2].right))


def _certain_leaks(samples: Sequence[Sample]) -> list[DuplicatePair]:
    """One pair for each lesion, ISIC image or content that is in two official splits."""
    first: dict[tuple[str, str], Sample] = {}
    leaks: dict[tuple[str, str], DuplicatePair] = {}
    for sample in samples:
        marks = [("ISIC id", isic_id(sample)), ("lesion id", sample.lesion_id), ("bytes", sample.sha256)]
        marks.append(("patient id", sample.patient_id))
        for mark in marks:
            other = first.setdefault(mark, sample)
            if mark[1] and other.split != sample.split:
                leaks.setdefault(mark, DuplicatePair(other.path, sample.path, mark[0]))
    return list(leaks.values())


def _group(label: str) -> str | None:
    try:
        return resolve(label).group
    except DataError:
        return None


def _size(dataset: Dataset, sample: Sample) -> str:
    archive, place = archive_member(sample.path)
    if place:
        height, width = archive_images(dataset.root / archive, place.partition("/")[0]).shape[1:3]
        return f"{width}x{height}"
    path = dataset.root / sample.path
    try:
        with open_file(path) as stream, open_image(stream, str(path)) as image:
            return f"{image.width}x{image.height}"
    except DataError:
        return "unreadable"
