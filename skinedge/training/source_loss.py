"""The loss on images of several sources: each teaches about the classes that it distinguishes, and no others.

An image's label is a set of classes, one class where it is known. With K the classes that the image's source
distinguishes and T, within K, those that it may be, the loss is -log(sum of p over T / sum of p over K): the maximum
likelihood loss of a partial label (Jin and Ghahramani 2002, "Learning with multiple labels"), given K. A source without
a class thus says nothing about it: its images neither raise nor lower the class's logit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge.data.dataset import Sample

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class SourceRules:
    """What the label and the source of an image say of its class.

    targets: (L, C) bool, the classes that a label may be, one row for each class, then for each partial label; known:
    (S, C) bool, the classes that a source distinguishes; source: (N,) int64, of each training image.
    """

    targets: NDArray[np.bool_]
    known: NDArray[np.bool_]
    source: NDArray[np.int64]

    def frequencies(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the share of each class in each source: (S, C), rows sum to 1; a partial label counts in parts.

        labels: (N,), rows of `targets`.
        """
        shares = self.targets / self.targets.sum(axis=1, keepdims=True)
        counts = np.zeros(self.known.shape)
        np.add.at(counts, self.source, shares[labels])
        return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float64)


def source_rules(
    samples: Sequence[Sample],
    labels: Sequence[str],
    partial: Mapping[str, Sequence[str]],
    known: Mapping[str, Sequence[str]],
) -> SourceRules | None:
    """Return the rules of the training images; None where every image has one class and its source knows all classes.

    known: name of each source ('' for a single folder) -> the classes that it distinguishes.
    """
    if not partial and all(set(labels) <= set(classes) for classes in known.values()):
        return None
    sets = [[label] for label in labels] + [list(classes) for classes in partial.values()]
    targets = np.array([[label in classes for label in labels] for classes in sets])
    names = list(known)
    rows = np.array([[label in known[name] for label in labels] for name in names])
    return SourceRules(targets, rows, np.array([names.index(sample.source) for sample in samples], dtype=np.int64))


def set_losses(
    logits: torch.Tensor, targets: torch.Tensor, known: torch.Tensor, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each image, (n,), and the probability of its set of classes, (n,).

    logits: (n, C) float32; targets, known: (n, C) bool, targets within known; smoothing: share (0..1) of the loss that
    is spread over the known classes.
    """
    log_p = logits.masked_fill(~known, float("-inf")).log_softmax(dim=1)
    hit = log_p.masked_fill(~targets, float("-inf")).logsumexp(dim=1)
    spread = log_p.masked_fill(~known, 0).sum(dim=1) / known.sum(dim=1)
    return -(1 - smoothing) * hit - smoothing * spread, hit.exp()
