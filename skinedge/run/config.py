"""Settings of training: frozen dataclasses, read from TOML; unknown keys are errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import ConfigError, one_of
from skinedge.core.json_io import build, read_toml

SOURCE_SAMPLING = ("proportional", "equal")
IMBALANCE = ("logit-adjusted", "balanced-sampling", "focal", "none")


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on convolutions with groups == 1 and on linear layers (Hu et al. 2021).

    rank, alpha: the update is alpha / rank * B A, or alpha / sqrt(rank) * B A if rank_stabilized (Kalajdzievski
    2023); dropout: 0..1 on the adapter's input; dora: train the magnitude of each output channel separately from its
    direction, which A and B update (DoRA, Liu et al. 2024);
    targets: shell patterns for the names of the modules to adapt, among those that can carry an adapter.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    rank_stabilized: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ("*",)


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with linear warm-up and cosine decay.

    learning_rate: peak, of the adapters and the classifier; weight_decay: decoupled;
    warmup: share of all steps (0..1); label_smoothing: 0..1; clip: maximum gradient norm; lora_plus: learning rate of
    B, as a multiple of A's (LoRA+, Hayou et al. 2024); average: decay per step of the moving average of the weights,
    which is validated and kept (0: no averaging).
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    label_smoothing: float = 0.05
    clip: float = 1.0
    lora_plus: float = 1.0
    average: float = 0.99


@dataclass(frozen=True)
class DistillationSettings:
    """Influence of the teacher (Hinton et al. 2015).

    weight: share of the distillation loss in the total (0..1), the rest is the loss on the labels; temperature: divisor
    of both networks' logits in the distillation loss; above 1, less likely classes count more.
    """

    weight: float = 0.5
    temperature: float = 2.0


@dataclass(frozen=True)
class AugmentSettings:
    """Data augmentation in training; none of it changes the diagnosis.

    flip, rotate: on or off (rotation by any angle: a dermatoscope has no up);
    scale: smallest crop, as a share of the side (1: no zoom); shift: maximum shift, as a share of the side;
    stretch: maximum change of the aspect ratio; brightness, contrast, saturation, tint: maximum
    relative change (tint: of each colour channel, as light sources and cameras differ).
    """

    flip: bool = True
    rotate: bool = True
    scale: float = 0.7
    shift: float = 0.08
    stretch: float = 0.1
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    tint: float = 0.08


@dataclass(frozen=True)
class TrainConfig:
    """All settings of `skinedge train` that affect the model, besides the images.

    backbone: a timm name; weights: 'auto' (installed package, else the hub), 'random', or a file;
    image_size: pixels; imbalance: 'logit-adjusted' (Menon et al. 2021), 'balanced-sampling' (all classes equally
    often), 'focal' (Lin et al. 2017) or 'none'; source_sampling: 'proportional' (each image once an epoch) or 'equal'
    (several folders equally often); patience: epochs without a better validation balanced accuracy before
    stopping; precision: 'auto' (the faster one in a short trial), 'fp32' or 'bf16'; checkpoint_minutes: maximum
    interval between checkpoints, the work that a crash can cost; split: a split.csv to reuse instead of making one;
    teacher: a finished run of the same classes to distil from, or several (the mean of their probabilities), '' for
    none; limit: maximum number of images, stratified; domain: overrides the reader's; license: SPDX expression of the
    weights, overrides that of the images; taxonomy: class name -> 'benign', 'premalignant', 'malignant' or the name of
    a known condition.
    """

    backbone: str = "tf_efficientnet_lite0"
    weights: str = "auto"
    image_size: int = 224
    epochs: int = 10
    batch_size: int = 32
    seed: int = 0
    split: str = ""
    teacher: str | tuple[str, ...] = ""
    limit: int | None = None
    patience: int = 5
    imbalance: str = "logit-adjusted"
    source_sampling: str = "proportional"
    precision: str = "auto"
    checkpoint_minutes: float = 3.0
    domain: str | None = None
    license: str | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    taxonomy: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("imbalance", self.imbalance, IMBALANCE)
        one_of("source_sampling", self.source_sampling, SOURCE_SAMPLING)
        one_of("precision", self.precision, ("auto", "fp32", "bf16"))
        _within("image_size", self.image_size, 32, 4096)
        _within("epochs", self.epochs, 1)
        _within("batch_size", self.batch_size, 1)
        _within("seed", self.seed, 0)
        _within("patience", self.patience, 1)
        _within("checkpoint_minutes", self.checkpoint_minutes, 0)
        if self.limit is not None:
            _within("limit", self.limit, 1)
            if self.split:
                raise ConfigError("limit and split contradict each other", todo="Remove one of them.")
        check_lora(self.lora)
        check_optimizer(self.optimizer)
        check_augment(self.augment)
        check_distillation(self.distillation)

    def with_options(self, options: Mapping[str, Any]) -> TrainConfig:
        """Return a copy with the given command-line options applied; None leaves a setting unchanged."""
        changes = {key: value for key, value in options.items() if value is not None}
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, as the manifest records them."""
        return asdict(self)


def load_config(path: Path | None) -> TrainConfig:
    """Read a TOML file; None gives the defaults.

    Raises: ConfigError for a missing file, invalid TOML, an unknown key or a value of the wrong type.
    """
    if path is None:
        return TrainConfig()
    return read_toml(path, TrainConfig)


def recorded_config(raw: Mapping[str, Any], where: str) -> TrainConfig:
    """Build the config recorded in a manifest or job. Settings missing from older runs take their defaults.

    Raises: ConfigError.
    """
    settings = {key: value for key, value in raw.items() if value is not None}
    return build(settings, TrainConfig, where, error=ConfigError)


def check_lora(settings: LoraSettings) -> None:
    """Raises: ConfigError for a value out of range."""
    _within("lora.rank", settings.rank, 1)
    _within("lora.alpha", settings.alpha, 1e-6)
    _within("lora.dropout", settings.dropout, 0, 0.99)
    if not settings.targets:
        raise ConfigError("lora.targets is empty", todo='["*"] adapts every layer that can be adapted.')


def check_optimizer(settings: OptimizerSettings) -> None:
    """Raises: ConfigError for a value out of range."""
    _within("optimizer.learning_rate", settings.learning_rate, 1e-12)
    _within("optimizer.weight_decay", settings.weight_decay, 0)
    _within("optimizer.warmup", settings.warmup, 0, 1)
    _within("optimizer.label_smoothing", settings.label_smoothing, 0, 0.99)
    _within("optimizer.clip", settings.clip, 1e-12)
    _within("optimizer.lora_plus", settings.lora_plus, 1e-3)
    _within("optimizer.average", settings.average, 0, 0.99999)


def check_augment(settings: AugmentSettings) -> None:
    """Raises: ConfigError for a value out of range."""
    _within("augment.scale", settings.scale, 0.01, 1)
    for name in ("shift", "stretch", "brightness", "contrast", "saturation", "tint"):
        _within(f"augment.{name}", getattr(settings, name), 0, 0.99)


def check_distillation(settings: DistillationSettings) -> None:
    """Raises: ConfigError for a value out of range."""
    _within("distillation.weight", settings.weight, 0, 1)
    _within("distillation.temperature", settings.temperature, 0.01, 1000)


def _within(name: str, value: float, least: float, most: float = math.inf) -> None:
    if not least <= value <= most:
        limit = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
        raise ConfigError(f"{name} is {value}; it must be {limit}")
