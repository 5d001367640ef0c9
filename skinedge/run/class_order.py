"""Whether every part of a run names its classes in one order, checked by name against split.csv.

Training sorts the names, and split.csv has the label of every image, so an order that was changed in manifest, files,
cards and reference alike still contradicts the split. Hashes cannot tell: whoever edits a file can edit its hash.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from skinedge.core import json_io, taxonomy
from skinedge.core.arrays import open_arrays
from skinedge.core.errors import BundleError, DataError
from skinedge.data import readers
from skinedge.data.dataset import Sample, read_split
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import card_name, read_card
from skinedge.run.file_trial import open_tried
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.plugins import judge_for
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics

PARITY, THRESHOLDS, REFERENCE = "reports/parity.json", "reports/thresholds.json", "reference.npz"
DRAWN = "SYNTHETIC"  # what the id of every drawn image begins with
LABELS_BYTES = 64 << 10
SAME = 1e-6  # figures that are computed again from the same logits
TODO = "The run was changed after it was made, or is damaged: get it again, or make it again with skinedge run."


class _Fitted(TypedDict):
    threshold: float


class _Thresholds(TypedDict):
    files: dict[str, _Fitted]


class _Figures(TypedDict):
    sensitivity: dict[str, float | None]


class _Parity(TypedDict):
    reference: _Figures | None


@dataclass(frozen=True)
class Reference:
    """reference.npz: id (N,) str, labels (N,) int64, logits (N, C) float32 of the whole test split."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


def read_reference(bundle: Bundle) -> Reference:
    """Read a run's reference.npz, its labels checked by name.

    Raises: BundleError when it is missing, changed or damaged, or contradicts manifest or split.csv.
    """
    path, classes = bundle.file(REFERENCE), len(bundle.manifest.labels)
    with open_arrays(path, BundleError, "a file of reference logits") as archive:
        ids = archive.read("id", "U", 1)
        labels, logits = archive.read("label", "iu", 1), archive.read("logits", "f", 2)
        if len(labels) != len(ids) or logits.shape != (len(ids), classes):
            raise ValueError(f"{len(ids)} images, {len(labels)} labels, logits {logits.shape} of {classes} classes")
        if not np.isfinite(logits).all() or any(label not in range(classes) for label in labels):
            raise ValueError("a logit is not a number, or a label no class")
        reference = Reference(tuple(ids.tolist()), labels.astype(np.int64), logits.astype(np.float32))
    samples = read_split(bundle.file("split.csv"))
    check_manifest(bundle.manifest, samples)
    check_reference(reference, bundle.manifest, samples, str(path))
    return reference


def check_manifest(manifest: Manifest, samples: Sequence[Sample]) -> None:
    """Raises: BundleError when the manifest's labels are not split.csv's, sorted, or drawn images pass for real."""
    expected = tuple(sorted({sample.label for sample in samples}))
    if manifest.labels != expected:
        what = f"the manifest's labels are {list(manifest.labels)}, those of split.csv in their order {list(expected)}"
        raise BundleError(what, where="manifest.json", todo=TODO)
    if any(sample.image_id.upper().startswith(DRAWN) for sample in samples) and not manifest.synthetic:
        raise BundleError("split.csv lists drawn images, the manifest says real ones", where="manifest.json", todo=TODO)


def check_reference(reference: Reference, manifest: Manifest, samples: Sequence[Sample], where: str) -> None:
    """Raises: BundleError unless the reference has the label and logits of each test image of the split."""
    test = [sample for sample in samples if sample.split == "test"]
    if tuple(sample.image_id for sample in test) != reference.ids:
        raise BundleError("reference.npz and split.csv list different test images", where=where)
    shape = (len(test), len(manifest.labels))
    if reference.logits.shape != shape or reference.labels.shape != shape[:1]:
        raise BundleError(f"its logits are {reference.logits.shape}, expected {shape}", where=where)
    for sample, index in zip(test, reference.labels.tolist(), strict=True):
        name = manifest.labels[index] if 0 <= index < len(manifest.labels) else f"class {index}"
        if name != sample.label:
            raise BundleError(f"{sample.image_id} is {name}, in split.csv {sample.label}", where=where, todo=TODO)


def check_run(bundle: Bundle) -> None:
    """Check all that a run says of its classes, without its images: reference, reports, model files and cards.

    Raises: BundleError, DataError when two of them contradict each other.
    """
    if bundle.has(REFERENCE):
        check_recorded(bundle, read_reference(bundle))
    else:
        check_manifest(bundle.manifest, read_split(bundle.file("split.csv")))
    for entry in bundle.model_files():
        check_account(bundle, entry)


def check_recorded(bundle: Bundle, reference: Reference) -> None:
    """Raises: BundleError when reports give other figures for the reference, or other thresholds, than the run has."""
    manifest = bundle.manifest
    if bundle.has(THRESHOLDS):
        fitted = json_io.read_json(bundle.file(THRESHOLDS), _Thresholds)["files"]
        for name, threshold in manifest.thresholds.items():
            recorded = fitted[name]["threshold"] if name in fitted else threshold
            if recorded != threshold:
                what = f"the threshold of {name} is {threshold}, in {THRESHOLDS} {recorded}"
                raise BundleError(what, where=str(bundle.root), todo=TODO)
    if not bundle.has(PARITY) or _is_older(bundle, PARITY):
        return
    figures = json_io.read_json(bundle.file(PARITY), _Parity)["reference"]
    sensitivity = {} if figures is None else figures["sensitivity"]
    recall = metrics.per_class(reference.labels, metrics.softmax(reference.logits)).recall
    for label, value in zip(manifest.labels, recall.tolist(), strict=True):
        before = sensitivity.get(label)
        if before is not None and not abs(before - value) <= SAME:
            what = f"{PARITY} has {before:.4f} for the sensitivity to {label}, reference.npz gives {value:.4f}"
            raise BundleError(what, where=str(bundle.root), todo=TODO)


