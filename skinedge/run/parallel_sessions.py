"""Run model files on many images with all cores: parallel single-threaded sessions, so that no output bit changes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.plugins import Runtime, Session
from skinedge.system.cpu import usable_cores

CHUNK = 64  # images per session call: a multiple of every batch size, so that batches are the same as in one session
MOST = 8  # maximum sessions per file: each has memory of its own


class ParallelSessions:
    """One model file, opened once per core (at most MOST times)."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        """Open the sessions. Raises: the errors of `Runtime.open`."""
        cores = min(MOST, usable_cores())
        self.sessions: tuple[Session, ...] = tuple(runtime.open(path, threads=1) for _ in range(cores))

    def run(self, pixels: Pixels) -> Outputs:
        """Return the outputs for (N, S, S, 3) uint8 prepared images, in input order."""
        starts = range(0, max(1, len(pixels)), CHUNK)

        def run_share(number: int) -> list[Outputs]:
            session, own_starts = self.sessions[number], starts[number :: len(self.sessions)]
            return [session.run(pixels[start : start + CHUNK]) for start in own_starts]

        with ThreadPoolExecutor(len(self.sessions)) as pool:
            shares = list(pool.map(run_share, range(len(self.sessions))))
        return joined([shares[chunk % len(shares)][chunk // len(shares)] for chunk in range(len(starts))])


def run_each(sessions: Sequence[Session], pixels: Pixels) -> list[Outputs]:
    """Return each session's outputs for the same images; as many sessions run at a time as there are cores."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda session: session.run(pixels), sessions))


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Concatenate outputs of consecutive images; logits and heatmaps only if all parts have them."""
    logits = [part.logits for part in parts if part.logits is not None]
    heatmaps = [part.heatmaps for part in parts if part.heatmaps is not None]
    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(logits) if len(logits) == len(parts) else None,
        np.concatenate(heatmaps) if len(heatmaps) == len(parts) else None,
    )
