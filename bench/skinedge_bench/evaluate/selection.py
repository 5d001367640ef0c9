"""Which images `skinedge evaluate` judges, and which of them the model has met: by id, lesion, bytes and look."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core import taxonomy
from skinedge.core.errors import ConfigError, DataError, one_of
from skinedge.data.audit import lesions_of, marks
from skinedge.data.dataset import SPLITS, Dataset, Sample, data_root, read_split
from skinedge.data.hashing import hash_images, inspect_images, near_pairs
from skinedge.data.readers import read
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_bench.loaded_model import LoadedModel
from skinedge_bench.split_images import place_of

CHOICES = (*SPLITS, "all")


@dataclass(frozen=True)
class Selection:
    """The images to judge: samples (labels already the model's), where they are, and which part they are.

    seen: split of the run -> how many of the images, or of their lesions, lie in it (test left out); None for a
    model without its run, of which nothing can be known.
    """

    root: Path
    samples: tuple[Sample, ...]
    split: str
    seen: Mapping[str, int] | None

    @property
    def trained_on(self) -> int | None:
        """How many of the images, or of their lesions, the model was trained on; None where nobody knows."""
        return None if self.seen is None else self.seen.get("train", 0)


def select(model: LoadedModel, data: Path | None, bundle: Bundle | None, split: str | None) -> Selection:
    """Which images to judge, and which of them the model has met.

    Without a named split: 'test' where most of the images are in the run's split, else 'all'.
    """
    if split is not None:
        one_of("split", split, CHOICES)
    own = read_split(bundle.file("split.csv")) if bundle is not None else ()
    if data is not None:
        root, samples = data_root(data), _read(data, model.labels)
        met = origins = _met(samples, own, bundle)
    elif bundle is not None and bundle.manifest.data_root:
        root = Path(bundle.manifest.data_root)
        samples = _described(root, own)
        origins = [sample.split for sample in own]
        met = origin(samples, samples)  # the folder's table may know lesions that the split was made without
    else:
        raise ConfigError("no images to judge", todo="Give a folder of labelled images with --data DIR.")
    if split is None:
        split = "test" if sum(map(bool, origins)) * 2 > len(samples) else "all"
        note(f"split: {split}")
    chosen = [
        (sample, known)
        for sample, place, known in zip(samples, origins, met, strict=True)
        if split in ("all", place or sample.split)
    ]
    if not chosen:
        found = Counter(place or sample.split or "none" for sample, place in zip(samples, origins, strict=True))
        places = ", ".join(f"{place} {count}" for place, count in sorted(found.items()))
        what = f"no image of this folder is in the split '{split}'; it has: {places}"
        raise DataError(what, where=str(root), todo="Try --split all.")
    seen = Counter(place for _, place in chosen if place not in ("", "test"))
    counts = None if bundle is None else dict(sorted(seen.items()))
    return Selection(root, tuple(sample for sample, _ in chosen), split, counts)


def origin(samples: Sequence[Sample], own: Sequence[Sample]) -> list[str]:
    """The run's split that each image is in, or its lesion is in; '' for images that the run never met.

    Matched by ISIC id, lesion id (what either side's table says of an ISIC image holds for the other side too)
    and sha256, else by look where both sides' phash is known, and then for all photos of a lesion in this folder;
    one that matches several splits is given the one that taught the model most (train, val, cal, test).
    """
    lesions = lesions_of(samples, own)
    known: dict[tuple[str, str], str] = {}
    for sample in sorted(own, key=lambda s: SPLITS.index(s.split), reverse=True):
        known.update(dict.fromkeys(marks(sample, lesions), sample.split))
    found = [[known[mark] for mark in marks(sample, lesions) if mark in known] for sample in samples]
    rest = [i for i, places in enumerate(found) if not places and samples[i].phash]
    hashed = [sample for sample in own if sample.phash]
    if rest and hashed:
        for i, j, _ in near_pairs([samples[i].phash for i in rest], [sample.phash for sample in hashed]):
            found[rest[i]].append(hashed[j].split)
    of_lesion: dict[str, set[str]] = defaultdict(set)
    for sample, places in zip(samples, found, strict=True):
        of_lesion[sample.lesion_id or sample.path].update(places)
    taught = {lesion: min(places, key=SPLITS.index) if places else "" for lesion, places in of_lesion.items()}
    return [taught[sample.lesion_id or sample.path] for sample in samples]


def _met(samples: Sequence[Sample], own: Sequence[Sample], bundle: Bundle | None) -> list[str]:
    """`origin`; copies that were cropped or encoded again have only their look, which costs decoding the run's images.

    samples: with phash; bundle: None for a model without its run.
    """
    if bundle is None:
        note("no run beside the model: nobody knows whether it was trained on these images")
        return [""] * len(samples)
    origins = origin(samples, own)
    if all(origins):
        return origins
    looked = _looked_at(own, bundle) if bundle.manifest.data_root else own
    missing = sum(not sample.phash for sample in looked)
    if missing:
        note(f"not compared by look, since they are not {place_of(bundle.manifest)}: {missing} images of the run")
    origins_by_look = origin(samples, looked)
    found = sum(bool(now) and not before for now, before in zip(origins_by_look, origins, strict=True))
    if found:
        note(f"{found} images are known from the run by their look alone")
    return origins_by_look


def _looked_at(own: Sequence[Sample], bundle: Bundle) -> tuple[Sample, ...]:
    """The run's images with the phash of those that are still there, unchanged."""
    manifest = bundle.manifest
    there = Dataset(Path(manifest.data_root), "run", manifest.labels, tuple(own))
    known = {(sample.path, sample.sha256): sample.phash for sample in inspect_images(there).samples}
    return tuple(replace(sample, phash=known.get((sample.path, sample.sha256), "")) for sample in own)


def map_labels(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """A folder's class names -> the model's: the same name, else the same condition in the taxonomy.

    Raises: DataError for a class that the model does not have.
    """
    by_condition: dict[str, list[str]] = {}
    for label in ours:
        by_condition.setdefault(_condition(label), []).append(label)
    mapping: dict[str, str] = {}
    for name in theirs:
        candidates = by_condition.get(_condition(name), [])
        if name in ours:
            mapping[name] = name
        elif len(candidates) == 1:
            mapping[name] = candidates[0]
        else:
            raise DataError(
                f"class '{name}' is none of the model's classes",
                todo=f"The model knows: {', '.join(ours)}. Rename the class, or leave its images out.",
            )
    return mapping


def _read(data: Path, labels: Sequence[str]) -> tuple[Sample, ...]:
    dataset: Dataset = hash_images(read(data))
    note(f"data: {dataset.kind}, {len(dataset.samples)} images in {data}")
    mapping = map_labels(dataset.labels, labels)
    return tuple(replace(sample, label=mapping[sample.label]) for sample in dataset.samples)


def _described(root: Path, own: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """The run's own images with what the folder's table tells of them (sex, age, site, and the lesion where the split
    file does not).
    """
    try:
        known = {sample.path: sample for sample in read(root).samples}
    except DataError as error:
        note(f"no sex, age or site of the images is known: {error.what}")
        return own
    told = [(sample, known.get(sample.path, sample)) for sample in own]
    return tuple(replace(s, meta=table.meta, lesion_id=s.lesion_id or table.lesion_id) for s, table in told)


def _condition(label: str) -> str:
    try:
        return taxonomy.resolve(label).name
    except DataError:  # a class of the user's own: only the same spelling is the same
        return f"own: {label}"
