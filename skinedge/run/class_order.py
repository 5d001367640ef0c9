"""Check that all parts of a run name the classes in the same order, by comparing labels with split.csv.

Training sorts the class names, and split.csv has the label of every image. So an order that was changed consistently in
manifest, model files, cards and reference still contradicts the split. Hashes cannot detect this: a person who edits a
file can update its hash.
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
from skinedge.data.dataset import Sample, read_split
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import card_name, read_card
from skinedge.run.file_trial import open_tried
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.plugins import judge_for
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics

PARITY, THRESHOLDS, REFERENCE = "reports/parity.json", "reports/thresholds.json", "reference.npz"
SYNTHETIC_PREFIX = "SYNTHETIC"  # of the id of every synthetic image
LABELS_BYTES = 64 << 10
TOLERANCE = 1e-6  # between recorded metrics and those recomputed from the same logits
TODO = "The run was changed after it was made, or is damaged: get it again, or make it again with skinedge run."


class _FileThreshold(TypedDict):
    threshold: float


class _Thresholds(TypedDict):
    files: dict[str, _FileThreshold]


class _ReferenceMetrics(TypedDict):
    sensitivity: dict[str, float | None]


class _Parity(TypedDict):
    reference: _ReferenceMetrics | None


@dataclass(frozen=True)
class Reference:
    """Contents of reference.npz for the test split: ids (N,) str, labels (N,) int64, logits (N, C) float32."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


def read_reference(bundle: Bundle) -> Reference:
    """Read a run's reference.npz and check its labels by name.

    Raises: BundleError when it is missing, changed or damaged, or contradicts the manifest or split.csv.
    """
    path, classes = bundle.file(REFERENCE), len(bundle.manifest.labels)
    with open_arrays(path, BundleError, "a file of reference logits") as archive:
        ids = archive.read("id", "U", 1)
        labels, logits = archive.read("label", "iu", 1), archive.read("logits", "f", 2)
        if len(labels) != len(ids) or logits.shape != (len(ids), classes):
            raise ValueError(f"{len(ids)} images, {len(labels)} labels, logits {logits.shape} of {classes} classes")
        if not np.isfinite(logits).all() or any(label not in range(classes) for label in labels):
            raise ValueError("a logit is not finite, or a label index is out of range")
        reference = Reference(tuple(ids.tolist()), labels.astype(np.int64), logits.astype(np.float32))
    samples = read_split(bundle.file("split.csv"))
    check_manifest(bundle.manifest, samples)
    check_reference(reference, bundle.manifest, samples, str(path))
    return reference


def check_manifest(manifest: Manifest, samples: Sequence[Sample]) -> None:
    """Check that the manifest's labels are the sorted labels of split.csv, and that it declares synthetic images.

    Raises: BundleError otherwise.
    """
    partial = manifest.training["data"].get("partial", {})
    expected = tuple(sorted({sample.label for sample in samples} - set(partial)))
    if manifest.labels != expected:
        what = f"the manifest's labels are {list(manifest.labels)}, the sorted labels of split.csv {list(expected)}"
        raise BundleError(what, where="manifest.json", todo=TODO)
    if any(sample.image_id.upper().startswith(SYNTHETIC_PREFIX) for sample in samples) and not manifest.synthetic:
        what = "split.csv lists synthetic images, but the manifest declares real ones"
        raise BundleError(what, where="manifest.json", todo=TODO)


def check_reference(reference: Reference, manifest: Manifest, samples: Sequence[Sample], where: str) -> None:
    """Check that the reference has the right label, and logits, for each test image of the split.

    Raises: BundleError otherwise.
    """
    test_samples = [sample for sample in samples if sample.split == "test"]
    if tuple(sample.image_id for sample in test_samples) != reference.ids:
        raise BundleError("reference.npz and split.csv list different test images", where=where)
    shape = (len(test_samples), len(manifest.labels))
    if reference.logits.shape != shape or reference.labels.shape != shape[:1]:
        raise BundleError(f"the logits have shape {reference.logits.shape}, expected {shape}", where=where)
    for sample, index in zip(test_samples, reference.labels.tolist(), strict=True):
        label = manifest.labels[index] if 0 <= index < len(manifest.labels) else f"class {index}"
        if label != sample.label:
            what = f"{sample.image_id} has label {label}, but {sample.label} in split.csv"
            raise BundleError(what, where=where, todo=TODO)


def check_run(bundle: Bundle) -> None:
    """Check the classes in a run's reference, reports, model files and cards; needs no images.

    Raises: BundleError, DataError when two of them contradict each other.
    """
    if bundle.has(REFERENCE):
        check_reports(bundle, read_reference(bundle))
    else:
        check_manifest(bundle.manifest, read_split(bundle.file("split.csv")))
    for entry in bundle.model_files():
        check_model_file(bundle, entry)


