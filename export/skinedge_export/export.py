"""`skinedge export`: convert, gate, and only then give the file its name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import GateError, SkinedgeError, unexpected
from skinedge.core.files import SOME_ROOM, check_writable, sha256
from skinedge.data.dataset import images_of
from skinedge.run.embedded_metadata import describe
from skinedge.run.file_trial import open_tried, remember
from skinedge.run.manifest import MODEL, FileEntry
from skinedge.run.run_directory import Bundle
from skinedge.run.stage import StageWriter
from skinedge.stats.calibration import Reading
from skinedge.stats.gates import Gate
from skinedge.system.progress import note
from skinedge.system.temporary_folder import scratch_folder, temporary_files_in
from skinedge_export.captured_output import captured_output
from skinedge_export.cards import write_cards
from skinedge_export.context import ExportContext
from skinedge_export.converter import Artifact
from skinedge_export.parallel import failure, missing_named, search_all
from skinedge_export.recipe import CALIBRATED
from skinedge_export.search import candidates
from skinedge_export.search.candidates import Candidate
from skinedge_export.target import ExportTarget, converter_of, recipe_of, runtime_of
from skinedge_export.thresholds import Scores, fit_thresholds

PREFERENCE = tuple(
    f"model.{precision}{suffix}" for suffix in (".tflite", ".onnx") for precision in ("int8", "int8-mixed", "fp32")
)

FILES = 3  # times the merged network's size: fp32 and int8 in two formats


def export(
    bundle: Bundle,
    wanted: Sequence[ExportTarget],
    *,
    data: Path | None = None,
    force: bool = False,
    reading: Reading | None = None,
) -> Bundle:
    """Write the files that were asked for; what is current is kept.

    Merges first if that has not been done, or was for another reading. A file of another merged model, which may
    assume another class prior, is made again whether it was asked for or not. data: where the images are now, if
    not at the manifest's data_root; force: make current files again; reading: see `stats.calibration`, default:
    as it is.
    Raises: ConfigError for an unknown format; GateError when a file fails a gate (the earlier file
        stays); DataError when int8 lacks its images; MissingDependencyError; BundleError; SkinedgeError for any other
        reason why a file was not made, and for several: one that fails costs no other.
    """
    for entry in bundle.model_files():
        converter_of(ExportTarget.of(entry))  # fail now, where a plug-in is gone
    with missing_named():
        from skinedge.training.merge import merge

        bundle = merge(bundle, data, reading)
        check_writable(bundle.root, FILES * bundle.entries()[MODEL].size + SOME_ROOM)
        images = images_of(data, bundle.manifest.data_root)
        materials, before = ExportContext(bundle, images), bundle.manifest.stages
        _look_ahead(bundle, [*wanted, *_stale(bundle)], materials, force)
        scores: dict[str, Scores] = {}
        bundle, refused = _export_all(bundle, wanted, materials, force, scores)
        stale = [ask for ask in _stale(bundle) if ask not in refused]
        bundle, more = _export_all(bundle, stale, materials, force, scores)
        errors = [*refused.values(), *more.values()]
        if not errors or bundle.manifest.stages != before:  # else nothing was made, and nothing is written
            bundle = _finish(bundle, images, scores, errors)
    if errors:
        raise _all_of(errors)
    return bundle


def _look_ahead(bundle: Bundle, asked: Sequence[ExportTarget], materials: ExportContext, force: bool) -> None:
    """Read the images that will be needed: what is wrong with them is said now, not after minutes of converting.

    Any other error will be met again, by the file that it costs.
    """
    for ask in dict.fromkeys(asked):
        try:
            if force or current(bundle, ask) is None:
                materials.cal()
                if ask.calibrated:
                    materials.calibration(recipe_of(ask, "int8").calibration)
        except SkinedgeError:
            raise
        except Exception:
            continue


def _finish(bundle: Bundle, images: Path | None, scores: Mapping[str, Scores], errors: list[SkinedgeError]) -> Bundle:
    """Fit the thresholds and write the cards of the files that were made; a step that fails is one more of `errors`."""
    steps: Mapping[str, Callable[[Bundle], Bundle]] = {
        "thresholds": lambda run: fit_thresholds(run, images, scores),
        "cards": write_cards,
    }
    for name, step in steps.items():
        try:
            bundle = step(bundle)
        except Exception as error:
            errors.append(unexpected(error, name))
            bundle = bundle.reload()
    return bundle


def _stale(bundle: Bundle) -> list[ExportTarget]:
    """What the files of another merged model were asked for as."""
    return [ExportTarget.of(entry) for entry in bundle.model_files() if not bundle.fits_model(entry)]


def _export_all(
    bundle: Bundle, wanted: Sequence[ExportTarget], materials: ExportContext, force: bool, scores: dict[str, Scores]
) -> tuple[Bundle, dict[ExportTarget, SkinedgeError]]:
    """Every file that passes its gates, and the errors of the others: one that fails does not stop them.

    scores: gets what the files say of the cal images, by their names.
    """
    asked: list[ExportTarget] = []
    refused: dict[ExportTarget, SkinedgeError] = {}
    for ask in dict.fromkeys(wanted):
        try:
            kept = None if force else current(bundle, ask)
        except Exception as error:
            refused[ask] = failure(ask, error)
            continue
        if kept is None:
            asked.append(ask)
        else:
            note(f"{kept.path}: made from the same inputs already, kept (--force makes it again)")
    with ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        stack.enter_context(temporary_files_in(scratch))
        for ask, outcome in stack.enter_context(closing(search_all(asked, materials, scratch))):
            if isinstance(outcome, SkinedgeError):
                refused[ask] = outcome
                continue
            try:
                name, bundle = _keep(bundle, ask, *_timed(bundle, ask, outcome.rungs, materials), materials)
            except Exception as error:
                refused[ask], bundle = failure(ask, error), bundle.reload()
                continue
            if outcome.scores is not None:
                scores[name] = outcome.scores
    return bundle, refused


def _all_of(errors: Sequence[SkinedgeError]) -> SkinedgeError:
    """One error that says what each says; what keeps several files from being made is said once."""
    first, *others = {str(error): error for error in errors}.values()
    if not others:
        return first
    lines: list[str] = []
    for error in (first, *others):
        lines += [f"{error.where}: {error.what}" if error.where else error.what, *error.lines]
    if all(isinstance(error, GateError) for error in errors):
        return GateError(f"{len(errors)} files were refused:", todo=first.todo, lines=lines)
    every = SkinedgeError(f"{len(errors)} files were not made:", todo=first.todo, lines=lines)
    for text in (text for error in errors for text in getattr(error, "__notes__", ())):
        every.add_note(text)
    return every


def current(bundle: Bundle, ask: ExportTarget) -> FileEntry | None:
    """The file that this very ask made from the same inputs, intact; None where there is none."""
    inputs = _inputs(bundle, ask)
    for entry in bundle.model_files():
        if bundle.is_current(_stage_name(entry.path), inputs):
            return entry
    return None


def _stage_name(file: str) -> str:
    """'model.int8.tflite' -> 'export.tflite.int8'."""
    _, *parts, suffix = file.split(".")
    return ".".join(["export", suffix, *parts])


def _inputs(bundle: Bundle, ask: ExportTarget) -> dict[str, str]:
    """All that decides what the file is: name -> sha256."""
    named = dict.fromkeys("int8" if name == "int8-mixed" else name for name in ask.precisions)  # one recipe for both
    recipes = [recipe_of(ask, name).sha256 for name in named]
    return {
        "model": sha256(bundle.file(MODEL)),
        "split": sha256(bundle.file("split.csv")),
        "description": json_io.digest(describe(bundle.manifest, ask.precision, ask.form.contract).to_json()),
        "recipe": json_io.digest([*[sha256(candidates.SETTINGS)] * ask.calibrated, *recipes]),
        "asked": json_io.digest(asdict(ask)),
    }


def _timed(
    bundle: Bundle, ask: ExportTarget, rungs: Sequence[Candidate], materials: ExportContext
) -> tuple[Sequence[Candidate], float | None]:
    """With their latency, and that of fp32's file where it is there: nothing else runs now."""
    if not ask.calibrated:
        return rungs, None
    runtime = runtime_of(ask)
    full = ask.file_name("fp32", converter_of(ask).suffix)
    exact = [bundle.root / full] if bundle.has(full) and (bundle.root / full).is_file() else []
    with captured_output("running the files", full):
        sessions = [runtime.open(rung.artifact.path, threads=1) for rung in rungs]
        sessions += [open_tried(path, runtime) for path in exact]
        return candidates.timed(rungs, sessions, materials.golden(ask.form).pixels[:1])


