"""Checks of candidate files: each runs in its runtime, against PyTorch, before it becomes part of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge.core.errors import DataError, GateError
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.parallel_sessions import ParallelSessions, joined
from skinedge.run.plugins import Runtime, Session
from skinedge.stats import metrics
from skinedge.stats.differences import log_differences
from skinedge.stats.gates import (
    Gate,
    agreement_gate,
    diagnosis_gates,
    finite_gate,
    fp32_gates,
    golden_gates,
)

if TYPE_CHECKING:
    from torch import nn


EXACT_IMAGES = 128  # validation images for fp32: a wrong graph differs on any image
HEATMAP_EXACT = 1e-3
HEATMAP_ROUNDED = 0.2


@dataclass(frozen=True)
class Reference:
    """Prepared images and the merged model's outputs for them in PyTorch (eager, fp32, CPU).

    pixels: (N, S, S, 3) uint8; logits: (N, C) float32; labels: (N,) int64, None for synthetic images; heatmaps:
    (N, H, W, C) float32, None for files without heatmaps.
    """

    pixels: Pixels
    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    heatmaps: NDArray[np.float32] | None = None

    def first(self, count: int) -> Reference:
        """Return the first `count` images."""
        labels = None if self.labels is None else self.labels[:count]
        heatmaps = None if self.heatmaps is None else self.heatmaps[:count]
        return Reference(self.pixels[:count], self.logits[:count], labels, heatmaps)


@dataclass(frozen=True)
class CandidateMetrics:
    """Accuracy of a file on the validation images; NaN if undefined.

    agreement: share of images with PyTorch's predicted class; distance: rms difference of centred log-probabilities
    from PyTorch's, over classes of p > 1e-4; fall: drop of balanced accuracy; malignant_sensitivity: at the merged
    network's threshold; score_change: mean absolute difference of the malignant score.
    """

    images: int
    agreement: float
    distance: float
    balanced_accuracy: float
    fall: float
    melanoma_sensitivity: float
    malignant_sensitivity: float
    score_change: float


@dataclass(frozen=True)
class CheckedCandidate:
    """Result of a check: gates, figures (None without validation images), and delegate partitions."""

    gates: tuple[Gate, ...]
    figures: CandidateMetrics | None
    partitions: int | None


def check_network(network: nn.Module, labels: Sequence[str], size: int) -> None:
    """Raises: GateError if a weight is not finite, or the number of outputs is not that of labels."""
    import torch

    for name, tensor in network.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise GateError(
                f"the merged model has weights that are not finite in '{name}'",
                todo="Training diverged or the file is damaged: train again, with a lower learning rate.",
            )
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 3, size, size)).shape[-1]
    if outputs != len(labels):
        raise GateError(f"the merged model has {outputs} outputs, the manifest {len(labels)} labels")


def check_candidate(
    path: Path,
    description: ModelDescription,
    runtime: Runtime,
    golden: Reference,
    val: Reference | None,
    threshold: float,
) -> CheckedCandidate:
    """Run a candidate file and compare its outputs with PyTorch's.

    fp32: `gates.fp32_gates` on the golden and the first EXACT_IMAGES validation images. Any other precision: finite on
    all images, and `gates.diagnosis_gates` on the validation images (synthetic ones are unlike the calibration images).
    val: None if the images are unavailable, agreement is then not measured; threshold: of the malignant score.
    """
    if description.precision == "fp32" and val is not None:
        val = val.first(EXACT_IMAGES)
    sessions = ParallelSessions(runtime, path)
    on_golden = sessions.run(golden.pixels)
    on_val = None if val is None else sessions.run(val.pixels)
    session, *_ = sessions.sessions
    gates = [_description_gate(session, description)]
    if description.precision == "fp32":
        logits = golden.logits if val is None else np.concatenate([golden.logits, val.logits])
        gates += fp32_gates(logits, on_golden if on_val is None else joined([on_golden, on_val]))
    else:
        gates += _lossy(description, golden, on_golden, val, on_val)
    reference, outputs = (golden, on_golden) if val is None or on_val is None else (val, on_val)
    limit = HEATMAP_EXACT if description.precision == "fp32" else HEATMAP_ROUNDED
    if reference.heatmaps is not None or outputs.heatmaps is not None:
        gates.append(heatmap_gate(reference.heatmaps, outputs.heatmaps, limit))
    figures = None
    if val is not None and val.labels is not None and on_val is not None:
        figures = _figures(description, val.labels, val.logits, on_val, threshold)
    return CheckedCandidate(tuple(gates), figures, session.partitions)


def _lossy(
    description: ModelDescription, golden: Reference, on_golden: Outputs, val: Reference | None, on_val: Outputs | None
) -> Sequence[Gate]:
    """Return the gates on validation images; without them on golden images, of which only clear predictions count."""
    if val is None or on_val is None or val.labels is None:
        return (*golden_gates(golden.logits, on_golden, exact=False), agreement_gate(0, 0))
    gates = diagnosis_gates(val.labels, val.logits, on_val, description.malignant, description.melanoma_index)
    return (finite_gate(joined([on_golden, on_val])), *gates)


def heatmap_gate(reference: NDArray[np.float32] | None, heatmaps: NDArray[np.float32] | None, limit: float) -> Gate:
    """Compare class activation maps (N, H, W, C) with PyTorch's.

    The gate's value is the rms difference divided by the reference's standard deviation.
    """
    if reference is None:
        return Gate("heatmap", None, limit, "fail", "nothing to compare with")
    if heatmaps is None:
        return Gate("heatmap", None, limit, "fail", "the file has none")
    if heatmaps.shape != reference.shape or not heatmaps.size:
        return Gate("heatmap", None, limit, "fail", f"shape {heatmaps.shape}, the reference has {reference.shape}")
    if not (np.isfinite(heatmaps).all() and np.isfinite(reference).all()):
        return Gate("heatmap", math.nan, limit, "fail", "a value is not finite")
    difference = float(np.sqrt(np.mean((heatmaps - reference) ** 2)) / max(float(reference.std()), 1e-12))
    return Gate("heatmap", difference, limit, "pass" if difference <= limit else "fail", f"{len(heatmaps)} images")


def _figures(
    description: ModelDescription,
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    outputs: Outputs,
    threshold: float,
) -> CandidateMetrics:
    expected, probabilities = metrics.softmax(logits), outputs.probabilities
    reference, predicted = expected.argmax(axis=1), probabilities.argmax(axis=1)
    balanced = metrics.balanced_accuracy(labels, predicted)
    scores = [metrics.malignant_score(rows, description.malignant) for rows in (expected, probabilities)]
    melanoma = labels == description.melanoma_index
    malignant = np.isin(labels, description.malignant)
    return CandidateMetrics(
        images=len(probabilities),
        agreement=float((reference == predicted).mean()),
        distance=float(np.sqrt(np.mean(log_differences(logits, probabilities) ** 2))),
        balanced_accuracy=balanced,
        fall=metrics.balanced_accuracy(labels, reference) - balanced,
        melanoma_sensitivity=float((predicted == labels)[melanoma].mean()) if melanoma.any() else float("nan"),
        malignant_sensitivity=metrics.sensitivity_specificity(malignant, scores[1] >= threshold)[0],
        score_change=float(np.abs(scores[1] - scores[0]).mean()),
    )


def _description_gate(session: Session, description: ModelDescription) -> Gate:
    """Compare the file's embedded description, label order included, with the manifest's."""
    try:
        same = ModelDescription.from_json(session.metadata.get(KEY, ""), "file") == description
    except DataError:
        same = False
    return Gate("description", 0.0 if same else 1.0, 0, "pass" if same else "fail", "labels and rules in the file")