def _is_older(bundle: Bundle, report: str) -> bool:
    """Whether a report was made from another reference than the run has now."""
    entries = bundle.entries()
    return entries[report].made_from.get(REFERENCE) not in (None, entries[REFERENCE].sha256)


def check_account(bundle: Bundle, entry: FileEntry) -> None:
    """Raises: BundleError when a model file, or the card beside it, names other classes than the manifest."""
    path = bundle.file(entry.path)
    metadata = open_tried(path, judge_for(path)).metadata
    problem = class_contradiction(metadata, bundle.manifest)
    if problem:
        raise BundleError(problem, where=entry.path, todo=TODO)
    name = card_name(entry.path)
    if bundle.has(name) and (problem := _card_contradiction(read_card(bundle.file(name)), bundle.manifest)):
        raise BundleError(problem, where=name, todo=TODO)


def class_contradiction(metadata: Mapping[str, str], manifest: Manifest) -> str | None:
    """What a model file says of the classes that its run does not: labels, taxonomy, melanoma, drawn or real images."""
    if KEY not in metadata:
        return "the file carries no description of itself"
    own = ModelDescription.from_json(metadata[KEY], "model file")
    if own.labels != manifest.labels:
        return f"the file's labels {list(own.labels)} are not the run's {list(manifest.labels)}"
    try:
        plain = label_lines(metadata["labels"]) if "labels" in metadata else own.labels
    except ValueError as error:
        return f"the file's label list cannot be read ({error})"
    if plain != manifest.labels:
        return f"the file's label list {list(plain)} is not the run's {list(manifest.labels)}"
    if dict(own.taxonomy) != dict(manifest.taxonomy):
        return "the file's taxonomy (which classes count as malignant) is not the run's"
    if own.melanoma != manifest.melanoma:
        return f"the file's melanoma class is {own.melanoma}, the run's is {manifest.melanoma}"
    if own.synthetic != manifest.synthetic:
        return f"the file's `synthetic` is {own.synthetic}, the run's is {manifest.synthetic}"
    return None


def _card_contradiction(card: Mapping[str, Any], manifest: Manifest) -> str | None:
    """The same of a card."""
    try:
        classes = [(row["index"], row["label"], row["group"]) for row in card["classes"]]
        said = (classes, card["melanoma"], card["malignant_score"]["sum_of"], card["synthetic"])
    except (KeyError, TypeError) as error:
        return f"damaged card ({error!r})"
    expected = [(index, label, manifest.taxonomy[label]) for index, label in enumerate(manifest.labels)]
    malignant = [manifest.labels[index] for index in manifest.malignant]
    if said != (expected, manifest.melanoma, malignant, manifest.synthetic):
        return "the card names other classes than the manifest"
    return None


def check_folder(samples: Sequence[Sample], root: Path) -> str | None:
    """Compare the split's labels with those that the folder of images has, by name.

    Returns: why they could not be compared, None where they were. Raises: BundleError for another label.
    """
    try:
        labels = {sample.path: sample.label for sample in readers.read(root).samples}
    except DataError as error:
        return f"the labels of {root} cannot be read ({error.what}): those of split.csv are used"
    for sample in samples:
        label = labels.get(sample.path, sample.label)
        if label != sample.label:
            what = f"{sample.path} is {label} in the folder, {sample.label} in split.csv"
            raise BundleError(what, where=str(root), todo="Give the folder that the run was trained from.")
    return None


def taxonomy_warnings(manifest: Manifest) -> tuple[str, ...]:
    """What the run says of its classes that the table of skin conditions does not: the user's choice, or an error."""
    warnings = []
    for label in manifest.labels:
        try:
            condition = taxonomy.resolve(label)
        except DataError:
            continue  # the table has no such condition: the user said what it is
        if condition.group != manifest.taxonomy[label]:
            counted = manifest.taxonomy[label]
            warnings.append(f"'{label}' counts as {counted} in this run, as {condition.group} in the taxonomy")
        if (condition.name == taxonomy.MELANOMA) != (label == manifest.melanoma):
            warnings.append(f"'{label}' means {condition.name}, but this run's melanoma is {manifest.melanoma}")
    return tuple(warnings)


def label_lines(text: str) -> tuple[str, ...]:
    """A label list: JSON, Python's own spelling of a list, or one a line. Raises: ValueError."""
    if not text.lstrip().startswith("["):
        return tuple(text.strip().splitlines())
    try:
        labels = json_io.parse_json(text, list[Any], "labels", error=DataError, most=LABELS_BYTES)
    except DataError:
        try:
            labels = ast.literal_eval(text.strip()[:LABELS_BYTES])
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            raise ValueError(f"neither JSON nor a Python list: {text.strip()[:60]}") from None
    return tuple(str(label) for label in labels)
