"""Probabilities that mean something: temperature and class bias, and the threshold of the malignant score.

Fitted on the run's 'cal' split alone, folded into the classifier by merge, so that every exported file gives
calibrated probabilities at no cost. What a probability means depends on how common the classes are taken to be:
the class prior, 'uniform' or that of the 'training' images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, GateError, one_of
from skinedge.stats import metrics

Array = NDArray[Any]
PRIORS = ("uniform", "training")
SPREAD = 0.5  # logits: how far a class's bias is expected to lie from what the change of prior implies


@dataclass(frozen=True)
class Reading:
    """How the network's raw outputs are to be read: chosen by the user.

    prior: 'uniform' or 'training'; sensitivity: share of malignant images (0..1) that the threshold must flag
    on the cal split.
    """

    prior: str = "uniform"
    sensitivity: float = 0.95

    def __post_init__(self) -> None:
        one_of("prior", self.prior, PRIORS)
        if not 0 < self.sensitivity <= 1:
            raise ConfigError(f"sensitivity is {self.sensitivity}; it must be above 0 and at most 1")

    @classmethod
    def of(cls, calibration: Mapping[str, Any], prior: str | None = None, sensitivity: float | None = None) -> Reading:
        """That of a manifest's `calibration` ({} before the first merge), with what is given laid over it."""
        known = cls(**calibration["reading"]) if calibration else cls()
        return cls(prior or known.prior, known.sensitivity if sensitivity is None else sensitivity)


@dataclass(frozen=True)
class Calibration:
    """logits = raw / temperature + bias; bias: (C,) in the order of the labels; images: how many it was fitted on.

    ece_before: of the raw logits, shifted to the prior; ece_after: of the calibrated ones; both weighted to the
    prior, on the test split, None without test images.
    """

    reading: Reading
    temperature: float
    bias: tuple[float, ...]
    images: int
    ece_before: float | None = None
    ece_after: float | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Calibration:
        """From the manifest's form."""
        return cls(**{**raw, "reading": Reading(**raw["reading"]), "bias": tuple(raw["bias"])})

    def apply(self, raw: Array) -> NDArray[np.float32]:
        """raw: (N, C) logits of the network as trained."""
        return np.asarray(raw / self.temperature + np.asarray(self.bias), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def class_prior(reading: Reading, training: Mapping[str, float]) -> dict[str, float]:
    """label -> probability. training: label -> share of the training images."""
    return dict(training) if reading.prior == "training" else {label: 1 / len(training) for label in training}


def learned_prior(imbalance: str, training: Mapping[str, float]) -> dict[str, float]:
    """label -> the class prior that a network trained so assumes by itself. imbalance: as in the training config."""
    uniform = imbalance in ("logit-adjusted", "balanced-sampling")
    return class_prior(Reading("uniform" if uniform else "training"), training)


def fit(raw: Array, labels: Array, reading: Reading, wanted: Array, assumed: Array) -> Calibration:
    """Temperature and bias that make `raw` logits right under the prior `wanted`.

    raw: (N, C); labels: (N,) int64; wanted, assumed: (C,) positive, the prior to be assumed from now on and the one
    that the raw logits assume. The weighted log-likelihood (each class counts as in `wanted`; Platt 1999, Guo et al.
    2017) with a normal prior around log(wanted / assumed), so that a class with a dozen images is not fitted to
    their chance. Without images it is that shift alone.
    Raises: GateError when a logit is not finite.
    """
    import torch

    if not np.isfinite(raw).all():
        raise GateError(
            "the network's outputs on the cal images are not finite (NaN or infinite)",
            todo="Training diverged or the file is damaged: train again, with a lower learning rate.",
        )
    shift = torch.from_numpy(np.log(np.asarray(wanted) / np.asarray(assumed)))
    shift = shift - shift.mean()
    weights = torch.from_numpy(metrics.prior_weights(labels, wanted))
    size = float(weights.sum() ** 2 / weights.square().sum()) if len(labels) else 0.0  # Kish's effective sample size
    logits, targets = torch.from_numpy(np.asarray(raw, dtype=np.float64)), torch.from_numpy(np.asarray(labels))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = shift.clone().requires_grad_()
    solver = torch.optim.LBFGS([log_temperature, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Any:
        solver.zero_grad()
        value = 0.5 * ((bias - shift) / SPREAD).square().sum() + 0.5 * log_temperature.square()
        if len(labels):
            each = torch.nn.functional.cross_entropy(logits / log_temperature.exp() + bias, targets, reduction="none")
            value = value + size * (weights * each).mean()
        value.backward()
        return value

    solver.step(loss)
    found = (bias - bias.mean()).detach().numpy()
    return Calibration(reading, float(log_temperature.detach().exp()), tuple(float(b) for b in found), len(labels))


def ece(raw: Array, labels: Array, prior: Array) -> float | None:
    """The expected calibration error of logits, its images weighted to `prior`; None for no images."""
    if not len(labels):
        return None
    weights = metrics.prior_weights(labels, prior)
    return metrics.reliability(labels, metrics.softmax(raw), weights).ece


def threshold(scores: Array, positive: Array, sensitivity: float) -> float:
    """The malignant score from which on to flag: the highest that flags `sensitivity` of the positives.

    scores: (N,) in 0..1; positive: (N,) bool. Half way to the next lower score, so that the last bit of a score
    decides nothing; 0.5 without positives, where nothing can be fitted.
    """
    if not positive.any():
        return 0.5
    mine = np.sort(scores[positive])
    lowest = float(mine[math.floor((1 - sensitivity) * len(mine) + 1e-9)])
    below = scores[scores < lowest]
    return (lowest + float(below.max(initial=0.0))) / 2


def arrays(labels: Sequence[str], *priors: Mapping[str, float]) -> list[NDArray[np.float64]]:
    """Priors as arrays in the order of the labels."""
    return [np.array([prior[label] for label in labels]) for prior in priors]
