"""`skinedge bench`: latency, memory, size and accuracy of model files, measured side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import BundleError, ConfigError, DataError
from skinedge.core.files import check_writable, write_atomic
from skinedge.core.preprocess import Pixels, prepare
from skinedge.run import golden
from skinedge.run.plugins import Session
from skinedge.run.run_directory import Bundle
from skinedge.system.progress import note
from skinedge_bench.latency.accuracy import Accuracy, accuracies, golden_verdict, parity_verdicts
from skinedge_bench.latency.end_to_end import Photos, photos_of_run, synthetic_photos
from skinedge_bench.latency.measure import FREE, measure
from skinedge_bench.latency.protocol import Protocol
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row
from skinedge_bench.latency.targets import STANDARD, BenchRequest, Target, file_targets, note_left_out, run_targets
from skinedge_bench.loaded_model import open_file
from skinedge_bench.split_images import locate, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY

REPORT = "reports/latency.json"
TYPICAL_MS, OVERHEAD_SECONDS = 20, 3  # of an inference, and of loading a file; for the estimate of the duration
FREE_SIDE = 224  # pixels, for a file that accepts images of any size


def bench(bundle: Bundle, request: BenchRequest = STANDARD, data: Path | None = None) -> LatencyReport:
    """Benchmark every model file of a run, and the request's other files; write the report into the run.

    A read-only run, such as the model that ships with skinedge, does not keep the report.
    data: folder of the images (for the accuracy), if they have moved from the manifest's data_root.
    Raises: ConfigError for an unknown protocol or runtime, or more threads than cores; BundleError if there is nothing
    to measure, or a file is missing or changed; DataError if `data` lacks the test images.
    """
    protocol = request.checked()
    if data is not None:
        locate(bundle, test_split(bundle), data)  # fail before the benchmark
    for name in (PARITY, "reference.npz"):  # read after the benchmark
        if bundle.has(name):
            bundle.file(name)
    own = run_targets(bundle, request)
    targets = [*own, *file_targets(request.beside, own, request)]
    if not targets:
        raise ConfigError(f"no file runs in {', '.join(request.runtimes)}")
    note_left_out(targets, request)
    note(plan(protocol, len(targets)))
    vectors = golden.of_run(bundle)
    size = bundle.manifest.preprocess.size
    photos = _photos(bundle, data)
    report, sessions = measure(
        targets, lambda side: _golden_images(vectors, size, side), protocol, request.seed, photos
    )
    known_accuracies = accuracies(bundle, data, targets, sessions)
    rows = tuple(
        _with_accuracy(row, target, sessions.get(target.key), vectors, known_accuracies.get(target.name))
        for row, target in zip(report.rows, targets, strict=True)
    )
    verdicts = parity_verdicts(bundle, own, report.device.features)
    rows = tuple(replace(row, parity=verdicts.get(row.file) if row.in_run else None) for row in rows)
    report = replace(
        report,
        rows=rows,
        model_id=bundle.manifest.id,
        model_sha256=bundle.model_sha256,
        test_images=json_io.digest([(sample.sha256, sample.label) for sample in test_split(bundle)]),
    )
    if bundle.read_only:
        note("the report is not kept: this model is part of the package; --out FILE.json keeps it")
        return report
    with bundle.stage("bench", f"skinedge {__version__}", {t.name: t.sha256 for t in targets}) as stage:
        stage.path(REPORT).write_text(report.to_text(), encoding="utf-8")
    return report


def plan(protocol: Protocol, targets: int) -> str:
    """Say what will be measured and for about how long. targets: number of pairs of file and runtime."""
    inferences = protocol.blocks * protocol.block
    seconds = targets * (max(protocol.min_seconds, inferences * TYPICAL_MS / 1000) + OVERHEAD_SECONDS)
    return (
        f"benchmark: {targets} pair(s) of file and runtime, {inferences} inferences each ({protocol.name}); "
        f"about {max(1, round(seconds / 60))} min at {TYPICAL_MS} ms per inference"
    )


def bench_files(paths: Sequence[Path], request: BenchRequest = STANDARD) -> LatencyReport:
    """Benchmark third-party model files on random pixels, in every runtime that accepts them.

    Raises: as `bench`; ConfigError for a file that is not an image classifier.
    """
    protocol = request.checked()
    targets = file_targets(paths, [], request)
    note_left_out(targets, request)
    report, _ = measure(targets, _random_images, protocol, request.seed, synthetic_photos())
    rows = tuple(replace(row, accuracy_note="single files: no test images") for row in report.rows)
    if len(paths) > 1:
        return replace(report, rows=rows)
    own = open_file(paths[0], output=request.output)
    return replace(report, rows=rows, model_id=own.model_id, model_sha256=targets[0].sha256)


def check_place(path: Path) -> None:
    """Check before a benchmark that its report can be written to `path`. Raises: BundleError if not."""
    if path.is_dir():
        raise BundleError("is a folder", where=str(path), todo="Name a file with --out.")
    check_writable(path.parent)


def save_report(report: LatencyReport, path: Path) -> None:
    """Write the report with its raw samples to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, report.to_text())


def _photos(bundle: Bundle, data: Path | None) -> Photos:
    """Return the images to time end to end: test images if available, else synthetic ones."""
    try:
        located = locate(bundle, test_split(bundle), data)
        photos = photos_of_run(located) if located else None
    except DataError as error:
        note(f"end to end: using synthetic images: {error.what}")
        photos = None
    manifest = bundle.manifest
    return replace(photos or synthetic_photos(), malignant=manifest.malignant, colour=manifest.preprocess.colour)


def _golden_images(vectors: golden.Golden, size: int, side: int) -> Pixels:
    """Return the golden images, prepared again if a file needs another size than the run's."""
    if side in (size, FREE):
        return vectors.pixels
    return np.stack([prepare(source, side) for source in vectors.sources.values()])


def _random_images(side: int) -> Pixels:
    side = FREE_SIDE if side == FREE else side
    return np.random.default_rng(0).integers(0, 256, (16, side, side, 3)).astype(np.uint8)


def _with_accuracy(
    row: Row, target: Target, session: Session | None, vectors: golden.Golden, accuracy: Accuracy | None
) -> Row:
    """Return the row with the file's accuracy and, for a file of the run, its golden verdict on this machine."""
    value, source = accuracy or (None, "not measured: the runtime is not installed")
    row = replace(row, balanced_accuracy=value, accuracy_note=source)
    if session is None or not target.in_run:
        return row
    verdict, failed = golden_verdict(vectors, session, target.precision)
    reasons = (*row.reasons, *(f"golden vectors failed: {name}" for name in failed))
    return replace(row, golden=verdict, reasons=reasons, trustworthy=not reasons)
