"""Provenance in a manifest: schemas of `training` (how the model was trained) and `info` (how a file was exported)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from skinedge.core.schemas import UnfitError, fit
from skinedge.run.config import recorded_config
from skinedge.stats.verdicts import Verdict


class BaseWeights(TypedDict):
    """Initial weights of training. source: a package, hub or file."""

    source: str
    sha256: str


class Reading(TypedDict, total=False):
    """How the folder was read, as far as the user chose it (`skinedge.data.read_options`)."""

    table: str
    columns: dict[str, str]
    plan_sha256: str
    map: dict[str, Any]
    sources: list[SourceReading]


class SourceReading(TypedDict):
    """How one of several folders was read. path: below the folder of all."""

    name: str
    path: str
    reading: dict[str, Any]


class SourceRecord(SourceReading):
    """One of several folders: `skinedge.data.dataset.DataSource`."""

    kind: str
    domain: str
    license: str
    attribution: str
    labels: list[str]


class TrainingData(TypedDict):
    """kind: the reader's name; counts: split -> label -> images; training_prior: label -> share (0..1).

    partial: label -> the classes that its images may be; sources: of a training on several folders.
    """

    kind: str
    counts: dict[str, dict[str, int]]
    training_prior: dict[str, float]
    reading: NotRequired[Reading]
    partial: NotRequired[dict[str, list[str]]]
    sources: NotRequired[list[SourceRecord]]


class Best(TypedDict, total=False):
    """The epoch whose weights the run keeps."""

    epoch: float
    val_balanced_accuracy: float | None
    val_macro_auc: float | None


class Teacher(TypedDict, total=False):
    """The run that this one was distilled from, or several (`members`, each as one); empty if none."""

    name: str
    model_sha256: str
    license: str
    attribution: str
    members: list[dict[str, Any]]


class Training(TypedDict):
    """`Manifest.training`, as `training.train` writes it. config: `run.config.TrainConfig`; seconds: total."""

    backbone: str
    base_weights: BaseWeights
    config: dict[str, Any]
    data: TrainingData
    best: NotRequired[Best]
    teacher: NotRequired[Teacher]
    device: NotRequired[str]
    precision: NotRequired[str]
    seconds: NotRequired[float]
    versions: NotRequired[dict[str, str]]


class Tensor(TypedDict):
    """JSON form of `skinedge.run.plugins.TensorSpec`."""

    name: str
    shape: list[int]
    dtype: str


class GateRecord(TypedDict):
    """JSON form of `skinedge.stats.gates.Gate`."""

    name: str
    value: float | None
    limit: float | None
    verdict: Verdict
    detail: str


class ModelInfo(TypedDict):
    """`FileEntry.info` of an exported model file, as `skinedge_export.export` writes it."""

    format: str
    precision: str
    inputs: list[Tensor]
    outputs: list[Tensor]
    ops: dict[str, int]
    versions: dict[str, str]
    gates: list[GateRecord]


def check_training(training: Mapping[str, Any], labels: tuple[str, ...]) -> None:
    """Check `Manifest.training`; {} is a run that was not trained here. Raises: UnfitError, ConfigError."""
    if not training:
        return
    fields = fit(training, Training, ("training",))
    recorded_config(fields["config"], "training.config")
    prior = fields["data"]["training_prior"]
    if set(prior) != set(labels) or not all(0 <= share <= 1 for share in prior.values()):
        raise UnfitError("must be a share from 0 to 1 for each label", ("training", "data", "training_prior"))


def check_info(info: Mapping[str, Any], path: tuple[Any, ...]) -> None:
    """Check the `info` of an exported model file; that of other files is free.

    Args:
        path: keys that lead to `info` in the manifest, for the message.
    Raises: UnfitError.
    """
    if "format" not in info:
        return
    fields = fit(info, ModelInfo, path)
    if len(fields["inputs"]) != 1 or not fields["outputs"]:
        raise UnfitError("a model file must have one input, and at least one output", path)