def _keep(
    bundle: Bundle, ask: ExportTarget, rungs: Sequence[Candidate], exact: float | None, materials: ExportContext
) -> tuple[str, Bundle]:
    """Make the chosen rung a file of the run, and say in the manifest what it is; returns its name, and the run."""
    rung = rungs[-1]
    name = ask.file_name(rung.recipe.precision, converter_of(ask).suffix)
    with bundle.stage(_stage_name(name), f"skinedge {__version__}", _inputs(bundle, ask)) as stage:
        shutil.move(rung.artifact.path, stage.path(name))
        stage.describe(name, format=ask.format, asked=asdict(ask), **_account(rung, materials))
        if ask.calibrated:
            _write_report(stage, bundle, name, runtime_of(ask).name, rungs, exact)
        replaced = [old.path for old in bundle.model_files() if ExportTarget.of(old) == ask and old.path != name]
        stage.remove(*replaced, *map(report_name, replaced))
        present = {*bundle.entries(), name}.difference(replaced)
        thresholds = {key: value for key, value in bundle.manifest.thresholds.items() if key != name}  # fitted anew
        stage.set(default_file=next((file for file in PREFERENCE if file in present), name), thresholds=thresholds)
    note(f"{name}: gates passed")
    bundle = bundle.reload()
    remember(bundle.file(name), runtime_of(ask), bundle.entries()[name].sha256)
    return name, bundle


