"""The manifest of a run: what it is, the order of its labels, and every file with its hash and origin."""

from __future__ import annotations

import datetime
import re
import secrets
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

SCHEMA = "skinedge.manifest/1"
MANIFEST = "manifest.json"
MODEL = "model.safetensors"  # the merged network
DAMAGED = json_io.refusal("damaged manifest")
ID = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
SHIP = "ship"  # the stage of a model that was packed to travel, and of every copy of it


@dataclass(frozen=True)
class FileEntry:
    """One file of a run: where it is (relative to the run), what it holds, who made it from what.

    sha256: of the file's bytes; size: in bytes; made_by: tool and version;
    made_from: name -> sha256 of each input; info: what the stage says of the file (precision, ...).
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
    """One finished stage: when it ended (UTC, ISO 8601) and the files it left."""

    finished_at: str
    files: tuple[FileEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """What a run is. `labels` is the only place where the order of the classes is kept.

    taxonomy: label -> 'benign' | 'premalignant' | 'malignant'; melanoma: the label that is melanoma, None without.
    class_prior: label -> probability that the model's outputs assume for the class (sums to 1).
    calibration: `stats.calibration.Calibration` as a dict, what merge folded into the classifier; empty before.
    thresholds: file name, or 'default' -> malignant score (0..1) at and above which a lesion is flagged.
    training: everything that decides what the weights are (config, base weights, data kind).
    data_root: the folder of its images, '' in a run that was packed to travel.
    license: SPDX expression of the weights, '' where nobody stated one; attribution: whom it asks to name.
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
        """The malignant score from which on `file` flags: its own, else the merged network's, None without either."""
        return self.thresholds.get(file, self.thresholds.get("default"))

    @property
    def melanoma_index(self) -> int | None:
        """Index of the label that is melanoma."""
        return None if self.melanoma is None else self.labels.index(self.melanoma)

    @property
    def shipped(self) -> bool:
        """Whether it was packed to travel, or is a copy of a run that was."""
        return SHIP in self.stages

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.json. Raises: BundleError when it cannot be read, is no JSON object or is damaged."""
        return cls.from_dict(json_io.read_json(path, dict[str, Any], error=DAMAGED), str(path))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], where: str) -> Manifest:
        """Read the JSON form; raises BundleError on another schema, a missing or unknown key, or a wrong value."""
        if raw.get("schema") != SCHEMA:
            raise BundleError(
                f"manifest schema is {raw.get('schema')!r}, this version reads '{SCHEMA}'",
                where=where,
                todo="Use the skinedge version that made the run, or train again.",
            )
        manifest = json_io.build(raw, cls, where, error=DAMAGED)
        try:
            check(manifest)
        except SkinedgeError as error:
            raise DAMAGED(error.what, where=where) from None
        except ValueError as error:
            raise DAMAGED(str(error), where=where) from None
        return manifest


def check(manifest: Manifest) -> None:
    """Raises: UnfitError, SkinedgeError when values that have the right types contradict each other."""
    if not ID.fullmatch(manifest.id):  # copies of a run are named for it
        raise UnfitError(f"{manifest.id!r} is no id", ("id",))
    check_classes(manifest.labels, manifest.taxonomy, manifest.melanoma, manifest.class_prior)
    if not all(threshold >= 0 for threshold in manifest.thresholds.values()):  # above 1: nothing is flagged
        raise UnfitError(f"{dict(manifest.thresholds)} are not all 0 or more", ("thresholds",))
    check_training(manifest.training, manifest.labels)
    if manifest.calibration:
        calibration = fit(manifest.calibration, Calibration, ("calibration",))
        if len(calibration.bias) != len(manifest.labels):
            raise UnfitError("not one number for each label", ("calibration", "bias"))
    for name, stage in manifest.stages.items():
        for index, entry in enumerate(stage.files):
            place = ("stages", name, "files", index)
            if entry.path.lower() == MANIFEST:
                raise UnfitError("the manifest lists itself", (*place, "path"))
            check_info(entry.info, (*place, "info"))
    for file in {manifest.default_file or "default", *manifest.thresholds}:
        if problem := name_problem(file):
            raise UnfitError(f"the file name {file!r} {problem}")


def check_classes(
    labels: Sequence[str], taxonomy: Mapping[str, str], melanoma: str | None, prior: Mapping[str, float]
) -> None:
    """Raises: UnfitError when what is said of the classes does not fit the labels; see `Manifest`."""
    if not labels or len(set(labels)) < len(labels) or not all(labels):
        raise UnfitError(f"{list(labels)} are not different names", ("labels",))
    if set(taxonomy) != set(labels) or not set(taxonomy.values()) <= set(GROUPS):
        raise UnfitError(f"{dict(taxonomy)} does not fit the labels {list(labels)}", ("taxonomy",))
    if melanoma is not None and melanoma not in labels:
        raise UnfitError(f"'{melanoma}' is no label", ("melanoma",))
    if set(prior) != set(labels):
        raise UnfitError(f"does not fit the labels {list(labels)}", ("class_prior",))
    if not all(0 <= share <= 1 for share in prior.values()) or abs(sum(prior.values()) - 1) > 1e-6:
        raise UnfitError(f"{dict(prior)} are not shares of 0 to 1 whose sum is 1", ("class_prior",))


def manifest_text(manifest: Manifest) -> str:
    return json_io.to_text(asdict(manifest))


def new_id() -> str:
    """An id for a run: sortable by time, unique."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
