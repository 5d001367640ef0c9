"""The manifest of a run: its identity, its labels in order, and every file with hash and provenance."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from skinedge.core import json_io
from skinedge.core.errors import BundleError, SkinedgeError
from skinedge.core.files import name_problem
from skinedge.core.preprocess import Preprocess
from skinedge.core.schemas import UnfitError, fit
from skinedge.core.taxonomy import GROUPS
from skinedge.run.provenance import check_info, check_training
from skinedge.stats.calibration import Calibration
from skinedge.stats.earlier_verdicts import renamed

SCHEMA = "skinedge.manifest/1"
MANIFEST = "manifest.json"
MODEL = "model.safetensors"  # the merged network
DAMAGED = json_io.refusal("damaged manifest")
ID = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
SHIP = "ship"  # the stage that marks a packed model and all its copies


@dataclass(frozen=True)
class FileEntry:
    """One file of a run.

    path: relative to the run; sha256: of the file's bytes; size: in bytes; made_by: tool and version;
    made_from: name -> sha256 of each input; info: facts recorded by the stage (precision, ...).
    """

    path: str
    sha256: str
    size: int
    made_by: str
    made_from: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problem = name_problem(self.path) or ("is less than 0 bytes long" if self.size < 0 else None)
        if problem:
            raise ValueError(f"the file {self.path!r} {problem}")


@dataclass(frozen=True)
class Stage:
    """One finished stage: its end (UTC, ISO 8601) and its files."""

    finished_at: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. `labels` is the only record of the class order.

    taxonomy: label -> 'benign' | 'premalignant' | 'malignant'; melanoma: the label of melanoma, None if absent.
    class_prior: label -> class probability that the model's outputs assume (sums to 1).
    calibration: `stats.calibration.Calibration` as a dict, folded into the classifier by merge; empty before.
    thresholds: file name, or 'default' -> decision threshold: malignant score (0..1) from which a lesion is flagged.
    training: everything that determines the weights (config, base weights, data kind).
    data_root: the folder of its images, '' in a packed run.
    license: SPDX expression of the weights, '' if not stated; attribution: the credit that it requires.
    """

    id: str
    name: str
    created_at: str
    synthetic: bool
    domain: str
    labels: tuple[str, ...]
    taxonomy: Mapping[str, str]
    melanoma: str | None
    preprocess: Preprocess
    class_prior: Mapping[str, float]
    data_root: str
    thresholds: Mapping[str, float] = field(default_factory=lambda: {"default": 0.5})
    calibration: Mapping[str, Any] = field(default_factory=dict)
    default_file: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Stage] = field(default_factory=dict)
    license: str = ""
    attribution: str = ""
    schema: str = SCHEMA

    @property
    def malignant(self) -> tuple[int, ...]:
        """Indices of the labels that count towards the malignant score."""
        return tuple(i for i, label in enumerate(self.labels) if self.taxonomy[label] != "benign")

    def threshold(self, file: str) -> float | None:
        """Return the decision threshold of `file`: its own, else the merged network's, else None."""
        return self.thresholds.get(file, self.thresholds.get("default"))

    @property
    def melanoma_index(self) -> int | None:
        """Index of the melanoma label, None if absent."""
        return None if self.melanoma is None else self.labels.index(self.melanoma)

    @property
    def shipped(self) -> bool:
        """Whether this is a packed model or a copy of one."""
        return SHIP in self.stages

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.json. Raises: BundleError when it cannot be read, is not a JSON object or is damaged."""
        return cls.from_dict(json_io.read_json(path, dict[str, Any], error=DAMAGED), str(path))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str) -> Manifest:
        """Build a manifest from its JSON form.

        Raises: BundleError on another schema, a missing or unknown key, or an invalid value.
        """
        if raw.get("schema") != SCHEMA:
            raise BundleError(
                f"manifest schema is {raw.get('schema')!r}, this version reads '{SCHEMA}'",
                where=where,
                todo="Use the skinedge version that made the run, or train again.",
            )
        manifest = json_io.build(renamed(raw), cls, where, error=DAMAGED)
        try:
            check(manifest)
        except SkinedgeError as error:
            raise DAMAGED(error.what, where=where) from None
        except ValueError as error:
            raise DAMAGED(str(error), where=where) from None
        return manifest


def check(manifest: Manifest) -> None:
    """Check values of the right types for validity and consistency. Raises: UnfitError, SkinedgeError."""
    if not ID.fullmatch(manifest.id):  # it is part of the folder names of copies
        raise UnfitError(f"{manifest.id!r} is not a valid id", ("id",))
    check_classes(manifest.labels, manifest.taxonomy, manifest.melanoma, manifest.class_prior)
    if not all(threshold >= 0 for threshold in manifest.thresholds.values()):  # above 1: nothing is flagged
        raise UnfitError(f"{dict(manifest.thresholds)} must all be at least 0", ("thresholds",))
    check_training(manifest.training, manifest.labels)
    if manifest.calibration:
        calibration = fit(manifest.calibration, Calibration, ("calibration",))
        if len(calibration.bias) != len(manifest.labels):
            raise UnfitError("must have one number per label", ("calibration", "bias"))
    for name, stage in manifest.stages.items():
        for index, entry in enumerate(stage.files):
            path = ("stages", name, "files", index)
            if entry.path.lower() == MANIFEST:
                raise UnfitError("the manifest lists itself", (*path, "path"))
            check_info(entry.info, (*path, "info"))
    for file in {manifest.default_file or "default", *manifest.thresholds}:
        if problem := name_problem(file):
            raise UnfitError(f"the file name {file!r} {problem}")


def check_classes(
    labels: Sequence[str], taxonomy: Mapping[str, str], melanoma: str | None, prior: Mapping[str, float]
) -> None:
    """Check taxonomy, melanoma label and class prior against the labels; see `Manifest`. Raises: UnfitError."""
    if not labels or len(set(labels)) < len(labels) or not all(labels):
        raise UnfitError(f"{list(labels)} must be distinct, non-empty names", ("labels",))
    if set(taxonomy) != set(labels) or not set(taxonomy.values()) <= set(GROUPS):
        raise UnfitError(f"{dict(taxonomy)} does not match the labels {list(labels)}", ("taxonomy",))
    if melanoma is not None and melanoma not in labels:
        raise UnfitError(f"'{melanoma}' is not a label", ("melanoma",))
    if set(prior) != set(labels):
        raise UnfitError(f"does not match the labels {list(labels)}", ("class_prior",))
    if not all(0 <= share <= 1 for share in prior.values()) or abs(sum(prior.values()) - 1) > 1e-6:
        raise UnfitError(f"{dict(prior)} must be shares from 0 to 1 that sum to 1", ("class_prior",))


def manifest_text(manifest: Manifest) -> str:
    """Serialize a manifest as JSON."""
    return json_io.to_text(asdict(manifest))


def new_id() -> str:
    """Return a unique run id that sorts by time."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{os.urandom(4).hex()}"


def now() -> str:
    """Return the current time: UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
