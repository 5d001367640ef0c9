"""Calibration of the probabilities: temperature and class bias, and the decision threshold of the malignant score.

Fitted on the run's cal (calibration) split only and folded into the classifier by `merge`, so that every exported file
gives calibrated probabilities at no cost. Probabilities depend on the class prior, the assumed share of each class:
'uniform' or that of the 'training' images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import ConfigError, GateError, one_of
from skinedge.stats.metrics import softmax
from skinedge.stats.reliability import prior_weights, reliability

Array = NDArray[Any]
PRIORS = ("uniform", "training")
FOLDS = 5  # of the cross-validation that decides whether to calibrate
SPREAD = 0.5  # logits: standard deviation of the normal prior of a class's bias around the change of class prior


@dataclass(frozen=True)
class Reading:
    """Settings of the calibration, chosen by the user.

    prior: 'uniform' or 'training'; sensitivity: share of the malignant cal images (0..1) that the threshold must flag.
    """

    prior: str = "uniform"
    sensitivity: float = 0.95

    def __post_init__(self) -> None:
        one_of("prior", self.prior, PRIORS)
        if not 0 < self.sensitivity <= 1:
            raise ConfigError(f"sensitivity is {self.sensitivity}; it must be above 0 and at most 1")

    @classmethod
    def of(cls, calibration: Mapping[str, Any], prior: str | None = None, sensitivity: float | None = None) -> Reading:
        """Read a manifest's `calibration` ({} before the first merge); prior and sensitivity override it."""
        stored = cls(**calibration["reading"]) if calibration else cls()
        return cls(prior or stored.prior, stored.sensitivity if sensitivity is None else sensitivity)


