"""Search for the fastest precision whose file keeps the diagnosis on validation images.

From fast to slow on a CPU with an int8 dot product: static int8; int8 with the most sensitive layers in float; and,
only with a fallback, precisions that compute in float. Every candidate is a real file, run in its runtime and checked
by the gates that any file must pass.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skinedge.core.errors import BundleError, GateError
from skinedge.stats.gates import Gate
from skinedge.system.progress import note
from skinedge_export.candidate_check import CheckedCandidate, check_candidate
from skinedge_export.captured_output import captured_output
from skinedge_export.context import ExportContext
from skinedge_export.int8.sensitivity import Layer
from skinedge_export.recipe import ExportRecipe
from skinedge_export.search.candidates import Candidate, chosen_last, judged, load_search_settings
from skinedge_export.target import ExportTarget, converter_of, recipe_of, runtime_of
from skinedge_export.thresholds import Scores, scores

Variant = tuple[ExportRecipe, tuple[Layer, ...]]  # recipe, layers in float


@dataclass(frozen=True)
class SearchResult:
    """Candidates of a target, the chosen one last.

    scores: (N,) malignant score of each cal image by the chosen file, None if those images are unavailable.
    """

    candidates: tuple[Candidate, ...]
    scores: Scores | None


def search_precision(target: ExportTarget, context: ExportContext, scratch: Path) -> SearchResult:
    """Convert and check a target's candidates until a precision passes; the files stay in a folder under `scratch`.

    Raises: GateError, which names the file, if no candidate passes.
    """
    note(f"{target.shown}: converting ...")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    tried: list[Candidate] = []
    try:
        context.val(target.form)  # reports unreadable images before minutes of converting
        for precision in target.precisions:
            for recipe, kept_float in _variants(target, precision, context):
                tried.append(make_candidate(target, recipe, kept_float, context, folder))
                if precision != "fp32":
                    note(f"  {tried[-1].artifact.path.suffix.removeprefix('.')} {tried[-1].name}: {judged(tried[-1])}")
                if precision == "int8-mixed" and tried[-1].convincing:  # more layers in float are slower
                    break
            if any(candidate.convincing for candidate in tried):
                break
        candidates = chosen_last(tried)
    except GateError as error:
        raise GateError(error.what, where=target.shown, todo=error.todo, lines=error.lines) from None
    malignant, cal = context.bundle.manifest.malignant, context.cal()
    path = candidates[-1].artifact.path
    return SearchResult(candidates, None if cal is None else scores(path, runtime_of(target), cal, malignant))


def _variants(target: ExportTarget, precision: str, context: ExportContext) -> Sequence[Variant]:
    """Return the variants of one precision, in the order in which they are tried."""
    settings = load_search_settings()
    if precision == "int8":
        recipe, supported = recipe_of(target, "int8"), converter_of(target).ranges
        names = [name for name in settings.ranges if name in supported]
        return [(replace(recipe, calibration=replace(recipe.calibration, ranges=name)), ()) for name in names]
    if precision == "int8-mixed":
        recipe = replace(recipe_of(target, "int8"), precision="int8-mixed")
        layers = tuple(layer for layer, _ in context.ranked(recipe.calibration))
        return [(recipe, layers[:count]) for count in settings.kept_float if count < len(layers)]
    return [(recipe_of(target, precision), ())]


def make_candidate(
    target: ExportTarget, recipe: ExportRecipe, kept_float: tuple[Layer, ...], context: ExportContext, folder: Path
) -> Candidate:
    """Convert one file into `folder`, run it and check its gates; a file that its runtime cannot load has failed."""
    converter = converter_of(target)
    path = folder / f"{len(list(folder.iterdir()))}{converter.suffix}"
    job = context.job(recipe, target.form, kept_float)
    artifact = converter.convert(job, path)
    golden, val, threshold = context.golden(target.form), context.val(target.form), context.bundle.manifest.thresholds
    try:
        with captured_output("running the file", target.file_name(recipe.precision, converter.suffix)):
            checked = check_candidate(path, job.description, runtime_of(target), golden, val, threshold["default"])
    except BundleError as error:  # XNNPACK has no int8 kernel for ratios of scales that are very large or small
        checked = CheckedCandidate((Gate("loads", None, 0, "fail", error.what),), None, None)
    names = tuple(layer.name for layer in kept_float)
    return Candidate(artifact, recipe, names, checked.gates, checked.figures, checked.partitions, path.stat().st_size)
