"""Nothing is exported unseen: each candidate file runs in its runtime before it gets its name."""

from __future__ import annotations

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
from skinedge.stats.gates import (
    Gate,
    agreement_gate,
    diagnosis_gates,
    finite_gate,
    fp32_gates,
    golden_gates,
    log_differences,
)

if TYPE_CHECKING:
    from torch import nn


EXACT_IMAGES = 128  # validation images that fp32 is held to: a graph that computes something else shows it on any
HEATMAP_EXACT = 1e-3
HEATMAP_ROUNDED = 0.2


@dataclass(frozen=True)
class Reference:
    """Prepared images and what the merged model in PyTorch (eager, fp32, CPU) says of them.

    pixels: (N, S, S, 3) uint8; logits: (N, C) float32; labels: (N,) int64, None for drawn images; heatmaps:
    (N, H, W, C) float32, None where no file with heatmaps is judged.
    """

    pixels: Pixels
    logits: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    heatmaps: NDArray[np.float32] | None = None

    def first(self, count: int) -> Reference:
        """Of so many images."""
        labels = None if self.labels is None else self.labels[:count]
        heatmaps = None if self.heatmaps is None else self.heatmaps[:count]
        return Reference(self.pixels[:count], self.logits[:count], labels, heatmaps)


@dataclass(frozen=True)
class CandidateMetrics:
    """How a file does on the validation images; NaN where undefined.

    distance: rms difference of centred log-probabilities, over classes of p > 1e-4, from PyTorch's;
    malignant_sensitivity: at the merged network's own threshold; score_change: mean |difference| of the malignant
    score.
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
    """A file that ran: its gates, its figures where validation images were there, and its delegate partitions."""

    gates: tuple[Gate, ...]
    figures: CandidateMetrics | None
    partitions: int | None


def check_network(network: nn.Module, labels: Sequence[str], size: int) -> None:
    """Raises: GateError when a weight is not finite, or the outputs are not one per label."""
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
    """Run a candidate file and hold it against PyTorch.

    fp32: `parity.fp32_gates` on the golden and the first EXACT_IMAGES validation images. Any other: finite on all
    images, and `parity.lossy_gates` on the validation images (real ones: drawings are far from what the ranges were
    read from).
    val: None where the images are not at hand: agreement is then unmeasured; threshold: of the malignant score.
    """
    if description.precision == "fp32" and val is not None:
        val = val.first(EXACT_IMAGES)
    spread = ParallelSessions(runtime, path)
    drawn = spread.run(golden.pixels)
    seen = None if val is None else spread.run(val.pixels)
    session, *_ = spread.sessions
    gates = [_description_gate(session, description)]
    if description.precision == "fp32":
        logits = golden.logits if val is None else np.concatenate([golden.logits, val.logits])
        gates += fp32_gates(logits, drawn if seen is None else joined([drawn, seen]))
    else:
        gates += _lossy(description, golden, drawn, val, seen)
    reference, outputs = (golden, drawn) if val is None or seen is None else (val, seen)
    limit = HEATMAP_EXACT if description.precision == "fp32" else HEATMAP_ROUNDED
    if reference.heatmaps is not None or outputs.heatmaps is not None:
        gates.append(heatmap_gate(reference.heatmaps, outputs.heatmaps, limit))
    figures = None
    if val is not None and val.labels is not None and seen is not None:
        figures = _figures(description, val.labels, val.logits, seen, threshold)
    return CheckedCandidate(tuple(gates), figures, session.partitions)


def _lossy(
    description: ModelDescription, golden: Reference, drawn: Outputs, val: Reference | None, seen: Outputs | None
) -> Sequence[Gate]:
    """On validation images; without them on drawings, of which only clear answers say something."""
    if val is None or seen is None or val.labels is None:
        return (*golden_gates(golden.logits, drawn, exact=False), agreement_gate(0, 0))
    found = diagnosis_gates(val.labels, val.logits, seen, description.malignant, description.melanoma_index)
    return (finite_gate(joined([drawn, seen])), *found)


def heatmap_gate(reference: NDArray[np.float32] | None, seen: NDArray[np.float32] | None, limit: float) -> Gate:
    """The class activation maps (N, H, W, C) are PyTorch's: rms difference over the reference's own spread."""
    if reference is None:
        return Gate("heatmap", None, limit, "fail", "nothing to compare with")
    if seen is None:
        return Gate("heatmap", None, limit, "fail", "the file has none")
    difference = float(np.sqrt(np.mean((seen - reference) ** 2)) / max(float(reference.std()), 1e-12))
    return Gate("heatmap", difference, limit, "pass" if difference <= limit else "fail", f"{len(seen)} images")


def _figures(
    description: ModelDescription,
    labels: NDArray[np.int64],
    logits: NDArray[np.float32],
    seen: Outputs,
    threshold: float,
) -> CandidateMetrics:
    expected, said = metrics.softmax(logits), seen.probabilities
    reference, predicted = expected.argmax(axis=1), said.argmax(axis=1)
    balanced = metrics.balanced_accuracy(labels, predicted)
    scores = [metrics.malignant_score(rows, description.malignant) for rows in (expected, said)]
    melanoma = labels == description.melanoma_index
    malignant = np.isin(labels, description.malignant)
    return CandidateMetrics(
        images=len(said),
        agreement=float((reference == predicted).mean()),
        distance=float(np.sqrt(np.mean(log_differences(logits, said) ** 2))),
        balanced_accuracy=balanced,
        fall=metrics.balanced_accuracy(labels, reference) - balanced,
        melanoma_sensitivity=float((predicted == labels)[melanoma].mean()) if melanoma.any() else float("nan"),
        malignant_sensitivity=metrics.sensitivity_specificity(malignant, scores[1] >= threshold)[0],
        score_change=float(np.abs(scores[1] - scores[0]).mean()),
    )


def _description_gate(session: Session, description: ModelDescription) -> Gate:
    """The file's own account, label order included, is the manifest's."""
    try:
        same = ModelDescription.from_json(session.metadata.get(KEY, ""), "file") == description
    except DataError:
        same = False
    return Gate("description", 0.0 if same else 1.0, 0, "pass" if same else "fail", "labels and rules in the file")
