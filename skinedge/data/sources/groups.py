"""Images that must be in the same split: of one patient or lesion, and copies; across several sources too."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from skinedge.data.dataset import Sample, isic_id
from skinedge.data.hashing import near_pairs
from skinedge.system.progress import note


@dataclass(frozen=True)
class Group:
    """Images that must be in the same split: photos of one lesion, copies of one photo.

    key: smallest lesion or image id; label: most frequent label, or, for the images of a patient, the rarest one in the
    dataset, so that every class is in every split.
    """

    key: str
    label: str
    samples: tuple[Sample, ...]


def group_samples(samples: Sequence[Sample], alike: Iterable[tuple[str, str]] | None = None) -> list[Group]:
    """Group samples by patient, lesion id, ISIC id, equal bytes or similar look, as far as available; sorted by key.

    alike: paths of each two samples of similar look, among others perhaps, if that was searched already.
    """
    parent = list(range(len(samples)))  # union-find forest

    def find_root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, sample in enumerate(samples):
        for identity in identities_of(sample):
            parent[find_root(i)] = find_root(first.setdefault(identity, i))
    position = {sample.path: i for i, sample in enumerate(samples)}
    for a, b in _similar(samples) if alike is None else alike:
        if a in position and b in position:
            parent[find_root(position[a])] = find_root(position[b])
    members: dict[int, list[Sample]] = defaultdict(list)
    for i, sample in enumerate(samples):
        members[find_root(i)].append(sample)
    images = Counter(sample.label for sample in samples)
    return sorted((_group(m, images) for m in members.values()), key=lambda group: group.key)


def by_source(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return source ('' for one folder) -> its samples, each of which is split by itself.

    Of several sources, images that belong together get one official split, the one of theirs that is furthest from
    training, and one source: of those with official splits, else of all, the one that has most of them.
    """
    homes: dict[str, list[Sample]] = {source: [] for source in dict.fromkeys(sample.source for sample in samples)}
    shared = moved = 0
    for group in group_samples(samples):
        official = max((sample.split for sample in group.samples), key=("", "train", "val", "test").index)
        divided = [sample for sample in group.samples if sample.split] or group.samples
        counts = Counter(sample.source for sample in divided)
        home = min(counts, key=lambda source: (-counts[source], source))
        homes[home] += [replace(sample, split=official) for sample in group.samples]
        shared += len(group.samples) if len({sample.source for sample in group.samples}) > 1 else 0
        moved += sum(sample.split not in ("", official) for sample in group.samples)
    if shared:
        note(f"{shared} images have copies, or their lesion, in another source: kept in one split")
    if moved:
        note(f"{moved} images leave their official split, since a copy is in one further from training")
    return {source: members for source, members in homes.items() if members}


def _similar(samples: Sequence[Sample]) -> Iterator[tuple[str, str]]:
    hashed = [sample for sample in samples if sample.phash]
    for a, b, _ in near_pairs([sample.phash for sample in hashed]):
        yield hashed[a].path, hashed[b].path


def identities_of(sample: Sample) -> list[tuple[str, str]]:
    """Return the (kind, value) keys that two samples share only if they show the same patient, lesion or image."""
    identities = [
        ("patient", sample.patient_id),
        ("lesion", sample.lesion_id),
        ("image", isic_id(sample)),
        ("bytes", sample.sha256),
    ]
    return [identity for identity in identities if identity[1]]


def _group(members: list[Sample], images: Mapping[str, int]) -> Group:
    """images: label -> images in all groups."""
    counts = Counter(sample.label for sample in members)
    of_patient = any(sample.patient_id for sample in members)
    label = min(counts, key=lambda name: (images[name] if of_patient else -counts[name], name))
    return Group(min(s.lesion_id or s.image_id for s in members), label, tuple(members))
