"""The precision ladder: of the files that keep the diagnosis on validation images, one of the fastest precision.

From fast to slow on a CPU with an int8 dot product: static int8, int8 with the layers that it hurts most in float, and
(only if asked for) precisions that compute in float. The report times every rung beside fp32. A rung is a real file and
judged by the gates that any file must pass; a rejected one is thrown away.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skinedge.core.errors import GateError
from skinedge.core.json_io import read_toml
from skinedge.core.preprocess import Pixels
from skinedge.run.plugins import Session
from skinedge.stats.gates import Gate, passed
from skinedge.system.progress import note
from skinedge_export.candidate_check import CandidateMetrics
from skinedge_export.converter import Artifact
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe

SETTINGS = Path(__file__).with_name("precision_search.toml")
TELLING = 100  # validation images: one changed answer of fewer would put any file in doubt
ROUNDS = 15  # timed runs of every rung, in turns

# Makes and judges one file: recipe, layers in float -> rung.
Attempt = Callable[[ExportRecipe, tuple[Layer, ...]], "Candidate"]


@dataclass(frozen=True)
class SearchSettings:
    """ranges: of static int8, tried all; kept_float: numbers of layers, the first that passes is taken; fallback:
    precisions below int8.
    """

    ranges: tuple[str, ...]
    kept_float: tuple[int, ...]
    fallback: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """One file that was tried.

    gates, figures: on validation images; partitions: of the runtime's delegate, None where it has none; size: bytes;
    milliseconds: median of one image on one thread, None until measured.
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
    def passed(self) -> bool:
        return passed(self.gates)

    @property
    def convincing(self) -> bool:
        """It passed, and no gate's own estimate lies beyond its limit, be that by chance.

        Of fewer than TELLING validation images an estimate says nothing: there, to pass is enough.
        """
        telling = self.figures is not None and self.figures.images >= TELLING
        return self.passed and not (telling and any(_beyond(gate) for gate in self.gates))

    @property
    def name(self) -> str:
        ways = {"int8": self.recipe.calibration.ranges, "int8-mixed": f"{len(self.kept_float)} layers in float"}
        way = ways.get(self.recipe.precision)
        return f"{self.recipe.precision} ({way})" if way else self.recipe.precision

    @property
    def distance(self) -> float:
        """From the reference: rms of the centred log-probabilities' difference; 0 where no validation image is.

        Infinite where a probability is 0: a NaN would be nearer than anything, since no comparison holds.
        """
        if self.figures is None:
            return 0.0
        return math.inf if math.isnan(self.figures.distance) else self.figures.distance

    @property
    def order(self) -> tuple[float, float]:
        """Smallest for the rung nearest to the reference: how many answers differ, then the distance."""
        return (1 - self.figures.agreement if self.figures else 0.0, self.distance)

    def document(self) -> dict[str, object]:
        """The JSON form."""
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
    return read_toml(SETTINGS, SearchSettings)


def search_candidates(
    ladder: SearchSettings,
    precisions: Sequence[str],
    attempt: Attempt,
    recipe: Callable[[str], ExportRecipe],
    ranked: Callable[[], Sequence[tuple[Layer, float]]],
) -> list[Candidate]:
    """Every rung that was tried, the chosen one last: the first precision with a convincing rung, and of its rungs the
    one nearest to the reference. Where none convinces, the nearest that passed.

    precisions: to try, in this order; recipe: of a precision; ranked: the layers, worst first, asked for only by
    int8-mixed.
    Raises: GateError when none passes, with what each failed on.
    """
    tried: list[Candidate] = []
    for precision in precisions:
        rungs = _rungs(ladder, precision, attempt, recipe, ranked)
        for rung in rungs:
            tried.append(rung)
            if rung.recipe.precision != "fp32":
                note(f"  {rung.artifact.path.suffix.removeprefix('.')} {rung.name}: {_said(rung)}")
        if any(rung.convincing for rung in tried):
            break
    good = [rung for rung in tried if rung.convincing] or [rung for rung in tried if rung.passed]
    if not good:
        raise refused(tried)
    best = min(good, key=lambda rung: rung.order)
    return [*(rung for rung in tried if rung is not best), best]


