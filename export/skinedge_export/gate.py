"""Nothing is exported unseen: each candidate file runs in its runtime before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skinedge import parity
from skinedge.description import KEY, ModelDescription
from skinedge.errors import DataError, GateError
from skinedge.parity import Gate
from skinedge.plugins import Outputs, Runtime, Session
from skinedge.preprocess import Pixels

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Reference:
    """Prepared images and what the merged model in PyTorch (eager, fp32, CPU) says of them.

    pixels: (N, S, S, 3) uint8; logits: (N, C) float32.
    """

    pixels: Pixels
    logits: NDArray[np.float32]


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


def check_file(
    path: Path, description: ModelDescription, runtime: Runtime, golden: Reference, val: Reference | None
) -> tuple[Gate, ...]:
    """Run a candidate file and hold it against PyTorch.

    fp32: `parity.fp32_gates` on all images. int8: finite on all images, and agreement on the
    validation images (real ones: drawings are far from what the ranges were read from).
    val: None where the images are not at hand; an int8 file's agreement is then unmeasured.
    Raises: GateError naming the file and the first failed gate, with its value and limit.
    """
    session = runtime.open(path, threads=1)
    gates = [_description_gate(session, description)]
    if description.precision == "fp32":
        both = golden if val is None else _join(golden, val)
        gates += parity.fp32_gates(both.logits, session.run(both.pixels))
    else:
        gates += _int8_gates(session, golden, val)
    for gate in gates:
        if gate.verdict == "fail":
            raise GateError(
                f"gate '{gate.name}' failed: {_number(gate.value)}, limit {gate.limit:g} ({gate.detail})",
                where=f"{description.precision} file in {runtime.name}",
                todo="It was not written; an earlier file of that name is as it was.",
            )
    return tuple(gates)


def _int8_gates(session: Session, golden: Reference, val: Reference | None) -> list[Gate]:
    drawn = session.run(golden.pixels)
    if val is None:
        return [parity.finite_gate(drawn), parity.agreement_gate(0, 0)]
    seen = session.run(val.pixels)
    same = int((seen.probabilities.argmax(axis=1) == val.logits.argmax(axis=1)).sum())
    everything = Outputs(np.concatenate([drawn.probabilities, seen.probabilities]))
    return [parity.finite_gate(everything), parity.agreement_gate(same, len(val.pixels))]


def _description_gate(session: Session, description: ModelDescription) -> Gate:
    """The file's own account, label order included, is the manifest's."""
    try:
        same = ModelDescription.from_json(session.metadata.get(KEY, ""), "file") == description
    except DataError:
        same = False
    return Gate("description", 0.0 if same else 1.0, 0, "pass" if same else "fail", "labels and rules in the file")


def _join(first: Reference, second: Reference) -> Reference:
    return Reference(np.concatenate([first.pixels, second.pixels]), np.concatenate([first.logits, second.logits]))


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
