"""Candidates of the precision search: their order, the choice among them, their latency and the search report."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import GateError
from skinedge.core.json_io import read_toml
from skinedge.core.preprocess import Pixels
from skinedge.run.plugins import Session
from skinedge.stats.gates import Gate, passed, verdict_of, worst
from skinedge.stats.verdicts import word
from skinedge_export.candidate_check import CandidateMetrics
from skinedge_export.converter import Artifact
from skinedge_export.recipe import ExportRecipe

SETTINGS = Path(__file__).with_name("precision_search.toml")
TELLING = 100  # validation images; with fewer, one changed prediction would make any file inconclusive
ROUNDS = 15  # timed runs of every candidate, in turns


@dataclass(frozen=True)
class SearchSettings:
    """What the search tries.

    ranges: range methods of static int8, all tried; kept_float: numbers of layers in float, tried until one passes;
    fallback: precisions below int8.
    """

    ranges: tuple[str, ...]
    kept_float: tuple[int, ...]
    fallback: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One converted and checked file.

    kept_float: names of the layers in float; gates, figures: on validation images; partitions: of the runtime's
    delegate, None without one; size: bytes; milliseconds: median of one image on one thread, None until measured.
    """

    artifact: Artifact
    recipe: ExportRecipe
    kept_float: tuple[str, ...]
    gates: tuple[Gate, ...]
    figures: CandidateMetrics | None
    partitions: int | None
    size: int
    milliseconds: float | None = None

    @property
    def loads(self) -> bool:
        """Return True if its runtime could load and run the file."""
        return verdict_of(self.gates, "loads") != "fail"

    @property
    def passed(self) -> bool:
        """Return True if no gate failed."""
        return passed(self.gates)

    @property
    def convincing(self) -> bool:
        """Return True if no gate failed and no estimate is beyond its limit, even if that could be chance.

        With fewer than TELLING validation images estimates are too uncertain, and no failed gate is enough.
        """
        telling = self.figures is not None and self.figures.images >= TELLING
        return self.passed and not (telling and any(_beyond(gate) for gate in self.gates))

    @property
    def name(self) -> str:
        """Precision and variant, for example 'int8 (min-max)'."""
        variants = {"int8": self.recipe.calibration.ranges, "int8-mixed": f"{len(self.kept_float)} layers in float"}
        variant = variants.get(self.recipe.precision)
        return f"{self.recipe.precision} ({variant})" if variant else self.recipe.precision

    @property
    def order(self) -> tuple[float, float]:
        """Sort key, smallest for the nearest candidate: share of changed predictions, then distance.

        What is undefined is infinite: NaN would count as nearest, as comparisons with it are False. 0 without images.
        """
        changed, distance = (1 - self.figures.agreement, self.figures.distance) if self.figures else (0.0, 0.0)
        return (math.inf if math.isnan(changed) else changed, math.inf if math.isnan(distance) else distance)

    def document(self) -> dict[str, object]:
        """Return the candidate as JSON data."""
        return {
            "rung": self.name,
            "precision": self.recipe.precision,
            "ranges": self.recipe.calibration.ranges if self.recipe.precision.startswith("int8") else None,
            "kept_float": list(self.kept_float),
            "passed": self.passed,
            "convincing": self.convincing,
            "gates": [asdict(gate) for gate in self.gates],
            "validation": asdict(self.figures) if self.figures else None,
            "size_bytes": self.size,
            "milliseconds": self.milliseconds,
            "partitions": self.partitions,
        }


def load_search_settings() -> SearchSettings:
    """Read the settings in SETTINGS; raises ConfigError for an unknown key or a wrong type."""
    return read_toml(SETTINGS, SearchSettings)


