"""Model files over many images with every core: single-threaded sessions side by side, so that no bit changes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Pixels
from skinedge.run.plugins import Runtime, Session
from skinedge.system.cpu import usable_cores

CHUNK = 64  # images a session takes at a time: a multiple of any batch, so that batches fall as in one session
MOST = 8  # sessions of one file: each has memory of its own


class ParallelSessions:
    """One model file, opened once for each core (at most MOST times)."""

    def __init__(self, runtime: Runtime, path: Path) -> None:
        """Raises: what `Runtime.open` raises."""
        cores = min(MOST, usable_cores())
        self.sessions: tuple[Session, ...] = tuple(runtime.open(path, threads=1) for _ in range(cores))

    def run(self, pixels: Pixels) -> Outputs:
        """What the file says of (N, S, S, 3) uint8 prepared images, in their order."""
        starts = range(0, max(1, len(pixels)), CHUNK)

        def part(number: int) -> list[Outputs]:
            session, mine = self.sessions[number], starts[number :: len(self.sessions)]
            return [session.run(pixels[start : start + CHUNK]) for start in mine]

        with ThreadPoolExecutor(len(self.sessions)) as pool:
            parts = list(pool.map(part, range(len(self.sessions))))
        return joined([parts[turn % len(parts)][turn // len(parts)] for turn in range(len(starts))])


def run_each(sessions: Sequence[Session], pixels: Pixels) -> list[Outputs]:
    """What each of several files says of the same images, as many files at a time as there are cores."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(lambda session: session.run(pixels), sessions))


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Outputs of consecutive images as one; what only some of them have is left out."""
    logits = [part.logits for part in parts if part.logits is not None]
    heatmaps = [part.heatmaps for part in parts if part.heatmaps is not None]
    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(logits) if len(logits) == len(parts) else None,
        np.concatenate(heatmaps) if len(heatmaps) == len(parts) else None,
    )
