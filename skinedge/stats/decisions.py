"""What a threshold of the malignant score means for patients: thresholds, predictive values, net benefit.

Throughout: positive: (N,) bool, truly malignant; score: (N,), the malignant score, 0..1. An image is flagged if its
score is at or above the threshold. An undefined figure is NaN, never 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skinedge.stats import metrics

SENSITIVITIES = (0.80, 0.85, 0.90, 0.95, 0.97, 0.98, 0.99)
PREVALENCES = (0.01, 0.05, 0.10, 0.20)
RISKS = tuple(percent / 100 for percent in (1, 2, 3, 5, 8, 10, 15, 20, 30, 40, 50))
BINS = 10  # of the malignant score, of equal width

Array = NDArray[Any]


@dataclass(frozen=True)
class OperatingPoint:
    """The highest threshold that flags at least a wanted share of the malignant images.

    wanted: that share; sensitivity, specificity: reached on these images; alarms: flagged benign images for each
    flagged malignant one, with these images' share of malignant ones.
    """

    wanted: float
    threshold: float
    sensitivity: float
    specificity: float
    alarms: float


@dataclass(frozen=True)
class PredictiveValues:
    """PPV and NPV at an assumed prevalence: the share of the flagged that is malignant, of the others that is not."""

    prevalence: float
    ppv: float
    npv: float


@dataclass(frozen=True)
class NetBenefit:
    """Net benefit at one risk threshold, per image: of the model, and of treating every image as malignant.

    Treating none has a net benefit of 0.
    """

    risk: float
    model: float
    everyone: float


@dataclass(frozen=True)
class ScoreBin:
    """Images whose malignant score lies above `above` and at most at `up_to` (the lowest bin holds 0).

    mean_score: NaN if empty; malignant: how many of the `images` are.
    """

    above: float
    up_to: float
    images: int
    malignant: int
    mean_score: float


def operating_table(positive: Array, score: Array) -> tuple[OperatingPoint, ...]:
    """Return one operating point for each of SENSITIVITIES; none unless both kinds of images occur."""
    if not positive.any() or positive.all():
        return ()
    thresholds, hits, alarms = metrics.operating_points(positive, score)
    rows = []
    for wanted in SENSITIVITIES:
        i = int(np.searchsorted(hits, math.ceil(wanted * hits[-1] - 1e-9)))
        specificity = 1 - alarms[i] / alarms[-1]
        rows.append(
            OperatingPoint(wanted, float(thresholds[i]), hits[i] / hits[-1], float(specificity), alarms[i] / hits[i])
        )
    return tuple(rows)


def predictive_values(sensitivity: float, specificity: float, prevalence: float) -> PredictiveValues:
    """PPV and NPV by Bayes' theorem (Altman and Bland 1994, doi:10.1136/bmj.309.6947.102). Arguments in 0..1."""
    true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    flagged, others = true_positive + false_positive, true_negative + false_negative
    return PredictiveValues(
        prevalence, true_positive / flagged if flagged else math.nan, true_negative / others if others else math.nan
    )


def decision_curve(positive: Array, score: Array) -> tuple[NetBenefit, ...]:
    """Net benefit at each of RISKS (Vickers and Elkin 2006, doi:10.1177/0272989X06295361); none without images.

    Net benefit = TP / N - FP / N * risk / (1 - risk), flagging at score >= risk.
    """
    n = len(positive)
    if n == 0:
        return ()
    share, rows = float(positive.mean()), []
    for risk in RISKS:
        flagged, odds = score >= risk, risk / (1 - risk)
        model = float((flagged & positive).sum() - (flagged & ~positive).sum() * odds) / n
        rows.append(NetBenefit(risk, model, share - (1 - share) * odds))
    return tuple(rows)


def score_bins(positive: Array, score: Array) -> tuple[ScoreBin, ...]:
    """Reliability of the malignant score: BINS bins of equal width, (malignant of images) beside the mean score."""
    edges = np.linspace(0, 1, BINS + 1)
    index = np.clip(np.searchsorted(edges, score, side="left") - 1, 0, BINS - 1)
    images, malignant = np.bincount(index, minlength=BINS), np.bincount(index[positive], minlength=BINS)
    means = metrics.ratio(np.bincount(index, score, BINS), images)
    return tuple(
        ScoreBin(float(edges[i]), float(edges[i + 1]), int(images[i]), int(malignant[i]), float(means[i]))
        for i in range(BINS)
    )
