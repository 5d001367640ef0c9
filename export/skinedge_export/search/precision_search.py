"""One ask's files, made and judged: each rung is converted, run, and held against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import GateError
from skinedge.system.progress import note
from skinedge_export.candidate_check import check_candidate
from skinedge_export.captured_output import captured_output
from skinedge_export.context import ExportContext
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.search import candidates
from skinedge_export.search.candidates import Attempt, Candidate
from skinedge_export.target import ExportTarget, converter_of, recipe_of, runtime_of
from skinedge_export.thresholds import Scores, scores


@dataclass(frozen=True)
class SearchResult:
    """What came of an ask. rungs: all that were tried, the chosen one last; scores: the malignant score of each cal
    image by the chosen file, (N,), None where those images are not there.
    """

    rungs: tuple[Candidate, ...]
    scores: Scores | None


def search_precision(ask: ExportTarget, materials: ExportContext, scratch: Path) -> SearchResult:
    """Make and judge what the ask allows; the rungs' files stay in a folder under `scratch`.

    Raises: GateError, which names the file, when none passes.
    """
    note(f"{ask.shown}: converting ...")
    steps = candidates.load_search_settings()
    ranges = tuple(name for name in steps.ranges if name in converter_of(ask).ranges)

    def worst_first() -> Sequence[tuple[Layer, float]]:
        return materials.ranked(recipe_of(ask, "int8").calibration)

    try:
        materials.val(ask.form)  # what is wrong with its images is said before minutes of converting
        rungs = candidates.search_candidates(
            replace(steps, ranges=ranges),
            ask.precisions,
            _attempt(ask, materials, Path(tempfile.mkdtemp(dir=scratch))),
            lambda precision: recipe_of(ask, precision),
            worst_first,
        )
    except GateError as error:
        raise GateError(error.what, where=ask.shown, todo=error.todo, lines=error.lines) from None
    malignant, cal = materials.bundle.manifest.malignant, materials.cal()
    return SearchResult(
        tuple(rungs), None if cal is None else scores(rungs[-1].artifact.path, runtime_of(ask), cal, malignant)
    )


def _attempt(ask: ExportTarget, materials: ExportContext, folder: Path) -> Attempt:
    """What makes and judges one file."""
    converter, runtime, manifest = converter_of(ask), runtime_of(ask), materials.bundle.manifest

    def attempt(recipe: ExportRecipe, kept: tuple[Layer, ...]) -> Candidate:
        path = folder / f"{len(list(folder.iterdir()))}{converter.suffix}"
        job = materials.job(recipe, ask.form, kept)
        artifact = converter.convert(job, path)
        golden, val = materials.golden(ask.form), materials.val(ask.form)
        with captured_output("running the file", ask.file_name(recipe.precision, converter.suffix)):
            judged = check_candidate(path, job.description, runtime, golden, val, manifest.thresholds["default"])
        names = tuple(layer.name for layer in kept)
        return Candidate(artifact, recipe, names, judged.gates, judged.figures, judged.partitions, path.stat().st_size)

    return attempt
