"""`skinedge export`: convert to a temporary file, check it, then move it into the run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import GateError, SkinedgeError, unexpected
from skinedge.core.files import SOME_ROOM, check_writable, sha256
from skinedge.data.dataset import images_of
from skinedge.run import golden
from skinedge.run.embedded_metadata import describe
from skinedge.run.file_trial import open_tried, remember
from skinedge.run.manifest import MODEL, FileEntry
from skinedge.run.run_directory import Bundle
from skinedge.run.stage import StageWriter
from skinedge.stats.calibration import Reading
from skinedge.stats.verdicts import counted_gates
from skinedge.system.progress import note
from skinedge.system.temporary_folder import scratch_folder, temporary_files_in
from skinedge_export.captured_output import captured_output
from skinedge_export.cards import write_cards
from skinedge_export.context import ExportContext
from skinedge_export.parallel import failure, missing_named, search_all
from skinedge_export.recipe import CALIBRATED
from skinedge_export.search.candidates import SETTINGS, Candidate, report, timed
from skinedge_export.target import ExportTarget, converter_of, recipe_of, runtime_of
from skinedge_export.thresholds import Scores, fit_thresholds

PREFERENCE = tuple(
    f"model.{precision}{suffix}" for suffix in (".tflite", ".onnx") for precision in ("int8", "int8-mixed", "fp32")
)

FILES = 3  # free space needed, in sizes of the merged network: fp32 and int8 in two formats


def export(
    bundle: Bundle,
    wanted: Sequence[ExportTarget],
    *,
    data: Path | None = None,
    force: bool = False,
    reading: Reading | None = None,
) -> Bundle:
    """Write the files of the targets; files that are up to date are kept.

    Merges first if that is not done, or was done for another reading. Files of another merged model, which may assume
    another class prior, are made again even if not among the targets.
    data: folder of the images, if no longer the manifest's data_root; force: make files that are up to date again;
    reading: see `stats.calibration`, default: unchanged.
    Raises: ConfigError for an unknown format; GateError if a file fails a gate (the earlier file stays); DataError if
        int8 lacks its images; MissingDependencyError; BundleError; SkinedgeError for any other failure, and for
        several failures: one failed file costs no other.
    """
    for entry in bundle.model_files():
        converter_of(ExportTarget.of(entry))  # raises now if a plug-in is gone
    with missing_named():
        from skinedge.training.merge import merge

        bundle = merge(bundle, data, reading)
        check_writable(bundle.root, FILES * bundle.entries()[MODEL].size + SOME_ROOM)
        images = images_of(data, bundle.manifest.data_root)
        context, stages_before = ExportContext(bundle, images), bundle.manifest.stages
        _load_images(bundle, [*wanted, *_outdated(bundle)], context, force)
        scores: dict[str, Scores] = {}
        bundle, failed = _make_files(bundle, wanted, context, force, scores)
        outdated = [target for target in _outdated(bundle) if target not in failed]
        bundle, also_failed = _make_files(bundle, outdated, context, force, scores)
        errors = [*failed.values(), *also_failed.values()]
        if not errors or bundle.manifest.stages != stages_before:  # else no file was made, and nothing is written
            bundle = _finish(bundle, images, scores, errors)
    if errors:
        raise _combined(errors)
    return bundle


def _load_images(bundle: Bundle, targets: Sequence[ExportTarget], context: ExportContext, force: bool) -> None:
    """Load the images that the targets need, to report unreadable ones now rather than after minutes of converting.

    Any other error occurs again, and is reported, when the file is made.
    """
    for target in dict.fromkeys(targets):
        try:
            if force or current(bundle, target) is None:
                context.cal()
                if target.calibrated:
                    context.calibration(recipe_of(target, "int8").calibration)
        except SkinedgeError:
            raise
        except Exception:
            continue


def _finish(bundle: Bundle, images: Path | None, scores: Mapping[str, Scores], errors: list[SkinedgeError]) -> Bundle:
    """Fit the thresholds and write the cards of the files; a failed step adds its error to `errors`."""
    try:
        bundle = fit_thresholds(bundle, images, scores)
    except Exception as error:
        errors.append(unexpected(error, "thresholds"))
        bundle = bundle.reload()
    try:
        return write_cards(bundle)
    except Exception as error:
        errors.append(unexpected(error, "cards"))
        return bundle.reload()


def _outdated(bundle: Bundle) -> list[ExportTarget]:
    """Return the targets of the files of another merged model."""
    return [ExportTarget.of(entry) for entry in bundle.model_files() if not bundle.fits_model(entry)]


def _make_files(
    bundle: Bundle, targets: Sequence[ExportTarget], context: ExportContext, force: bool, scores: dict[str, Scores]
) -> tuple[Bundle, dict[ExportTarget, SkinedgeError]]:
    """Make each target's file if its gates pass; returns the run, and the errors of the others.

    scores: receives each new file's malignant scores of the cal images, by file name.
    """
    pending: list[ExportTarget] = []
    failed: dict[ExportTarget, SkinedgeError] = {}
    for target in dict.fromkeys(targets):
        try:
            entry = None if force else current(bundle, target)
        except Exception as error:
            failed[target] = failure(target, error)
            continue
        if entry is None:
            pending.append(target)
        else:
            note(f"{entry.path}: made from the same inputs already, kept (--force makes it again)")
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        stack.enter_context(temporary_files_in(scratch))
        for target, outcome in stack.enter_context(closing(search_all(pending, context, scratch))):
            if isinstance(outcome, SkinedgeError):
                failed[target] = outcome
                continue
            try:
                candidates, fp32_ms = _timed(bundle, target, outcome.candidates, context)
                name, bundle = _keep(bundle, target, candidates, fp32_ms, context)
            except Exception as error:
                failed[target], bundle = failure(target, error), bundle.reload()
                continue
            if outcome.scores is not None:
                scores[name] = outcome.scores
    return bundle, failed


def _combined(errors: Sequence[SkinedgeError]) -> SkinedgeError:
    """Return one error for all; equal errors are listed once."""
    first, *others = {str(error): error for error in errors}.values()
    if not others:
        return first
    lines: list[str] = []
    for error in (first, *others):
        lines += [f"{error.where}: {error.what}" if error.where else error.what, *error.lines]
    if all(isinstance(error, GateError) for error in errors):
        return GateError(f"{len(errors)} files were refused:", todo=first.todo, lines=lines)
    combined = SkinedgeError(f"{len(errors)} files were not made:", todo=first.todo, lines=lines)
    for text in (text for error in errors for text in getattr(error, "__notes__", ())):
        combined.add_note(text)
    return combined


def current(bundle: Bundle, target: ExportTarget) -> FileEntry | None:
    """Return the target's intact file if it was made from the same inputs, else None."""
    inputs = _inputs(bundle, target)
    for entry in bundle.model_files():
        if bundle.is_current(_stage_name(entry.path), inputs):
            return entry
    return None


