"""What a manifest keeps of how its model was trained and its files were exported: schemas of `training` and `info`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from skinedge.core.schemas import UnfitError, fit
from skinedge.run.config import known_config


class BaseWeights(TypedDict):
    """What training began with. source: a package, hub or file."""

    source: str
    sha256: str


class TrainingData(TypedDict):
    """kind: the reader's name; counts: split -> label -> images; training_prior: label -> share (0..1)."""

    kind: str
    counts: dict[str, dict[str, int]]
    training_prior: dict[str, float]


class Best(TypedDict, total=False):
    """The epoch whose weights the run keeps."""

    epoch: float
    val_balanced_accuracy: float | None
    val_macro_auc: float | None


class Teacher(TypedDict, total=False):
    """The run that taught this one; empty without one."""

    name: str
    model_sha256: str
    license: str
    attribution: str


class Training(TypedDict):
    """`Manifest.training`, as `training.train` writes it. config: `run.config.TrainConfig`; seconds: in all."""

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
    """As `skinedge.run.plugins.TensorSpec`."""

    name: str
    shape: list[int]
    dtype: str


class GateRecord(TypedDict):
    """As `skinedge.stats.gates.Gate`."""

    name: str
    value: float | None
    limit: float | None
    verdict: str
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
    """Raises: UnfitError, ConfigError for what `train` never writes; {} is a run without a training."""
    if not training:
        return
    known = fit(training, Training, ("training",))
    known_config(known["config"], "training.config")
    prior = known["data"]["training_prior"]
    if set(prior) != set(labels) or not all(0 <= share <= 1 for share in prior.values()):
        raise UnfitError("not a share of 0 to 1 for each label", ("training", "data", "training_prior"))


def check_info(info: Mapping[str, Any], place: tuple[Any, ...]) -> None:
    """Raises: UnfitError where a model file's facts are not what export writes; other files' facts are free."""
    if "format" not in info:
        return
    known = fit(info, ModelInfo, place)
    if len(known["inputs"]) != 1 or not known["outputs"]:
        raise UnfitError("a model file has one input, and outputs", place)
