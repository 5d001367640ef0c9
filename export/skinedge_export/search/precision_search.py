"""One ask's files, made and judged: each rung is converted, run, and held against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import GateError
from skinedge.system.progress import note
from skinedge_export.candidate_check import judge
from skinedge_export.captured_output import quiet
from skinedge_export.context import Materials
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.search import candidates
from skinedge_export.search.candidates import Attempt, Rung
from skinedge_export.target import Ask, converter_of, recipe_of, runtime_of
from skinedge_export.thresholds import Scores, scores


@dataclass(frozen=True)
class Climbed:
    """What came of an ask. rungs: all that were tried, the chosen one last; scores: the malignant score of each cal
    image by the chosen file, (N,), None where those images are not there.
    """

    rungs: tuple[Rung, ...]
    scores: Scores | None


def climb(ask: Ask, materials: Materials, scratch: Path) -> Climbed:
    """Make and judge what the ask allows; the rungs' files stay in a folder under `scratch`.

    Raises: GateError, which names the file, when none passes.
    """
    note(f"{ask.shown}: converting ...")
    steps = candidates.load_ladder()
    ranges = tuple(name for name in steps.ranges if name in converter_of(ask).ranges)

    def worst_first() -> Sequence[tuple[Layer, float]]:
        return materials.ranked(recipe_of(ask, "int8").calibration)

    try:
        materials.val(ask.form)  # what is wrong with its images is said before minutes of converting
        rungs = candidates.climb(
            replace(steps, ranges=ranges),
            ask.precisions,
            _attempt(ask, materials, Path(tempfile.mkdtemp(dir=scratch))),
            lambda precision: recipe_of(ask, precision),
            worst_first,
        )
    except GateError as error:
        raise GateError(error.what, where=ask.shown, todo=error.todo, lines=error.lines) from None
    malignant, cal = materials.bundle.manifest.malignant, materials.cal()
    return Climbed(
        tuple(rungs), None if cal is None else scores(rungs[-1].artifact.path, runtime_of(ask), cal, malignant)
    )


def _attempt(ask: Ask, materials: Materials, folder: Path) -> Attempt:
    """What makes and judges one file."""
    converter, runtime, manifest = converter_of(ask), runtime_of(ask), materials.bundle.manifest

    def attempt(recipe: ExportRecipe, kept: tuple[Layer, ...]) -> Rung:
        path = folder / f"{len(list(folder.iterdir()))}{converter.suffix}"
        job = materials.job(recipe, ask.form, kept)
        artifact = converter.convert(job, path)
        golden, val = materials.golden(ask.form), materials.val(ask.form)
        with quiet("running the file", ask.file_name(recipe.precision, converter.suffix)):
            judged = judge(path, job.description, runtime, golden, val, manifest.thresholds["default"])
        names = tuple(layer.name for layer in kept)
        return Rung(artifact, recipe, names, judged.gates, judged.figures, judged.partitions, path.stat().st_size)

    return attempt
