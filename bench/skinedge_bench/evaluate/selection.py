"""Select the images of `skinedge evaluate`, and find those of the run's splits: by id, lesion, bytes and look."""

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
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.data.readers import read
from skinedge.data.split import check_labels
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_bench.evaluate.kinds import by_kind
from skinedge_bench.loaded_model import LoadedModel
from skinedge_bench.split_images import place_of

CHOICES = (*SPLITS, "all")


@dataclass(frozen=True)
class Selection:
    """The images to evaluate.

    root: their folder; samples: with the model's labels, or if by_kind with `kinds.KINDS`; split: 'train', 'val',
    'cal', 'test' or 'all'; seen: split of the run -> number of the images that are in it, or whose lesion is (without
    test); None for a model without its run.
    """

    root: Path
    samples: tuple[Sample, ...]
    split: str
    seen: Mapping[str, int] | None
    by_kind: bool = False

    @property
    def trained_on(self) -> int | None:
        """Number of the images that the model was trained on, or on their lesion; None if unknown."""
        return None if self.seen is None else self.seen.get("train", 0)


def select(
    model: LoadedModel,
    data: Path | None,
    bundle: Bundle | None,
    split: str | None,
    reading: ReadOptions = DEFAULT,
) -> Selection:
    """Select the images of `data`, or of the run, and find those of the run's splits.

    split: None for 'test' if most of the images are in the run's splits, else 'all'; reading: how to read the folder,
    by default as recorded in the run.
    Raises: ConfigError for an unknown split, or without images; DataError if the run's images are not there,
    or none is in the split.
    """
    if split is not None:
        one_of("split", split, CHOICES)
    own = read_split(bundle.file("split.csv")) if bundle is not None else ()
    kinds = False
    if data is not None:
        reading = reading if bundle is None else bundle.reading(reading, data)
        root = data_root(data)
        samples, kinds = _read(data, model, reading)
        seen_in = origins = _origins(samples, own, bundle)
        note_other_content(samples, own)
    elif bundle is not None and bundle.manifest.data_root:
        root = Path(bundle.manifest.data_root)
        if not root.exists():
            todo = "If they were moved, say where they are: --data DIR --split test"
            raise DataError("the folder of the run's images is not here", where=str(root), todo=todo)
        partial = bundle.manifest.training["data"].get("partial", {})
        own = tuple(sample for sample in own if sample.label not in partial)  # no class to compare with
        samples = _with_attributes(root, own, bundle.reading(reading, root))
        origins = [sample.split for sample in own]
        seen_in = origin(samples, samples)  # the folder's table may have lesion ids that the split was made without
    else:
        raise ConfigError("no images to evaluate", todo="Give a folder of labelled images with --data DIR.")
    if split is None:
        split = "test" if sum(map(bool, origins)) * 2 > len(samples) else "all"
        note(f"split: {split}")
    chosen = [
        (sample, seen_split)
        for sample, own_split, seen_split in zip(samples, origins, seen_in, strict=True)
        if split in ("all", own_split or sample.split)
    ]
    if bundle is not None and data is not None and split != "all":
        foreign = sum(
            sample.split == split and not own_split for sample, own_split in zip(samples, origins, strict=True)
        )
        if foreign:
            note(
                f"{foreign} of the {len(chosen)} images are in the folder's own split {split}, and in none of the run's"
            )
    if not chosen:
        sizes = Counter(name or sample.split or "none" for sample, name in zip(samples, origins, strict=True))
        shown = ", ".join(f"{name} {count}" for name, count in sorted(sizes.items()))
        what = f"no image of this folder is in the split '{split}'; it has: {shown}"
        raise DataError(what, where=str(root), todo="Try --split all.")
    seen = Counter(name for _, name in chosen if name not in ("", "test"))
    counts = None if bundle is None else dict(sorted(seen.items()))
    return Selection(root, tuple(sample for sample, _ in chosen), split, counts, kinds)


def note_other_content(samples: Sequence[Sample], own: Sequence[Sample]) -> None:
    """Say how many images, with sha256, have the name of one of the run's, but other bytes."""
    recorded = {sample.image_id: sample.sha256 for sample in own if sample.sha256}
    other = sum(recorded.get(sample.image_id, sample.sha256) != sample.sha256 for sample in samples)
    if other:
        note(f"{other} of {len(samples)} images have the name of one of the run's images, but other content")