def _rungs(
    ladder: SearchSettings,
    precision: str,
    attempt: Attempt,
    recipe: Callable[[str], ExportRecipe],
    ranked: Callable[[], Sequence[tuple[Layer, float]]],
) -> Iterator[Candidate]:
    if precision == "int8":
        for ranges in ladder.ranges:
            yield attempt(with_ranges(recipe("int8"), ranges), ())
    elif precision == "int8-mixed":
        order = [layer for layer, _ in ranked()]
        mixed = replace(recipe("int8"), precision="int8-mixed")
        for number in (number for number in ladder.kept_float if number < len(order)):
            rung = attempt(mixed, tuple(order[:number]))
            yield rung
            if rung.convincing:
                return
    else:
        yield attempt(recipe(precision), ())


def with_ranges(recipe: ExportRecipe, ranges: str) -> ExportRecipe:
    return replace(recipe, calibration=replace(recipe.calibration, ranges=ranges))


def refused(tried: Sequence[Candidate]) -> GateError:
    """The error of a ladder without a rung that holds."""
    if len(tried) == 1:
        failed = next(gate for gate in tried[0].gates if gate.verdict == "fail")
        return GateError(
            f"gate '{failed.name}' failed: {failed.measured}, limit {failed.limit:g} ({failed.detail})",
            todo="It was not written; an earlier file of that name is as it was.",
        )
    return GateError(
        "no file kept the diagnosis on validation images:",
        todo="This file was not written. --int8 --fallback any goes on below int8 (weights only, half precision); "
        "--precision fp32 is exact.",
        lines=[f"  {rung.name}: {reason(rung)}" for rung in tried],
    )


def reason(rung: Candidate) -> str:
    """The gates that a rung failed, or where it passed, those whose own estimate lies beyond the limit."""
    return "; ".join(
        f"{gate.name} {gate.measured} (limit {gate.limit:g})"
        for gate in rung.gates
        if gate.verdict == "fail" or (rung.passed and _beyond(gate))
    )


def _said(rung: Candidate) -> str:
    if rung.convincing:
        return "passed"
    return f"{'in doubt' if rung.passed else 'rejected'}, {reason(rung)}"


def _beyond(gate: Gate) -> bool:
    if gate.value is None:
        return False
    return gate.value < gate.limit if gate.name.endswith("agreement") else gate.value > gate.limit


def timed(
    rungs: Sequence[Candidate], sessions: Sequence[Session], pixels: Pixels
) -> tuple[list[Candidate], float | None]:
    """The rungs with their latency, and that of fp32's file where there is one: medians of one image (1, S, S, 3) at a
    time, in turns, so that all see the same machine.

    sessions: of each rung's file, and at the end that of fp32's.
    """
    times: list[list[float]] = [[] for _ in sessions]
    for turn in range(ROUNDS + 2):
        for found, session in zip(times, sessions, strict=True):
            started = time.perf_counter()
            session.run(pixels)
            if turn >= 2:  # the first runs warm up
                found.append((time.perf_counter() - started) * 1e3)
    medians = [statistics.median(found) for found in times]
    done = [replace(rung, milliseconds=each) for rung, each in zip(rungs, medians, strict=False)]
    return done, medians[-1] if len(medians) > len(rungs) else None


def given_up(rungs: Sequence[Candidate], exact: float | None) -> str:
    """What the chosen rung (the last) costs: against the first rung, static int8, where it is another precision, and
    against fp32 (median milliseconds; None: unknown) where it is no faster than that here; else ''.
    """
    first, chosen = rungs[0], rungs[-1]
    if first.milliseconds is None or chosen.milliseconds is None:
        return ""
    said = []
    if chosen.recipe.precision != first.recipe.precision:
        slower, larger = chosen.milliseconds - first.milliseconds, (chosen.size - first.size) / 1e6
        said.append(f"{slower:+.2f} ms and {larger:+.2f} MB against {first.name}")
    if exact is not None and chosen.milliseconds >= exact:
        said.append(f"no faster than fp32 on this CPU ({chosen.milliseconds:.2f} against {exact:.2f} ms)")
    return "; ".join(said)


def report(rungs: Sequence[Candidate], images: int, exact: float | None) -> dict[str, Any]:
    """The ladder's JSON: the rungs, the chosen one last, on how many validation images, beside fp32's latency."""
    return {
        "validation_images": images,
        "chosen": rungs[-1].name,
        "fp32_milliseconds": exact,
        "given_up": given_up(rungs, exact),
        "rungs": [rung.document() for rung in rungs],
    }