def chosen_last(tried: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Return the candidates with the chosen one last: the nearest convincing one, else the nearest without a
    failed gate.

    Raises: GateError if every one has a failed gate; it names those of each.
    """
    convincing = [candidate for candidate in tried if candidate.convincing]
    eligible = convincing or [candidate for candidate in tried if candidate.passed]
    if not eligible:
        raise refused(tried)
    best = min(eligible, key=lambda candidate: candidate.order)
    return (*(candidate for candidate in tried if candidate is not best), best)


def refused(tried: Sequence[Candidate]) -> GateError:
    """Return the error of a search in which every candidate failed."""
    if len(tried) == 1:
        failed = next(gate for gate in tried[0].gates if gate.verdict == "fail")
        return GateError(
            f"gate '{failed.name}' failed: {failed.measured}, limit {failed.limit:g} ({failed.detail})"
            if tried[0].loads
            else failed.detail,
            todo="It was not written; an earlier file of that name is as it was.",
        )
    return GateError(
        "no file kept the diagnosis on validation images:",
        todo="This file was not written. --int8 --fallback any goes on below int8 (weights only, half precision); "
        "--precision fp32 is exact.",
        lines=[f"  {candidate.name}: {reason(candidate)}" for candidate in tried],
    )


def reason(candidate: Candidate) -> str:
    """List the failed gates; of a candidate without one, those whose estimate is beyond the limit.

    Of a file that its runtime could not load: the runtime's message.
    """
    return "; ".join(
        f"{gate.name} {gate.measured} (limit {gate.limit:g})" if candidate.loads else gate.detail
        for gate in candidate.gates
        if gate.verdict == "fail" or (candidate.passed and _beyond(gate))
    )


def judged(candidate: Candidate) -> str:
    """Return the verdict as shown; of a candidate that is not convincing, with the reason."""
    verdict = word(worst(candidate.gates))
    return verdict if candidate.convincing else f"{verdict}, {reason(candidate)}"


def _beyond(gate: Gate) -> bool:
    """Whether the estimate is beyond the limit, as NaN is."""
    if gate.value is None:
        return False
    return not (gate.value >= gate.limit if gate.name.endswith("agreement") else gate.value <= gate.limit)


def timed(
    candidates: Sequence[Candidate], sessions: Sequence[Session], pixels: Pixels
) -> tuple[list[Candidate], float | None]:
    """Measure latency; returns the candidates with theirs, and that of the fp32 file if there is one.

    Latencies are medians of one image, in turns, so that all files meet the same conditions.
    candidates: those that load; sessions: one for each of them, then one for the fp32 file; pixels: (1, S, S, 3).
    """
    latencies_ms: list[list[float]] = [[] for _ in sessions]
    for turn in range(ROUNDS + 2):
        for own_latencies_ms, session in zip(latencies_ms, sessions, strict=True):
            started = time.perf_counter()
            session.run(pixels)
            if turn >= 2:  # the first two runs are warm-up
                own_latencies_ms.append((time.perf_counter() - started) * 1e3)
    medians = [statistics.median(own_latencies_ms) for own_latencies_ms in latencies_ms]
    measured = [replace(candidate, milliseconds=ms) for candidate, ms in zip(candidates, medians, strict=False)]
    return measured, medians[-1] if len(medians) > len(candidates) else None


def given_up(candidates: Sequence[Candidate], fp32_ms: float | None) -> str:
    """Say how the chosen candidate (the last) is slower or larger than alternatives; '' if it is not.

    Compared with the first candidate, static int8, if that has another precision, and with fp32 (median milliseconds,
    None if unknown) if it is no faster than fp32 on this machine.
    """
    first, chosen = candidates[0], candidates[-1]
    if first.milliseconds is None or chosen.milliseconds is None:
        return ""
    costs = []
    if chosen.recipe.precision != first.recipe.precision:
        slower, larger = chosen.milliseconds - first.milliseconds, (chosen.size - first.size) / 1e6
        costs.append(f"{slower:+.2f} ms and {larger:+.2f} MB against {first.name}")
    if fp32_ms is not None and chosen.milliseconds >= fp32_ms:
        costs.append(f"no faster than fp32 on this CPU ({chosen.milliseconds:.2f} against {fp32_ms:.2f} ms)")
    return "; ".join(costs)


def report(candidates: Sequence[Candidate], images: int, fp32_ms: float | None) -> dict[str, Any]:
    """Return the search report as JSON data.

    candidates: the chosen one last; images: number of validation images; fp32_ms: latency of the fp32 file.
    """
    return {
        "validation_images": images,
        "chosen": candidates[-1].name,
        "fp32_milliseconds": fp32_ms,
        "given_up": given_up(candidates, fp32_ms),
        "rungs": [candidate.document() for candidate in candidates],
    }
