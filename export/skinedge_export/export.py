"""`skinedge export`: convert, gate, and only then give the file its name."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from skinedge import __version__, documents, plugins
from skinedge.bundle import MODEL, Bundle, FileEntry, StageWriter, sha256
from skinedge.calibration import Reading
from skinedge.data.dataset import images_of
from skinedge.description import describe
from skinedge.errors import ConfigError, GateError, MissingDependencyError, one_of
from skinedge.parity import Gate
from skinedge.progress import note
from skinedge_export import ladder
from skinedge_export.cards import write_cards
from skinedge_export.form import Form
from skinedge_export.gate import judge
from skinedge_export.job import Artifact, Converter
from skinedge_export.ladder import Attempt, Rung
from skinedge_export.materials import Materials
from skinedge_export.quiet import quiet
from skinedge_export.recipe import CALIBRATED, PRECISIONS, RECIPES, ExportRecipe
from skinedge_export.sensitivity import Layer
from skinedge_export.thresholds import fit_thresholds

PREFERENCE = tuple(
    f"model.{precision}{suffix}" for suffix in (".tflite", ".onnx") for precision in ("int8", "int8-mixed", "fp32")
)
LADDER = "ladder"  # asked for instead of a precision: the fastest that passes


@dataclass(frozen=True)
class Ask:
    """One file to make. precision: 'ladder' or one of PRECISIONS; fallback: the ladder may go below int8;
    arm: for the int8 dot products of ARM processors (ONNX: S8S8); converter: its name, by default that of the format.
    """

    format: str
    precision: str
    form: Form = field(default_factory=Form)
    fallback: bool = False
    arm: bool = False
    converter: str = ""

    def __post_init__(self) -> None:
        one_of("precision", self.precision, (LADDER, *PRECISIONS))

    @property
    def precisions(self) -> tuple[str, ...]:
        """What to try, in this order."""
        if self.precision != LADDER:
            return (self.precision,)
        return ("int8", "int8-mixed", *(ladder.load_ladder().fallback if self.fallback else ()))

    @property
    def calibrated(self) -> bool:
        return any(precision in CALIBRATED for precision in self.precisions)

    def file_name(self, precision: str, suffix: str) -> str:
        """Name in the run directory: model.<precision>[.arm][.<contract>][.logits][.heatmap][.<converter>]<suffix>."""
        arm = "arm" if self.arm and precision in CALIBRATED else ""
        parts = ("model", precision, arm, *self.form.parts, self.converter)
        return ".".join(part for part in parts if part) + suffix

    @classmethod
    def of(cls, entry: FileEntry) -> Ask:
        """What a file of a run was asked for as."""
        said = entry.info.get("asked")
        if said is None:  # a file of the first version
            precision = str(entry.info["precision"])
            return cls(str(entry.info["format"]), LADDER if precision == "int8" else precision)
        return cls(**{**said, "form": Form(**said["form"])})


def asks(
    formats: Sequence[str],
    *,
    int8: bool = False,
    precision: str | None = None,
    form: Form | None = None,
    fallback: bool = False,
    arm: bool = False,
    converter: str = "",
) -> list[Ask]:
    """The files of one command: fp32, and with `int8` the ladder's, of each format; or the one `precision`.

    Of a converter that is not the format's own, `int8` is static int8 and no other: it is there to compare with.

    Raises: ConfigError for an unknown format or precision, or for options that mean nothing together.
    """
    one_of("--precision", precision or "fp32", PRECISIONS)
    if int8 and precision:
        raise ConfigError("--int8 and --precision contradict each other", todo="Say one of them.")
    if fallback and not int8:
        raise ConfigError("--fallback says where the ladder may end, and only --int8 climbs it", todo="Add --int8.")
    form, found, quantized = form or Form(), [], (LADDER, *CALIBRATED)
    for name in formats:
        other = converter if converter != name else ""
        _check_converter(name, other)
        wanted = [precision] if precision else ["fp32", *["int8" if other else LADDER] * int8]
        found += [Ask(name, each, form, fallback and each == LADDER, converter=other) for each in wanted]
        if arm and (RECIPES / f"{name}-int8-arm.toml").is_file():
            found += [
                Ask(name, each, form, fallback and each == LADDER, arm=True) for each in wanted if each in quantized
            ]
    if arm and not any(ask.arm for ask in found):
        raise ConfigError("--cpu arm: none of these files has a variant for ARM", todo="Ask for --format onnx --int8.")
    return found


def export(
    bundle: Bundle,
    wanted: Sequence[Ask],
    *,
    data: Path | None = None,
    force: bool = False,
    reading: Reading | None = None,
) -> Bundle:
    """Write the files that were asked for; what is current is kept.

    Merges first if that has not been done, or was for another reading. A file of another merged model, which may
    assume another class prior, is made again whether it was asked for or not. data: where the images are now, if
    not at the manifest's data_root; force: make current files again; reading: see `skinedge.calibration`, default:
    as it is.
    Raises: ConfigError for an unknown format; GateError when a file fails a gate (the earlier file
        stays); DataError when int8 lacks its images; MissingDependencyError; BundleError.
    """
    for entry in bundle.model_files():
        _converter(Ask.of(entry))  # fail now, where a plug-in is gone
    try:
        from skinedge.merge import merge

        bundle = merge(bundle, data, reading)
        images = images_of(data, bundle.manifest.data_root)
        materials, before = Materials(bundle, images), bundle.manifest.stages
        for ask in dict.fromkeys([*wanted, *_stale(bundle)]):
            if ask.calibrated and (force or current(bundle, ask) is None):
                materials.calibration(_recipe(ask, "int8").calibration)  # fail now, not after minutes of converting
        bundle, refused = _export_all(bundle, wanted, materials, force)
        bundle, more = _export_all(bundle, _stale(bundle), materials, force)
        if not (refused or more) or bundle.manifest.stages != before:  # else nothing was made, and nothing is written
            bundle = write_cards(fit_thresholds(bundle, images))
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or str(error), "export") from None
    if refused or more:
        raise _all_of([*refused, *more])
    return bundle


def _stale(bundle: Bundle) -> list[Ask]:
    """What the files of another merged model were asked for as."""
    return [Ask.of(entry) for entry in bundle.model_files() if not bundle.fits_model(entry)]


def _export_all(
    bundle: Bundle, wanted: Sequence[Ask], materials: Materials, force: bool
) -> tuple[Bundle, list[GateError]]:
    """Every file that passes its gates, and the errors of those that did not: one refusal does not stop the others."""
    refused = []
    for ask in dict.fromkeys(wanted):
        try:
            bundle = _export_one(bundle, ask, materials, force)
        except GateError as error:
            refused.append(error)
    return bundle, refused


def _all_of(errors: Sequence[GateError]) -> GateError:
    first, *others = errors
    if not others:
        return first
    lines = "\n".join(f"{error.where}: {error.what}" for error in errors)
    return GateError(f"{len(errors)} files were refused:\n{lines}", todo=first.todo)


def current(bundle: Bundle, ask: Ask) -> FileEntry | None:
    """The file that this very ask made from the same inputs, intact; None where there is none."""
    inputs = _inputs(bundle, ask)
    for entry in bundle.model_files():
        if bundle.is_current(_stage_name(entry.path), inputs):
            return entry
    return None


def _converter(ask: Ask) -> Converter:
    found: Converter = plugins.load(plugins.CONVERTERS, ask.converter or ask.format)
    return found


def formats() -> list[str]:
    """The formats that a converter of the same name makes."""
    return [name for name in plugins.names(plugins.CONVERTERS) if plugins.load(plugins.CONVERTERS, name).format == name]


def _check_converter(format: str, converter: str) -> None:
    """Raises: ConfigError for an unknown format or converter, or for one that makes files of another format."""
    plugins.load(plugins.CONVERTERS, format)
    made = plugins.load(plugins.CONVERTERS, converter or format).format
    if made != format:
        name = converter or format
        todo = f"Say --format {made} --converter {name}."
        raise ConfigError(f"the converter '{name}' makes {made} files, not {format}", todo=todo)


def _recipe(ask: Ask, precision: str) -> ExportRecipe:
    return _converter(ask).recipe(f"{precision}-arm" if ask.arm and precision == "int8" else precision)


def _stage_name(file: str) -> str:
    """'model.int8.tflite' -> 'export.tflite.int8'."""
    _, *parts, suffix = file.split(".")
    return ".".join(["export", suffix, *parts])


def _inputs(bundle: Bundle, ask: Ask) -> dict[str, str]:
    """All that decides what the file is: name -> sha256."""
    named = dict.fromkeys("int8" if name == "int8-mixed" else name for name in ask.precisions)  # one recipe for both
    recipes = [_recipe(ask, name).sha256 for name in named]
    return {
        "model": sha256(bundle.file(MODEL)),
        "split": sha256(bundle.file("split.csv")),
        "description": documents.digest(describe(bundle.manifest, ask.precision, ask.form.contract).to_json()),
        "recipe": documents.digest([*[sha256(ladder.LADDER)] * ask.calibrated, *recipes]),
        "asked": documents.digest(asdict(ask)),
    }


def _export_one(bundle: Bundle, ask: Ask, materials: Materials, force: bool) -> Bundle:
    """Make one file, unless it is there already; returns the run with it."""
    kept = current(bundle, ask)
    if kept is not None and not force:
        note(f"{kept.path}: made from the same inputs already, kept (--force makes it again)")
        return bundle
    shown = ask.file_name("int8" if ask.precision == LADDER else ask.precision, _converter(ask).suffix)
    note(f"{shown}: converting ...")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="skinedge-") as scratch:
        try:
            rungs, exact = _climb(bundle, ask, materials, Path(scratch))
        except GateError as error:
            raise GateError(error.what, where=shown, todo=error.todo) from None
        name = _keep(bundle, ask, rungs, exact, materials)
    note(f"{name}: gates passed, {time.perf_counter() - started:.0f} s")
    return bundle.reload()


def _climb(bundle: Bundle, ask: Ask, materials: Materials, scratch: Path) -> tuple[list[Rung], float | None]:
    """The rungs that were tried, the chosen one last, and fp32's latency where its file is there.

    Timed where they are calibrated. Raises: GateError when none passes.
    """

    def worst_first() -> Sequence[tuple[Layer, float]]:
        return materials.ranked(_recipe(ask, "int8").calibration)

    converter, steps = _converter(ask), ladder.load_ladder()
    tried = ladder.climb(
        replace(steps, ranges=tuple(name for name in steps.ranges if name in converter.ranges)),
        ask.precisions,
        _attempt(ask, materials, scratch),
        lambda precision: _recipe(ask, precision),
        worst_first,
    )
    if not ask.calibrated:
        return tried, None
    runtime: plugins.Runtime = plugins.load(plugins.RUNTIMES, converter.runtime)
    full = ask.file_name("fp32", converter.suffix)
    path = bundle.root / full
    exact = runtime.open(path, threads=1) if bundle.has(full) and path.is_file() else None
    return ladder.timed(tried, exact, materials.golden(ask.form).pixels[:1])


def _attempt(ask: Ask, materials: Materials, scratch: Path) -> Attempt:
    """What makes and judges one file."""
    converter, manifest = _converter(ask), materials.bundle.manifest
    runtime: plugins.Runtime = plugins.load(plugins.RUNTIMES, converter.runtime)

    def attempt(recipe: ExportRecipe, kept: tuple[Layer, ...]) -> Rung:
        number = len(list(scratch.iterdir()))
        path = scratch / f"{number}{converter.suffix}"
        job = materials.job(recipe, ask.form, kept)
        artifact = converter.convert(job, path)
        golden, val = materials.golden(ask.form), materials.val(ask.form)
        with quiet("running the file", ask.file_name(recipe.precision, converter.suffix)):
            judged = judge(path, job.description, runtime, golden, val, manifest.thresholds["default"])
        names = tuple(layer.name for layer in kept)
        return Rung(artifact, recipe, names, judged.gates, judged.figures, judged.session, path.stat().st_size)

    return attempt


def _keep(bundle: Bundle, ask: Ask, rungs: Sequence[Rung], exact: float | None, materials: Materials) -> str:
    """Make the chosen rung a file of the run, and say in the manifest what it is; returns its name."""
    rung = rungs[-1]
    name = ask.file_name(rung.recipe.precision, _converter(ask).suffix)
    with bundle.stage(_stage_name(name), f"skinedge {__version__}", _inputs(bundle, ask)) as stage:
        shutil.move(rung.artifact.path, stage.path(name))
        stage.describe(name, format=ask.format, asked=asdict(ask), **_account(rung, materials))
        if ask.calibrated:
            _write_report(stage, bundle, name, rungs, exact)
        replaced = [old.path for old in bundle.model_files() if Ask.of(old) == ask and old.path != name]
        stage.remove(*replaced, *map(report_name, replaced))
        present = {*bundle.entries(), name}.difference(replaced)
        thresholds = {key: value for key, value in bundle.manifest.thresholds.items() if key != name}  # fitted anew
        stage.set(default_file=next((file for file in PREFERENCE if file in present), name), thresholds=thresholds)
    return name


def _write_report(stage: StageWriter, bundle: Bundle, name: str, rungs: Sequence[Rung], exact: float | None) -> None:
    images = rungs[-1].figures.images if rungs[-1].figures else 0
    model = {"model_id": bundle.manifest.id, "model_sha256": bundle.model_sha256}
    document = documents.document("ladder", {"file": name, **ladder.report(rungs, images, exact)}, **model)
    stage.path(report_name(name)).write_text(documents.to_text(document), encoding="utf-8")


def report_name(name: str) -> str:
    """Where the run keeps the ladder of a model file."""
    return f"reports/ladder.{name.removeprefix('model.')}.json"


def _account(rung: Rung, materials: Materials) -> Mapping[str, object]:
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
