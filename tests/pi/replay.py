"""`skinedge verify RUN`, keeping what each model file answered to the golden vectors: replay.py RUN OUT.npz

OUT.npz: file name -> (64, C) float32 probabilities. It needs no more than the base install. Exit code: verify's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.outputs import Outputs
from skinedge.run.run_directory import Bundle
from skinedge_bench.verify import verify


class Listening:
    """A session that keeps its last answer; all else is the session's own."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.answer: Outputs | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, pixels: Any) -> Outputs:
        self.answer = self._session.run(pixels)
        return self.answer


def replay(run: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(file -> probabilities, the gates that failed) of a run whose test images are not here."""
    heard: dict[str, Listening] = {}
    real = verify.open_session

    def listen(bundle: Bundle, name: str) -> Any:
        return heard.setdefault(name, Listening(real(bundle, name)))

    verify.open_session = listen
    try:
        report = verify.verify(Bundle.open(run))
    finally:
        verify.open_session = real
    return {name: said.answer.probabilities for name, said in heard.items() if said.answer}, report.failures()


if __name__ == "__main__":
    answers, failures = replay(Path(sys.argv[1]))
    np.savez(sys.argv[2], **answers)
    print("\n".join(failures), file=sys.stderr)
    sys.exit(bool(failures))