def _stage_name(file: str) -> str:
    """Return 'export.tflite.int8' for 'model.int8.tflite'."""
    _, *parts, suffix = file.split(".")
    return ".".join(["export", suffix, *parts])


def _inputs(bundle: Bundle, target: ExportTarget) -> dict[str, str]:
    """Return name -> sha256 of all inputs that determine the file."""
    precisions = dict.fromkeys("int8" if name == "int8-mixed" else name for name in target.precisions)  # one recipe
    recipes = [recipe_of(target, name).sha256 for name in precisions]
    return {
        "model": sha256(bundle.file(MODEL)),
        "split": sha256(bundle.file("split.csv")),
        "description": json_io.digest(describe(bundle.manifest, target.precision, target.form.contract).to_json()),
        "recipe": json_io.digest([*[sha256(SETTINGS)] * target.calibrated, *recipes]),
        "asked": json_io.digest(asdict(target)),
    }


def _timed(
    bundle: Bundle, target: ExportTarget, candidates: Sequence[Candidate], context: ExportContext
) -> tuple[Sequence[Candidate], float | None]:
    """Measure the candidates' latency, and that of the fp32 file if there is one, while nothing else runs.

    Candidates that their runtime cannot load come first, without a latency.
    """
    if not target.calibrated:
        return candidates, None
    runtime = runtime_of(target)
    name = target.file_name("fp32", converter_of(target).suffix)
    fp32 = [bundle.root / name] if bundle.has(name) and (bundle.root / name).is_file() else []
    unloadable, loadable = ([c for c in candidates if c.loads is loads] for loads in (False, True))
    with captured_output("running the files", name):
        sessions = [runtime.open(candidate.artifact.path, threads=1) for candidate in loadable]
        sessions += [open_tried(path, runtime) for path in fp32]
        measured, fp32_ms = timed(loadable, sessions, context.golden(target.form).pixels[:1])
    return [*unloadable, *measured], fp32_ms