def origin(samples: Sequence[Sample], own: Sequence[Sample]) -> list[str]:
    """Return the run's split of each image, or of its lesion; '' for images that are not in the run.

    Images match by ISIC id, lesion id (the lesion of an ISIC image in either table holds for both) and sha256, else by
    look if both phashes are known; a match holds for all photos of the lesion in this folder. An image that matches
    several splits gets the first of train, val, cal, test.
    """
    lesions = lesions_of(samples, own)
    split_of: dict[tuple[str, str], str] = {}
    for sample in sorted(own, key=lambda s: SPLITS.index(s.split), reverse=True):
        split_of.update(dict.fromkeys(marks(sample, lesions), sample.split))
    matches = [[split_of[mark] for mark in marks(sample, lesions) if mark in split_of] for sample in samples]
    unmatched = [i for i, splits in enumerate(matches) if not splits and samples[i].phash]
    hashed = [sample for sample in own if sample.phash]
    if unmatched and hashed:
        for i, j, _ in near_pairs([samples[i].phash for i in unmatched], [sample.phash for sample in hashed]):
            matches[unmatched[i]].append(hashed[j].split)
    of_lesion: dict[str, set[str]] = defaultdict(set)
    for sample, splits in zip(samples, matches, strict=True):
        of_lesion[sample.lesion_id or sample.path].update(splits)
    first = {lesion: min(splits, key=SPLITS.index) if splits else "" for lesion, splits in of_lesion.items()}
    return [first[sample.lesion_id or sample.path] for sample in samples]


def _origins(samples: Sequence[Sample], own: Sequence[Sample], bundle: Bundle | None) -> list[str]:
    """`origin`, decoding the run's images only if needed: cropped or re-encoded copies match by look alone.

    samples: with phash; bundle: None for a model without its run.
    """
    if bundle is None:
        note("no run beside the model: unknown whether it was trained on these images")
        return [""] * len(samples)
    origins = origin(samples, own)
    if all(origins):
        return origins
    hashed = _with_phash(own, bundle) if bundle.manifest.data_root else own
    missing = sum(not sample.phash for sample in hashed)
    if missing:
        note(f"not compared by look, since they are not {place_of(bundle.manifest)}: {missing} images of the run")
    origins_by_look = origin(samples, hashed)
    by_look = sum(bool(now) and not before for now, before in zip(origins_by_look, origins, strict=True))
    if by_look:
        note(f"{by_look} images match images of the run by look alone")
    return origins_by_look


def _with_phash(own: Sequence[Sample], bundle: Bundle) -> tuple[Sample, ...]:
    """Add the phash to the run's images that are available and unchanged."""
    manifest = bundle.manifest
    dataset = Dataset(Path(manifest.data_root), "run", manifest.labels, tuple(own))
    phashes = {(sample.path, sample.sha256): sample.phash for sample in inspect_images(dataset).samples}
    return tuple(replace(sample, phash=phashes.get((sample.path, sample.sha256), "")) for sample in own)


def map_labels(theirs: Sequence[str], ours: Sequence[str]) -> dict[str, str]:
    """Map a folder's class names to the model's: the same name, else the same condition in the taxonomy, else the one
    class whose condition includes it, with a note.

    Raises: DataError for a class that the model does not have.
    """
    conditions = {label: taxonomy.find(label) for label in ours}
    mapping: dict[str, str] = {}
    for name in theirs:
        own = taxonomy.find(name)
        same = [label for label in ours if own is not None and conditions[label] is own]
        broader = [label for label, broad in conditions.items() if own and broad and taxonomy.includes(broad, own)]
        candidates = [name] if name in ours else same or broader
        if len(candidates) != 1:
            raise DataError(
                f"class '{name}' is none of the model's classes",
                todo=f"The model knows: {', '.join(ours)}. Name its class there in a map file: --map FILE.toml, with "
                f'[classes] and "{name}" = "{ours[0]}", for example, or "" to leave its images out.',
            )
        mapping[name] = candidates[0]
        if not same and name not in ours:
            note(f"class '{name}' counts as the model's '{mapping[name]}', which includes it")
    return mapping


def _read(data: Path, model: LoadedModel, reading: ReadOptions) -> tuple[tuple[Sample, ...], bool]:
    """Return a folder's images with the model's labels and False, or with `kinds.KINDS` and True."""
    read_as = read(data, reading)
    kinds = by_kind(read_as, model.labels, model.malignant)
    dataset = hash_images(kinds or _exact(read_as))
    check_labels(dataset.samples)
    note(f"data: {dataset.kind}, {len(dataset.samples)} images in {data}")
    if kinds is not None:
        return dataset.samples, True
    mapping = map_labels(dataset.labels, model.labels)
    return tuple(replace(sample, label=mapping[sample.label]) for sample in dataset.samples), False


def _exact(dataset: Dataset) -> Dataset:
    """Leave out the images whose class is only known to be one of several."""
    samples = tuple(sample for sample in dataset.samples if sample.label not in dataset.partial)
    if len(samples) < len(dataset.samples):
        note(f"left out: {len(dataset.samples) - len(samples)} images whose class the map gives as one of several")
    return replace(dataset, samples=samples, partial={})


def _with_attributes(root: Path, own: tuple[Sample, ...], reading: ReadOptions) -> tuple[Sample, ...]:
    """Add sex, age, site, skin tone and missing lesion ids of the folder's table to the run's images."""
    try:
        described = {sample.path: sample for sample in read(root, reading).samples}
    except DataError as error:
        note(f"sex, age, site and skin tone of the images are unknown: {error.what}")
        return own
    pairs = [(sample, described.get(sample.path, sample)) for sample in own]
    return tuple(replace(s, meta=row.meta, lesion_id=s.lesion_id or row.lesion_id) for s, row in pairs)
