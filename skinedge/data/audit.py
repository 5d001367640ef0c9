"""Audit a dataset before training: unreadable images, duplicates, leaks between splits, overlaps with other data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from skinedge.core.errors import DataError, SkinedgeError
from skinedge.core.image_file import read_size
from skinedge.core.taxonomy import find, fold, melanoma, resolve
from skinedge.data.dataset import GLOBAL_ID, Dataset, Sample, archive_images, archive_member, isic_id
from skinedge.data.hashing import Inspection, near_pairs
from skinedge.data.hdf5_images import hdf5_member, image_bytes
from skinedge.data.problems import Problem
from skinedge.data.split import FRACTIONS, conflicting_labels, pools_of, scarce_classes


@dataclass(frozen=True)
class DuplicatePair:
    """Paths of two images of the same lesion, and the evidence.

    by: 'ISIC id', 'lesion id', 'bytes' or 'look' (perceptual hash); distance: differing bits of 256 for 'look', else 0.
    """

    left: str
    right: str
    by: str
    distance: int = 0


@dataclass(frozen=True)
class AuditReport:
    """Findings in one dataset.

    counts: images per class; lesions: their number, None if the dataset has no lesion ids; unreadable: (path, reason);
    exact: groups of files with equal bytes; near: pairs with different bytes and similar look, except those with the
    same lesion id; two_labels: copies, by bytes or ISIC id, with two labels; leaks: the same patient, lesion or image
    in two official splits, () where a map asks for a share of test images, since training then moves them;
    patients: as lesions; problems: what else training refuses in the folder; unused_tables: tables that were not
    understood or not read.
    What a setting or more images may mend: unknown_classes: classes that are not in the taxonomy; refusals: other
    reasons, in the class names or official splits; scarce: class -> (patients, lesions or distinct images; splits) of
    each class with fewer than one for each split.
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
    patients: int | None = None
    unknown_classes: tuple[str, ...] = ()
    scarce: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    unused_tables: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """False when the data needs repair; duplicates alone do not, since a split keeps them together."""
        return not (self.unreadable or self.two_labels or self.leaks or self.problems)

    @property
    def passed(self) -> bool:
        """True if training accepts the folder: it is sound, and its classes are known, distinct and large enough."""
        return self.sound and not (self.scarce or self.refusals or self.unknown_classes)


@dataclass(frozen=True)
class Info:
    """Summary of a dataset.

    lesions, patients: None if unknown; classes: label -> (images, taxonomy group or None); sizes: 'WxH' -> images.
    """

    kind: str
    domain: str
    synthetic: bool
    images: int
    lesions: int | None
    patients: int | None
    classes: dict[str, tuple[int, str | None]]
    splits: dict[str, int]
    sizes: dict[str, int]


LookPair = tuple[Sample, Sample, DuplicatePair]


def audit(
    dataset: Dataset,
    inspection: Inspection,
    problems: tuple[Problem, ...] = (),
    unused_tables: tuple[str, ...] = (),
    taxonomy: Mapping[str, str] | None = None,
) -> AuditReport:
    """Audit a dataset from one pass over its images (`skinedge.data.hashing.inspect_images`).

    problems, unused_tables: as `skinedge.data.readers.survey` found them; taxonomy: as in a training's settings.
    """
    overridden = {fold(label) for label in taxonomy or {}}
    samples = inspection.samples
    by_bytes: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_bytes[sample.sha256].append(sample)
    copies = [group for group in by_bytes.values() if len(group) > 1]
    look_pairs = _look_pairs(samples)
    return AuditReport(
        kind=dataset.kind,
        synthetic=dataset.synthetic,
        counts=dict(sorted(Counter(sample.label for sample in dataset.samples).items())),
        lesions=count_lesions(dataset),
        unreadable=inspection.unreadable,
        exact=tuple(tuple(s.path for s in group) for group in copies),
        near=tuple(pair for a, b, pair in look_pairs if not a.lesion_id or a.lesion_id != b.lesion_id),
        two_labels=tuple(tuple(s.path for s in group) for group in conflicting_labels(samples, dataset.partial)),
        leaks=() if dataset.test_shares else tuple(_leaks(samples, look_pairs)),
        patients=count_patients(samples),
        unknown_classes=tuple(
            label for label in dataset.labels if find(label) is None and fold(label) not in overridden
        ),
        scarce=scarce_classes(samples, dataset.labels, [(a.path, b.path) for a, b, _ in look_pairs]),
        problems=problems,
        unused_tables=unused_tables,
        refusals=_refusals(dataset.labels, samples, taxonomy or {}),
    )