def _keep(
    bundle: Bundle,
    target: ExportTarget,
    candidates: Sequence[Candidate],
    fp32_ms: float | None,
    context: ExportContext,
) -> tuple[str, Bundle]:
    """Move the chosen candidate's file into the run and describe it in the manifest; returns its name, and the run."""
    chosen = candidates[-1]
    name = target.file_name(chosen.recipe.precision, converter_of(target).suffix)
    outputs = _golden_outputs(chosen, target, context)
    with bundle.stage(_stage_name(name), f"skinedge {__version__}", _inputs(bundle, target)) as stage:
        shutil.move(chosen.artifact.path, stage.path(name))
        stage.describe(name, format=target.format, asked=asdict(target), **_description(chosen, context))
        golden.save_outputs(stage.path(golden.outputs_name(name)), outputs)
        if target.calibrated:
            _write_report(stage, bundle, name, runtime_of(target).name, candidates, fp32_ms)
        replaced = [old.path for old in bundle.model_files() if ExportTarget.of(old) == target and old.path != name]
        stage.remove(*replaced, *map(report_name, replaced), *map(golden.outputs_name, replaced))
        files = {*bundle.entries(), name}.difference(replaced)
        thresholds = {key: value for key, value in bundle.manifest.thresholds.items() if key != name}  # fitted later
        stage.set(default_file=next((file for file in PREFERENCE if file in files), name), thresholds=thresholds)
    images = "golden images" if chosen.figures is None else "validation images"
    note(f"{name}: {counted_gates((gate.verdict for gate in chosen.gates), f'of export ({images})')}")
    bundle = bundle.reload()
    remember(bundle.file(name), runtime_of(target), bundle.entries()[name].sha256)
    return name, bundle


def _golden_outputs(candidate: Candidate, target: ExportTarget, context: ExportContext) -> golden.GoldenOutputs:
    """Run the file on the golden images, for `verify` to compare with."""
    runtime = runtime_of(target)
    with captured_output("running the file", candidate.artifact.path.name):
        session = runtime.open(candidate.artifact.path, threads=1)
        outputs = session.run(context.golden(target.form).pixels)
    return golden.GoldenOutputs(outputs.probabilities, golden.environment(runtime))


def _write_report(
    stage: StageWriter,
    bundle: Bundle,
    name: str,
    runtime: str,
    candidates: Sequence[Candidate],
    fp32_ms: float | None,
) -> None:
    images = candidates[-1].figures.images if candidates[-1].figures else 0
    content = {"file": name, "runtime": runtime, **report(candidates, images, fp32_ms)}
    document = json_io.document("ladder", content, model_id=bundle.manifest.id, model_sha256=bundle.model_sha256)
    stage.path(report_name(name)).write_text(json_io.to_text(document), encoding="utf-8")


def report_name(name: str) -> str:
    """Return the path, in the run, of a model file's search report."""
    return f"reports/ladder.{name.removeprefix('model.')}.json"


def _description(candidate: Candidate, context: ExportContext) -> Mapping[str, object]:
    """Return the manifest's description of a candidate's file."""
    artifact, settings = candidate.artifact, candidate.recipe.calibration
    description: dict[str, object] = {
        "precision": candidate.recipe.precision,
        "inputs": [asdict(spec) for spec in artifact.inputs],
        "outputs": [asdict(spec) for spec in artifact.outputs],
        "ops": {op: artifact.ops.count(op) for op in dict.fromkeys(artifact.ops)},
        "versions": dict(artifact.versions),
        "gates": [asdict(gate) for gate in candidate.gates],
    }
    if candidate.recipe.precision in CALIBRATED:
        images = context.calibration(settings)
        calibration = {"images": len(images.pixels), "ids": images.ids, "ids_sha256": images.ids_sha256}
        description["calibration"] = {**calibration, "ranges": settings.ranges}
    if artifact.oldest_runtime:
        description["oldest_runtime"] = artifact.oldest_runtime
    if candidate.kept_float:
        description["kept_float"] = list(candidate.kept_float)
    return description
