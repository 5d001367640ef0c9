"""`skinedge export`: convert, gate, and only then give the file its name."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from skinedge import __version__, plugins
from skinedge.bundle import MODEL, Bundle, StageWriter, sha256
from skinedge.calibration import Reading
from skinedge.data.dataset import Sample, images_of, read_split
from skinedge.data.prepared import load_prepared
from skinedge.description import ModelDescription, describe
from skinedge.errors import DataError, GateError, MissingDependencyError
from skinedge.parity import Gate
from skinedge.progress import note
from skinedge_export.calibrate import CalibrationSet, choose, load_calibration
from skinedge_export.gate import Reference, check_file, check_network
from skinedge_export.job import Artifact, Converter, ExportJob
from skinedge_export.quiet import quiet
from skinedge_export.recipe import CalibrationSettings, ExportRecipe
from skinedge_export.thresholds import fit_thresholds

if TYPE_CHECKING:
    from torch import nn

PREFERENCE = ("model.int8.tflite", "model.fp32.tflite", "model.int8.onnx", "model.fp32.onnx")
GATE_IMAGES = 256


def export(
    bundle: Bundle,
    formats: Sequence[str],
    int8: bool,
    *,
    data: Path | None = None,
    force: bool = False,
    reading: Reading | None = None,
) -> Bundle:
    """Write the fp32 file, and with `int8` the int8 file, of each format; what is current is kept.

    Merges first if that has not been done, or was for another reading. A file of another merged model, which may
    assume another class prior, is made again whether it was asked for or not. data: where the images are now, if
    not at the manifest's data_root; force: make current files again; reading: see `skinedge.calibration`, default:
    as it is.
    Raises: ConfigError for an unknown format; GateError when a file fails a gate (the earlier file
        stays); DataError when int8 lacks its images; MissingDependencyError; BundleError.
    """
    asked = [
        (_converter(name), precision) for name in formats for precision in (("fp32", "int8") if int8 else ("fp32",))
    ]
    present = {entry.path: _converter(str(entry.info["format"])) for entry in bundle.model_files()}
    try:
        from skinedge.merge import merge

        bundle = merge(bundle, data, reading)
        images = images_of(data, bundle.manifest.data_root)
        materials = Materials(bundle, images)
        stale = [(present[e.path], str(e.info["precision"])) for e in bundle.model_files() if not bundle.fits_model(e)]
        plan = list(dict.fromkeys([*asked, *stale]))
        for converter, precision in plan:
            recipe = converter.recipe(precision)
            if precision != "fp32" and (force or not _is_current(bundle, recipe)):
                materials.calibration(recipe.calibration)  # fail now, not after minutes of converting
        for converter, precision in plan:
            bundle = _export_one(bundle, converter, converter.recipe(precision), materials, force)
        bundle = fit_thresholds(bundle, images)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(error.name or str(error), "export") from None
    return bundle


class Materials:
    """What several files need, each made once and only when asked for."""

    def __init__(self, bundle: Bundle, images: Path | None) -> None:
        self._bundle = bundle
        self._images = images
        self._size = bundle.manifest.preprocess.size
        self._calibration: dict[CalibrationSettings, CalibrationSet] = {}
        self._quantizable: dict[CalibrationSettings, nn.Module] = {}

    @cached_property
    def network(self) -> nn.Module:
        """The merged network, after its weights and outputs were checked."""
        from skinedge.merge import load_merged

        network = load_merged(self._bundle)
        check_network(network, self._bundle.manifest.labels, self._size)
        return network

    @cached_property
    def golden(self) -> Reference:
        from skinedge.golden import load

        golden = load(self._bundle.file("golden.npz"))
        return Reference(golden.pixels, golden.logits)

    @cached_property
    def val(self) -> Reference | None:
        """Up to 256 validation images, None (said on screen) where the images are not there."""
        from skinedge.merge import eager_logits

        chosen = [sample for sample in self._split if sample.split == "val"]
        if self._images is None or not self._images.is_dir() or not chosen:
            why = "the run has none" if not chosen else f"no folder {self._images or 'was given with --data'}"
            note(f"gates: golden images only, no validation images ({why})")
            return None
        chosen.sort(key=lambda sample: sample.image_id)
        chosen = random.Random(0).sample(chosen, min(GATE_IMAGES, len(chosen)))
        pixels = load_prepared(self._images, chosen, self._size)
        return Reference(pixels, eager_logits(self.network, pixels, self._bundle.manifest.preprocess))

    def calibration(self, settings: CalibrationSettings) -> CalibrationSet:
        """Training images only; see `skinedge_export.calibrate`."""
        if settings not in self._calibration:
            images = self._required_images()
            chosen = choose(self._split, settings)
            self._calibration[settings] = load_calibration(images, chosen, self._size)
        return self._calibration[settings]

    def quantizable(self, settings: CalibrationSettings) -> nn.Module:
        """The merged network as int8 takes it best: equalized, and with weights on the int8 grid."""
        from skinedge_export.equalize import equalize
        from skinedge_export.rounding import round_weights

        if settings not in self._quantizable:
            pixels, rule, network = self.calibration(settings).pixels, self._bundle.manifest.preprocess, self.network
            if settings.equalize:
                network = equalize(network, pixels, rule)
            if settings.rounding == "covariance":
                note("rounding weights for the calibration images ...")
                network = round_weights(network, pixels, rule)
            self._quantizable[settings] = network
        return self._quantizable[settings]

    def _required_images(self) -> Path:
        if self._images is None or not self._images.exists():
            raise DataError(
                "int8 needs the training images to calibrate on, and their folder is "
                + ("not known" if self._images is None else "gone"),
                where=str(self._images or self._bundle.root),
                todo="Say where they are with --data DIR, or export without --int8.",
            )
        return self._images

    @cached_property
    def _split(self) -> tuple[Sample, ...]:
        return read_split(self._bundle.file("split.csv"))


def file_name(precision: str, converter: Converter) -> str:
    """Name of the file in the run directory."""
    return f"model.{precision}{converter.suffix}"


def _converter(name: str) -> Converter:
    found: Converter = plugins.load(plugins.CONVERTERS, name)
    return found


def _stage_name(recipe: ExportRecipe) -> str:
    return f"export.{recipe.format}.{recipe.precision}"


def _inputs(bundle: Bundle, recipe: ExportRecipe) -> dict[str, str]:
    """All that decides what the file is: name -> sha256."""
    description = describe(bundle.manifest, recipe.precision).to_json()
    return {
        "model": sha256(bundle.file(MODEL)),
        "split": sha256(bundle.file("split.csv")),
        "description": hashlib.sha256(description.encode()).hexdigest(),
        "recipe": recipe.sha256,
    }


def _is_current(bundle: Bundle, recipe: ExportRecipe) -> bool:
    return bundle.is_current(_stage_name(recipe), _inputs(bundle, recipe))


def _export_one(
    bundle: Bundle, converter: Converter, recipe: ExportRecipe, materials: Materials, force: bool
) -> Bundle:
    """Make one file, unless it is there already; returns the run with it."""
    name, stage_name = file_name(recipe.precision, converter), _stage_name(recipe)
    if not force and _is_current(bundle, recipe):
        note(f"{name}: made from the same inputs already, kept (--force makes it again)")
        return bundle
    note(f"{name}: converting ...")
    started = time.perf_counter()
    with bundle.stage(stage_name, f"skinedge {__version__}", _inputs(bundle, recipe)) as stage:
        _fill(stage, bundle, converter, recipe, materials)
    note(f"{name}: gates passed, {time.perf_counter() - started:.0f} s")
    return bundle.reload()


def _fill(
    stage: StageWriter,
    bundle: Bundle,
    converter: Converter,
    recipe: ExportRecipe,
    materials: Materials,
) -> None:
    """Convert into the stage's `.part` file, gate that, and say in the manifest what it is."""
    name = file_name(recipe.precision, converter)
    path = stage.path(name)
    description = describe(bundle.manifest, recipe.precision)
    if recipe.precision == "fp32":
        calibration, job = None, ExportJob(materials.network, description, recipe)
    else:
        calibration = materials.calibration(recipe.calibration)
        job = ExportJob(materials.quantizable(recipe.calibration), description, recipe, calibration.pixels)
    artifact = converter.convert(job, path)
    runtime: plugins.Runtime = plugins.load(plugins.RUNTIMES, converter.runtime)
    gates = _gates(path, name, description, runtime, materials)
    stage.describe(name, format=recipe.format, **_account(artifact, gates, calibration))
    present = {*bundle.entries(), name}
    thresholds = {key: value for key, value in bundle.manifest.thresholds.items() if key != name}  # to be fitted anew
    stage.set(default_file=next((file for file in PREFERENCE if file in present), name), thresholds=thresholds)


def _gates(
    path: Path, name: str, description: ModelDescription, runtime: plugins.Runtime, materials: Materials
) -> tuple[Gate, ...]:
    golden, val = materials.golden, materials.val
    try:
        with quiet("running the file", name):
            return check_file(path, description, runtime, golden, val)
    except GateError as error:
        raise GateError(error.what, where=name, todo=error.todo) from None


def _account(artifact: Artifact, gates: Sequence[Gate], calibration: CalibrationSet | None) -> Mapping[str, object]:
    """What the manifest says of the file."""
    said = {
        "precision": artifact.precision,
        "inputs": [asdict(spec) for spec in artifact.inputs],
        "outputs": [asdict(spec) for spec in artifact.outputs],
        "ops": {op: artifact.ops.count(op) for op in dict.fromkeys(artifact.ops)},
        "versions": dict(artifact.versions),
        "gates": [asdict(gate) for gate in gates],
    }
    if calibration is not None:
        said["calibration"] = {"images": len(calibration.pixels), "ids_sha256": calibration.ids_sha256}
    return said