def _write_report(
    stage: StageWriter, bundle: Bundle, name: str, runtime: str, rungs: Sequence[Candidate], exact: float | None
) -> None:
    images = rungs[-1].figures.images if rungs[-1].figures else 0
    model = {"model_id": bundle.manifest.id, "model_sha256": bundle.model_sha256}
    document = json_io.document(
        "ladder", {"file": name, "runtime": runtime, **candidates.report(rungs, images, exact)}, **model
    )
    stage.path(report_name(name)).write_text(json_io.to_text(document), encoding="utf-8")


def report_name(name: str) -> str:
    """Where the run keeps the ladder of a model file."""
    return f"reports/ladder.{name.removeprefix('model.')}.json"


def _account(rung: Candidate, materials: ExportContext) -> Mapping[str, object]:
    """What the manifest says of the file."""
    artifact: Artifact = rung.artifact
    gates: Sequence[Gate] = rung.gates
    said: dict[str, Any] = {
        "precision": rung.recipe.precision,
        "inputs": [asdict(spec) for spec in artifact.inputs],
        "outputs": [asdict(spec) for spec in artifact.outputs],
        "ops": {op: artifact.ops.count(op) for op in dict.fromkeys(artifact.ops)},
        "versions": dict(artifact.versions),
        "gates": [asdict(gate) for gate in gates],
    }
    if rung.recipe.precision in CALIBRATED:
        settings = rung.recipe.calibration
        images = materials.calibration(settings)
        said["calibration"] = {"images": len(images.pixels), "ids": images.ids, "ids_sha256": images.ids_sha256}
        said["calibration"]["ranges"] = settings.ranges
    if rung.kept_float:
        said["kept_float"] = list(rung.kept_float)
    return said
