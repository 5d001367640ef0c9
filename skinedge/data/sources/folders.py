"""Several folders of labelled images as one dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skinedge.core import taxonomy
from skinedge.core.errors import ConfigError, DataError
from skinedge.data.dataset import GLOBAL_ID, Dataset, DataSource, Sample
from skinedge.data.licensing import licence_of
from skinedge.data.read_options import DEFAULT, ReadOptions, SourceFolder
from skinedge.system.progress import note

KIND = "several sources"


def several(paths: Sequence[Path], readings: Mapping[str, ReadOptions]) -> tuple[Path, ReadOptions]:
    """Return the deepest folder that holds all of `paths`, and how to read it. Sources are named after their folders.

    readings: name -> how to read that folder, where not by default.
    Raises: ConfigError for two folders of one name, one inside another, a reading of no folder, or several drives.
    """
    names = [_place(path).name for path in paths]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        todo = "Rename one, or link to it under another name: sources are named after their folders."
        raise ConfigError(f"two folders of --data are named '{repeated[0]}'", todo=todo)
    for path in paths:
        inside = next((p for p in paths if p is not path and path.resolve().is_relative_to(p.resolve())), None)
        if inside is not None:
            raise ConfigError(f"--data names {path}, which is inside {inside}", todo="Name each folder once.")
    if unknown := sorted(set(readings) - set(names)):
        raise ConfigError(
            f"--map names the folder '{unknown[0]}', which --data does not", todo=f"Folders: {', '.join(names)}."
        )
    try:
        root = Path(os.path.commonpath([_place(path) for path in paths]))
    except ValueError:
        raise ConfigError("the folders of --data are on several drives", todo="Move them to one drive.") from None
    sources = tuple(
        SourceFolder(name, _place(path).relative_to(root).as_posix(), readings.get(name, DEFAULT))
        for name, path in zip(names, paths, strict=True)
    )
    return root, ReadOptions(sources=sources)


def _place(path: Path) -> Path:
    """Return the absolute path; a link keeps its own name, by which its source is named."""
    return Path(os.path.normpath(path.absolute()))


def join(sources: Sequence[SourceFolder], datasets: Sequence[Dataset], root: Path) -> Dataset:
    """Return the images of all sources as one dataset with paths below `root`.

    datasets: of the sources, in their order.
    Raises: DataError for a class that only partial labels name, a label with two meanings, or a part that is synthetic.
    """
    parts = _with_distinct_ids([_part(*pair, root) for pair in zip(sources, datasets, strict=True)])
    labels = tuple(sorted({label for part in parts for label in part.labels}))
    dataset = Dataset(
        root,
        KIND,
        labels,
        tuple(sample for part in parts for sample in part.samples),
        _domain([part.domain for part in parts]),
        all(part.synthetic for part in parts),
        _partial(parts, labels),
        {name: share for part in parts for name, share in part.test_shares.items()},
        tuple(source for part in parts for source in part.sources),
    )
    for broad, narrow in _overlapping(labels):
        note(f"warning: class '{narrow}' is a part of '{broad}', and both are learned: a --map can join them")
    if len({part.synthetic for part in parts}) > 1:
        raise DataError("some sources are synthetic and some are not", todo="Train on one kind of images.")
    return dataset


def _overlapping(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of classes of which the first includes, or is, the second by the taxonomy."""
    conditions = {label: taxonomy.find(label) for label in labels}
    return [
        (broad, narrow)
        for broad, one in conditions.items()
        for narrow, other in conditions.items()
        if broad != narrow and one and other and taxonomy.includes(one, other) and (one is not other or broad < narrow)
    ]


def _part(source: SourceFolder, dataset: Dataset, root: Path) -> Dataset:
    """Return the dataset of one source with its name, and with paths below the root of all."""
    place = _place(dataset.root).relative_to(_place(root)).as_posix()
    label_map = source.reading.label_map
    licence = licence_of(dataset.kind, dataset.samples)
    record = DataSource(
        source.name,
        source.path,
        dataset.kind,
        dataset.domain,
        (label_map.license if label_map else "") or licence.license,
        (label_map.attribution if label_map else "") or licence.attribution,
        tuple(sorted({*dataset.labels, *(name for names in dataset.partial.values() for name in names)})),
        source.reading.document(),
    )
    note(f"{source.name}: {dataset.kind}, {len(dataset.samples)} images of {', '.join(record.labels)}")
    samples = tuple(_placed(sample, source.name, place) for sample in dataset.samples)
    shares = dict.fromkeys([source.name] * len(dataset.test_shares), dataset.test_shares.get("", 0.0))
    return replace(dataset, samples=samples, test_shares=shares, sources=(record,))


def _placed(sample: Sample, name: str, place: str) -> Sample:
    return replace(
        sample,
        path=sample.path if place == "." else f"{place}/{sample.path}",
        lesion_id=_own(sample.lesion_id, name),
        patient_id=_own(sample.patient_id, name),
        source=name,
        meta={**sample.meta, "source": name},
    )


def _own(number: str, source: str) -> str:
    """Keep ids such as '17', which several publishers use, apart by the name of the source."""
    return f"{source}/{number}" if number and not GLOBAL_ID.match(number) else number


def _with_distinct_ids(parts: Sequence[Dataset]) -> list[Dataset]:
    """Give images whose id is in several sources their path as id."""
    counts = Counter(sample.image_id for part in parts for sample in part.samples)
    return [
        replace(
            part,
            samples=tuple(replace(s, image_id=s.path) if counts[s.image_id] > 1 else s for s in part.samples),
        )
        for part in parts
    ]


def _partial(parts: Sequence[Dataset], labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Join the partial labels of all sources."""
    joined: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for label, classes in part.partial.items():
            if label in labels or joined.setdefault(label, classes) != classes:
                what = f"the label '{label}' stands for several classes in one source, and for others in another"
                raise DataError(what, where=str(part.root), todo="Rename the class of this folder.")
            if absent := [name for name in classes if name not in labels]:
                what = f"'{label}' may be '{absent[0]}', but no source has images known to be it"
                raise DataError(what, where=str(part.root), todo="Correct the map, or add a source of this class.")
    return joined


def _domain(domains: Sequence[str]) -> str:
    """Return the one domain of all sources; 'mixed' for several, 'unknown' if that of any is."""
    if "unknown" in domains:
        return "unknown"
    return domains[0] if len(set(domains)) == 1 else "mixed"
