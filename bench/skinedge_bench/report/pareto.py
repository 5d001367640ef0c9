"""Accuracy against latency: every file of the run, and of other runs where they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from skinedge_bench.evaluate.tables import Table


@dataclass(frozen=True)
class Candidate:
    """One file in one runtime.

    run: '' for the report's own; ms: p50; accuracy: balanced; incomparable: why it cannot be compared with the report's
    own run, '' where it can; best: no other is both faster and at least as accurate.
    """

    run: str
    file: str
    runtime: str
    precision: str
    ms: float
    accuracy: float
    size_bytes: int
    incomparable: str = ""
    best: bool = False

    @property
    def name(self) -> str:
        """Return the candidate's name in the chart."""
        return f"{self.run}: {self.file}" if self.run else self.file


@dataclass(frozen=True)
class Pareto:
    """Accuracy over latency; a line joins the best. candidates: as `ranked` returns them, one of them comparable."""

    candidates: Sequence[Candidate]
    title: str = "Accuracy against latency"

    @property
    def drawn(self) -> list[tuple[int, Candidate]]:
        """The comparable candidates with their numbers in `table`."""
        return [(number, c) for number, c in enumerate(self.candidates, 1) if not c.incomparable]

    @property
    def description(self) -> str:
        """Return the chart in words, with its numbers."""
        best = "; ".join(f"{c.name} ({c.runtime}) {c.ms:.2f} ms, {c.accuracy:.3f}" for _, c in self.drawn if c.best)
        return f"{self.title} of {len(self.drawn)} files. No other is both faster and at least as accurate: {best}."


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Set `best` and sort, the fastest first; incomparable ones come last and are never best."""
    comparable = sorted((c for c in candidates if not c.incomparable), key=lambda c: (c.ms, -c.accuracy))
    result, highest = [], float("-inf")
    for candidate in comparable:
        result.append(replace(candidate, best=candidate.accuracy > highest))
        highest = max(highest, candidate.accuracy)
    return [*result, *(c for c in candidates if c.incomparable)]


def table(candidates: Sequence[Candidate]) -> Table:
    """Tabulate candidates as `ranked` returns them; their numbers are those in the chart."""
    rows = [
        [
            str(number),
            c.name,
            c.runtime,
            f"{c.ms:.2f}",
            f"{c.accuracy:.4f}",
            f"{c.size_bytes / 1e6:.2f}",
            c.incomparable or ("best" if c.best else "beaten"),
        ]
        for number, c in enumerate(candidates, 1)
    ]
    columns = ("no.", "file", "runtime", "p50 ms", "balanced accuracy", "MB", "accuracy against latency")
    return Table("Every file: accuracy against latency", columns, rows)