@dataclass(frozen=True)
class Calibration:
    """Calibrated logits are raw / temperature + bias.

    bias: (C,) in the order of the labels; images: number of images in the fit; ece_before: expected calibration error
    of the raw logits, shifted to the prior; ece_after: of the calibrated logits; both weighted to the prior, on the
    test split, None without test images.
    """

    reading: Reading
    temperature: float
    bias: tuple[float, ...]
    images: int
    ece_before: float | None = None
    ece_after: float | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Calibration:
        """Build from the manifest's JSON."""
        return cls(**{**raw, "reading": Reading(**raw["reading"]), "bias": tuple(raw["bias"])})

    def apply(self, raw: Array) -> NDArray[np.float32]:
        """Calibrate raw: (N, C) logits of the network as trained."""
        return np.asarray(raw / self.temperature + np.asarray(self.bias), dtype=np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest's JSON."""
        return asdict(self)


def class_prior(reading: Reading, training: Mapping[str, float]) -> dict[str, float]:
    """Return label -> probability. training: label -> share of the training images."""
    return dict(training) if reading.prior == "training" else {label: 1 / len(training) for label in training}


def learned_prior(imbalance: str, training: Mapping[str, float]) -> dict[str, float]:
    """Return label -> the class prior that training implies. imbalance: as in the training config."""
    uniform = imbalance in ("logit-adjusted", "balanced-sampling")
    return class_prior(Reading("uniform" if uniform else "training"), training)


def fit(raw: Array, labels: Array, reading: Reading, wanted: Array, assumed: Array) -> Calibration:
    """Fit the temperature and bias that calibrate `raw` logits under the prior `wanted`.

    raw: (N, C); labels: (N,) int64; wanted, assumed: (C,) positive, the prior to assume and the prior that the raw
    logits assume. Maximizes the weighted log-likelihood (the share of each class follows `wanted`; Platt 1999, Guo et
    al. 2017) with a normal prior around log(wanted / assumed), so that a class with a dozen images is not overfitted.
    Without images, the bias is log(wanted / assumed), minus its mean.
    Raises: GateError if a logit is not finite.
    """
    import torch

    if not np.isfinite(raw).all():
        raise GateError(
            "the network's outputs on the cal images are not finite (NaN or infinite)",
            todo="Training diverged or the file is damaged: train again, with a lower learning rate.",
        )
    shift = torch.from_numpy(np.log(np.asarray(wanted) / np.asarray(assumed)))
    shift = shift - shift.mean()
    weights = torch.from_numpy(prior_weights(labels, wanted))
    size = float(weights.sum() ** 2 / weights.square().sum()) if len(labels) else 0.0  # Kish's effective sample size
    logits, targets = torch.from_numpy(np.asarray(raw, dtype=np.float64)), torch.from_numpy(np.asarray(labels))
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = shift.clone().requires_grad_()
    solver = torch.optim.LBFGS([log_temperature, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Any:
        solver.zero_grad()
        value = 0.5 * ((bias - shift) / SPREAD).square().sum() + 0.5 * log_temperature.square()
        if len(labels):
            scaled = logits / log_temperature.exp() + bias
            losses = torch.nn.functional.cross_entropy(scaled, targets, reduction="none")
            value = value + size * (weights * losses).mean()
        value.backward()
        return value

    solver.step(loss)
    centred = (bias - bias.mean()).detach().numpy()
    return Calibration(reading, float(log_temperature.detach().exp()), tuple(float(b) for b in centred), len(labels))


def unfitted(reading: Reading, wanted: Array, assumed: Array, images: int) -> Calibration:
    """Return the calibration that only changes the class prior: temperature 1, bias log(wanted / assumed)."""
    shift = np.log(np.asarray(wanted) / np.asarray(assumed))
    return Calibration(reading, 1.0, tuple(float(b) for b in shift - shift.mean()), images)


def fit_if_better(raw: Array, labels: Array, reading: Reading, wanted: Array, assumed: Array) -> Calibration:
    """Return `fit`, or `unfitted` where a fit predicts held-out cal images worse, by cross-validation.

    Arguments and errors are those of `fit`. Compared is the log-likelihood of each image under a fit to the other
    folds, weighted to `wanted`.
    """
    fitted, plain = fit(raw, labels, reading, wanted, assumed), unfitted(reading, wanted, assumed, len(labels))
    if len(labels) < 2 * FOLDS:
        return fitted
    fold_of, losses = folds(labels), np.zeros((2, len(labels)))
    for fold in range(FOLDS):
        inside, outside = fold_of == fold, fold_of != fold
        for row, one in enumerate((fit(raw[outside], labels[outside], reading, wanted, assumed), plain)):
            chosen = softmax(one.apply(raw[inside]))[np.arange(inside.sum()), labels[inside]]
            losses[row, inside] = -np.log(np.maximum(chosen, 1e-12))
    with_fit, without = (losses * prior_weights(labels, wanted)).sum(axis=1)
    return fitted if with_fit <= without else plain


def folds(labels: Array) -> NDArray[np.int64]:
    """Return the fold of each image, 0 to FOLDS - 1: the images of a class in turn."""
    fold_of, start = np.zeros(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        fold_of[members] = (start + np.arange(len(members))) % FOLDS
        start += len(members)
    return fold_of


def ece(raw: Array, labels: Array, prior: Array) -> float | None:
    """Expected calibration error of logits, with the images weighted to `prior`; None for no images."""
    if not len(labels):
        return None
    weights = prior_weights(labels, prior)
    return reliability(labels, softmax(raw), weights).ece


def threshold(scores: Array, positive: Array, sensitivity: float) -> float:
    """Return the decision threshold of the malignant score: the highest that flags `sensitivity` of the positives.

    scores: (N,) in 0..1; positive: (N,) bool. The threshold is half way to the next lower score, so that rounding of a
    score has no effect; it is 0.5 without positives.
    Raises: GateError if a score is not finite: it would make a threshold that flags nothing.
    """
    if not np.isfinite(scores).all():
        raise GateError("malignant scores of the cal images are not finite (NaN or infinite): no threshold fits them")
    if not positive.any():
        return 0.5
    ordered = np.sort(scores[positive])
    lowest = float(ordered[math.floor((1 - sensitivity) * len(ordered) + 1e-9)])
    below = scores[scores < lowest]
    return (lowest + float(below.max(initial=0.0))) / 2


def arrays(labels: Sequence[str], *priors: Mapping[str, float]) -> list[NDArray[np.float64]]:
    """Convert priors to arrays in the order of the labels."""
    return [np.array([prior[label] for label in labels]) for prior in priors]