def check_reports(bundle: Bundle, reference: Reference) -> None:
    """Check that the reports have the thresholds of the manifest and the sensitivities of the reference.

    Raises: BundleError otherwise.
    """
    manifest = bundle.manifest
    if bundle.has(THRESHOLDS):
        reported = json_io.read_json(bundle.file(THRESHOLDS), _Thresholds)["files"]
        for name, threshold in manifest.thresholds.items():
            other = reported[name]["threshold"] if name in reported else threshold
            if other != threshold:
                what = f"the threshold of {name} is {threshold} in the manifest, but {other} in {THRESHOLDS}"
                raise BundleError(what, where=str(bundle.root), todo=TODO)
    if not bundle.has(PARITY) or _is_outdated(bundle, PARITY):
        return
    reported_metrics = json_io.read_json(bundle.file(PARITY), _Parity)["reference"]
    sensitivity = {} if reported_metrics is None else reported_metrics["sensitivity"]
    recall = metrics.per_class(reference.labels, metrics.softmax(reference.logits)).recall
    for label, value in zip(manifest.labels, recall.tolist(), strict=True):
        in_report = sensitivity.get(label)
        if in_report is not None and not abs(in_report - value) <= TOLERANCE:
            what = f"the sensitivity to {label} is {in_report:.4f} in {PARITY}, but {value:.4f} from reference.npz"
            raise BundleError(what, where=str(bundle.root), todo=TODO)


def _is_outdated(bundle: Bundle, report: str) -> bool:
    """Return True if a report was made from another reference than the run has now."""
    entries = bundle.entries()
    return entries[report].made_from.get(REFERENCE) not in (None, entries[REFERENCE].sha256)


def check_model_file(bundle: Bundle, entry: FileEntry) -> None:
    """Check that a model file and its card name the classes of the manifest. Raises: BundleError otherwise."""
    path = bundle.file(entry.path)
    metadata = open_tried(path, judge_for(path), checksum=entry.sha256).metadata
    problem = class_contradiction(metadata, bundle.manifest)
    if problem:
        raise BundleError(problem, where=entry.path, todo=TODO)
    name = card_name(entry.path)
    if bundle.has(name) and (problem := _card_contradiction(read_card(bundle.file(name)), bundle.manifest)):
        raise BundleError(problem, where=name, todo=TODO)


def class_contradiction(metadata: Mapping[str, str], manifest: Manifest) -> str | None:
    """Describe how a model file's embedded metadata contradicts its run; None if they agree.

    Compared are labels, taxonomy, melanoma class and whether the images are synthetic.
    """
    if KEY not in metadata:
        return "the file has no embedded description"
    own = ModelDescription.from_json(metadata[KEY], "model file")
    if own.labels != manifest.labels:
        return f"the file's labels {list(own.labels)} are not the run's {list(manifest.labels)}"
    try:
        label_list = label_lines(metadata["labels"]) if "labels" in metadata else own.labels
    except ValueError as error:
        return f"the file's label list cannot be read ({error})"
    if label_list != manifest.labels:
        return f"the file's label list {list(label_list)} is not the run's {list(manifest.labels)}"
    if dict(own.taxonomy) != dict(manifest.taxonomy):
        return "the file's taxonomy (which classes count as malignant) is not the run's"
    if own.melanoma != manifest.melanoma:
        return f"the file's melanoma class is {own.melanoma}, the run's is {manifest.melanoma}"
    if own.synthetic != manifest.synthetic:
        return f"the file's `synthetic` is {own.synthetic}, the run's is {manifest.synthetic}"
    return None


def _card_contradiction(card: Mapping[str, Any], manifest: Manifest) -> str | None:
    """Describe how a card contradicts its run; None if they agree."""
    try:
        classes = [(row["index"], row["label"], row["group"]) for row in card["classes"]]
        actual = (classes, card["melanoma"], card["malignant_score"]["sum_of"], card["synthetic"])
    except (KeyError, TypeError) as error:
        return f"damaged card ({error!r})"
    expected = [(index, label, manifest.taxonomy[label]) for index, label in enumerate(manifest.labels)]
    malignant = [manifest.labels[index] for index in manifest.malignant]
    if actual != (expected, manifest.melanoma, malignant, manifest.synthetic):
        return "the card and the manifest name different classes"
    return None


def check_folder(samples: Sequence[Sample], root: Path, reading: ReadOptions = DEFAULT) -> str | None:
    """Compare the split's labels with those of the image folder, by path.

    Returns: the reason if the folder's labels cannot be read, else None.
    Raises: BundleError when a label differs; ConfigError for options that do not fit the folder.
    """
    try:
        from skinedge.data import readers

        labels = {sample.path: sample.label for sample in readers.read(root, reading).samples}
    except DataError as error:
        return f"the labels of {root} cannot be read ({error.what}): using those of split.csv"
    for sample in samples:
        label = labels.get(sample.path, sample.label)
        if label != sample.label:
            what = f"{sample.path} is {label} in the folder, {sample.label} in split.csv"
            raise BundleError(what, where=str(root), todo="Give the folder that the run was trained from.")
    return None


def taxonomy_warnings(manifest: Manifest) -> tuple[str, ...]:
    """List where the run's classes differ from the table of skin conditions, by the user's choice or by mistake."""
    warnings = []
    for label in manifest.labels:
        try:
            condition = taxonomy.resolve(label)
        except DataError:
            continue  # not in the table: its group comes from the user
        group = manifest.taxonomy[label]
        if condition.group != group:
            warnings.append(f"'{label}' counts as {group} in this run, as {condition.group} in the taxonomy")
        if (condition.name == taxonomy.MELANOMA) != (label == manifest.melanoma):
            warnings.append(f"'{label}' means {condition.name}, but this run's melanoma is {manifest.melanoma}")
    return tuple(warnings)


def label_lines(text: str) -> tuple[str, ...]:
    """Parse a label list: JSON, a Python list, or one label per line. Raises: ValueError."""
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
