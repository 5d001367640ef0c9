"""`skinedge verify --layers`: compare each layer of a small file with the same layer in fp32."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import BundleError, ConfigError
from skinedge.core.installation import pip_install
from skinedge.core.preprocess import Pixels
from skinedge.data.dataset import read_split
from skinedge.data.loading import load_prepared
from skinedge.run import golden
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.manifest import FileEntry
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import bar, note
from skinedge_bench.loaded_model import LoadedModel, exported, open_listed, run_of
from skinedge_bench.runtimes.input_layout import Layout
from skinedge_bench.split_images import locate, place_of
from skinedge_bench.verify.layers import plot as layers_plot
from skinedge_bench.verify.layers.graph import Step, TensorReader, computed, matched, steps
from skinedge_bench.verify.layers.report import FileLayers, Layer, LayersReport
from skinedge_bench.verify.layers.sqnr import SqnrStatistics, cosines, share, sqnr

REPORT, PICTURE = "reports/layers.json", "reports/layers.png"
REFERENCE = "fp32"
IMAGES = 64
READERS = {".onnx": "skinedge_bench.verify.layers.onnx", ".tflite": "skinedge_bench.verify.layers.tflite"}


def compare(bundle: Bundle, names: Sequence[str], data: Path | None = None, images: int = IMAGES) -> LayersReport:
    """Compare files of a run, layer by layer, with the fp32 file of their format and input contract; write nothing.

    images: maximum number of the run's validation images, else of its golden images.
    Raises: BundleError if an fp32 file is missing, a file changed or gives NaN or infinity; DataError for images that
    are missing or changed; MissingDependencyError for an ONNX file without the package onnx.
    """
    pairs = [_pair(bundle, name) for name in names]
    pixels, description = pick_images(bundle, data, images)
    files = tuple(compare_pair(small, exact, pixels) for small, exact in pairs)
    return LayersReport(files, description, len(pixels), bundle.manifest.id, bundle.model_sha256)


def compare_run(bundle: Bundle, data: Path | None = None, images: int = IMAGES) -> LayersReport:
    """Compare all files of a run that are not fp32; write report and plot to the run. Raises: as `compare`."""
    small = [entry.path for entry in exported(bundle) if _precision(entry) != REFERENCE]
    if not small:
        todo = "Make one with: skinedge export RUN --format all --int8"
        raise BundleError("this run has fp32 files only: nothing to compare", where=str(bundle.root), todo=todo)
    report = compare(bundle, small, data, images)
    keep(bundle, report)
    return report


def compare_file(path: Path, data: Path | None = None, images: int = IMAGES) -> LayersReport:
    """Compare one file of a run; write nothing. Raises: as `compare`; ConfigError for fp32, or without a run."""
    bundle = run_of(path)
    if bundle is None:
        todo = "Name a file inside its run, or the run itself: skinedge verify RUN --layers"
        raise ConfigError("a file without its run: no fp32 file to compare its layers with", where=str(path), todo=todo)
    if _precision(bundle.entries()[path.name]) == REFERENCE:
        todo = "Name a file of another precision, or the run itself: skinedge verify RUN --layers"
        raise ConfigError("an fp32 file is the reference of this comparison", where=str(path), todo=todo)
    return compare(bundle, [path.name], data, images)


def keep(bundle: Bundle, report: LayersReport) -> None:
    """Write reports/layers.json and, where matplotlib is installed, reports/layers.png, as the stage 'layers'."""
    picture = layers_plot.draw(report) if layers_plot.can_draw() else None
    named = {name for file in report.files for name in (file.name, file.reference)}
    made_from = {name: entry.sha256 for name, entry in bundle.entries().items() if name in named}
    body = report.document()
    with bundle.stage("layers", f"skinedge {__version__}", made_from) as stage:
        document = json_io.document("layers", body, model_id=report.model_id, model_sha256=report.model_sha256)
        stage.path(REPORT).write_text(json_io.to_text(document), encoding="utf-8")
        if picture is not None:
            stage.path(PICTURE).write_bytes(picture)
    if picture is None:
        note(f"no picture: it needs matplotlib ({pip_install('plots')})")
    note(f"written: {REPORT}{'' if picture is None else f' and {PICTURE}'} in {bundle.root}")


def pick_images(bundle: Bundle, data: Path | None, count: int) -> tuple[Pixels, str]:
    """Return (n, S, S, 3) uint8 and a description: validation images, sampled with a fixed seed, else golden images.

    Raises: DataError if some of them are missing or changed, or `data` does not hold them.
    """
    chosen = sorted(
        (sample for sample in read_split(bundle.file("split.csv")) if sample.split == "val"),
        key=lambda sample: sample.image_id,
    )
    chosen = random.Random(0).sample(chosen, min(count, len(chosen)))
    located = locate(bundle, chosen, data) if chosen else None
    if located is not None:
        pixels = load_prepared(located.root, located.samples, bundle.manifest.preprocess)
        return pixels, f"{len(chosen)} validation images"
    reason = f"none of the validation images is {place_of(bundle.manifest)}" if chosen else "no validation images"
    pixels = golden.of_run(bundle).pixels[:count]
    description = f"{len(pixels)} golden (synthetic) images: {reason}"
    note(f"no real images: {description}")
    return pixels, description


def compare_pair(small: LoadedModel, exact: LoadedModel, pixels: Pixels) -> FileLayers:
    """Run both files on the same images, one at a time, and compare their layers."""
    ours, theirs = _reader(small), _reader(exact)
    pairs = matched(ours, theirs)
    shared = steps(ours, pairs)
    if not shared:
        raise BundleError(f"no layer matches a layer of {exact.name}", where=str(small.path))
    statistics = _sqnr_statistics(ours, theirs, pairs, pixels, small)
    unmatched = tuple(name for tensor, name in computed(ours).items() if tensor not in statistics)
    return FileLayers(small.name, small.sha256, exact.name, exact.sha256, _layers(shared, statistics), unmatched)


def _sqnr_statistics(
    ours: TensorReader, theirs: TensorReader, pairs: Mapping[str, str], pixels: Pixels, small: LoadedModel
) -> dict[str, SqnrStatistics]:
    """Return tensor of `ours` -> its statistics, without tensors of another shape. pairs: from `matched`."""
    statistics: dict[str, SqnrStatistics] = {}
    with bar(small.name, len(pixels)) as advance:
        for index in range(len(pixels)):
            image = pixels[index : index + 1]
            values, exact = ours.values(image, list(pairs)), theirs.values(image, list(pairs.values()))
            for name, other in pairs.items():
                if values[name].shape != exact[other].shape:
                    continue
                new = SqnrStatistics.of(exact[other], values[name])
                if not np.isfinite(new.ss.sum() + new.qq.sum()):
                    raise BundleError(f"the layer '{name}' gives NaN or infinity", where=str(small.path))
                statistics[name] = statistics[name].plus(new) if name in statistics else new
            advance(1)
    return statistics


def _layers(shared: Sequence[Step], statistics: Mapping[str, SqnrStatistics]) -> tuple[Layer, ...]:
    """Return the layers with statistics, in graph order."""
    sqnr_db: dict[str, float] = {}
    layers: list[Layer] = []
    for step in shared:
        if step.tensor not in statistics:
            continue
        sums = statistics[step.tensor]
        sqnr_db[step.tensor] = sqnr(sums, step.free)
        channel_cosines = cosines(sums)
        before = max((share(sqnr_db[name]) for name in step.reads if name in sqnr_db), default=0.0)
        layer = Layer(
            place=len(layers),
            name=step.name,
            kind=step.kind,
            tensor=step.tensor,
            sqnr_db=sqnr_db[step.tensor],
            cosine=float(channel_cosines.mean()) if len(channel_cosines) else float("nan"),
            added=share(sqnr_db[step.tensor]) - before,
            channels=len(sums.ss),
            silent=len(sums.ss) - len(channel_cosines),
            lost=int((channel_cosines <= 0).sum()),
            rescaled=step.free,
        )
        layers.append(layer)
    return tuple(layers)


def _pair(bundle: Bundle, name: str) -> tuple[LoadedModel, LoadedModel]:
    """Open the file, and the fp32 file of its format with the same input, preferably with the matching name."""
    entry, small = bundle.entries()[name], open_listed(bundle, name)
    format_, contract = str(entry.info["format"]), _contract(small)
    same_name = name.replace(f".{_precision(entry)}.", f".{REFERENCE}.", 1)
    candidates = [e.path for e in exported(bundle) if (_precision(e), e.info["format"]) == (REFERENCE, format_)]
    for candidate in sorted(candidates, key=lambda path: (path != same_name, path)):
        exact = open_listed(bundle, candidate)
        if _contract(exact) == contract:
            return small, exact
    option = "" if contract == "pixels" else f" --contract {contract}"
    raise BundleError(
        f"there is no fp32 {format_} file with the input '{contract}' to compare its layers with",
        where=str(bundle.root / name),
        todo=f"Make it with: skinedge export {bundle.root} --format {format_} --precision {REFERENCE}{option}",
    )


def _reader(model: LoadedModel) -> TensorReader:
    """Open the reader of the file's inner tensors."""
    if model.path.suffix not in READERS:
        raise ConfigError(f"cannot read the layers of '{model.name}'", todo=f"Supported: {', '.join(READERS)}.")
    layout = Layout.of(model.session.inputs, model.session.metadata, str(model.path))
    open_reader: Callable[[Path, Layout], TensorReader] = importlib.import_module(
        READERS[model.path.suffix]
    ).open_reader
    return open_reader(model.path, layout)


def _contract(model: LoadedModel) -> str:
    return ModelDescription.from_json(model.session.metadata[KEY], str(model.path)).input


def _precision(entry: FileEntry) -> str:
    return str(entry.info.get("precision"))