def overlaps(left: Sequence[Sample], right: Sequence[Sample]) -> tuple[DuplicatePair, ...]:
    """Find the images of `left` whose image or lesion is also in `right`: one pair each, with the strongest evidence.

    Evidence, strongest first: ISIC id; lesion id (a globally unique one; a lesion id of an ISIC image in one side's
    table applies to both sides); equal bytes; equal look. Bytes and look are compared only for hashed samples.
    """
    lesions = lesions_of(left, right)
    right_paths: dict[tuple[str, str], str] = {}
    for sample in right:
        for mark in marks(sample, lesions):
            right_paths.setdefault(mark, sample.path)
    overlap: dict[str, DuplicatePair] = {}
    for sample in left:
        for mark in marks(sample, lesions):
            if mark in right_paths:
                overlap[sample.path] = DuplicatePair(sample.path, right_paths[mark], mark[0])
                break
    rest = [sample for sample in left if sample.phash and sample.path not in overlap]
    hashed = [sample for sample in right if sample.phash]
    pairs = near_pairs([s.phash for s in rest], [s.phash for s in hashed]) if rest and hashed else []
    for i, j, distance in sorted(pairs, key=lambda pair: (pair[2], pair[1])):
        overlap.setdefault(rest[i].path, DuplicatePair(rest[i].path, hashed[j].path, "look", distance))
    return tuple(overlap[path] for path in sorted(overlap))


def info(dataset: Dataset) -> Info:
    """Summarise a dataset: kind, classes with taxonomy groups, splits, and image sizes from the files' headers."""
    counts = Counter(sample.label for sample in dataset.samples)
    splits = Counter(sample.split for sample in dataset.samples if sample.split)
    return Info(
        kind=dataset.kind,
        domain=dataset.domain,
        synthetic=dataset.synthetic,
        images=len(dataset.samples),
        lesions=count_lesions(dataset),
        patients=count_patients(dataset.samples),
        classes={label: (counts[label], _group(label)) for label in dataset.labels},
        splits=dict(splits),
        sizes=dict(Counter(_size(dataset, sample) for sample in dataset.samples).most_common()),
    )


def count_lesions(dataset: Dataset) -> int | None:
    """Return the number of distinct lesion ids; None if the dataset has none."""
    lesions = {sample.lesion_id for sample in dataset.samples if sample.lesion_id}
    return len(lesions) if lesions else None


def count_patients(samples: Sequence[Sample]) -> int | None:
    """Return the number of distinct patient ids; None if there are none."""
    return len({sample.patient_id for sample in samples} - {""}) or None


def lesions_of(*folders: Sequence[Sample]) -> dict[str, str]:
    """Return ISIC id -> lesion id, from every dataset with lesion ids."""
    return {isic_id(sample): sample.lesion_id for folder in folders for sample in folder if sample.lesion_id}


def marks(sample: Sample, lesions: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return keys that identify an image across datasets, the strongest first: (kind, value).

    lesions: from `lesions_of`. Ids that are only unique within their dataset are left out.
    """
    name = isic_id(sample)
    lesion = sample.lesion_id or (lesions.get(name, "") if name else "")
    keys = [("ISIC id", name), ("lesion id", lesion if GLOBAL_ID.match(lesion) else ""), ("bytes", sample.sha256)]
    return [key for key in keys if key[1]]


def _look_pairs(samples: Sequence[Sample]) -> list[LookPair]:
    """Return pairs with similar look and different bytes, the closest first."""
    pairs = []
    for i, j, distance in near_pairs([sample.phash for sample in samples]):
        a, b = samples[i], samples[j]
        if a.sha256 != b.sha256:
            pairs.append((a, b, DuplicatePair(a.path, b.path, "look", distance)))
    return sorted(pairs, key=lambda item: (item[2].distance, item[2].left, item[2].right))


def _leaks(samples: Sequence[Sample], look_pairs: Sequence[LookPair]) -> list[DuplicatePair]:
    """Return the pairs of images that belong together and are in two official splits."""
    return [*_certain_leaks(samples), *(pair for a, b, pair in look_pairs if a.split != b.split)]


def _certain_leaks(samples: Sequence[Sample]) -> list[DuplicatePair]:
    """Return one pair for each lesion, ISIC image or content that is in two official splits."""
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


def _refusals(labels: Sequence[str], samples: Sequence[Sample], taxonomy: Mapping[str, str]) -> tuple[str, ...]:
    """Return why class names are ambiguous (two spellings of one, two names of melanoma), or which splits are missing.

    Two spellings would hide two names of melanoma, so these are searched among one spelling of each, too.
    """
    one_of_each = list({fold(label): label for label in labels}.values())
    reasons: list[str] = []
    for refuse in (
        lambda: melanoma(labels, taxonomy),
        lambda: melanoma(one_of_each, {label: group for label, group in taxonomy.items() if label in one_of_each}),
        lambda: pools_of(samples, FRACTIONS),
    ):
        try:
            refuse()
        except SkinedgeError as error:
            reasons.append(error.what)
    return tuple(dict.fromkeys(reasons))


def _group(label: str) -> str | None:
    try:
        return resolve(label).group
    except DataError:
        return None


def _size(dataset: Dataset, sample: Sample) -> str:
    archive, item = archive_member(sample.path)
    if item:
        height, width = archive_images(dataset.root / archive, item.partition("/")[0]).shape[1:3]
        return f"{width}x{height}"
    try:
        path = dataset.root / sample.path
        return "{}x{}".format(*read_size(image_bytes(path) if hdf5_member(sample.path)[1] else path))
    except DataError:
        return "unreadable"
