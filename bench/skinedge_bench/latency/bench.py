"""`skinedge bench`: latency, memory, size and accuracy of model files, side by side in one run."""

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
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.row import Row
from skinedge_bench.latency.targets import STANDARD, BenchRequest, Target, file_targets, note_left_out, run_targets
from skinedge_bench.loaded_model import open_file
from skinedge_bench.split_images import locate, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY

REPORT = "reports/latency.json"
FREE_SIDE = 224  # pixels, for a file that takes images of any size


def bench(bundle: Bundle, request: BenchRequest = STANDARD, data: Path | None = None) -> LatencyReport:
    """Benchmark every model file of a run, and others beside them; the report is kept in the run.

    data: where the images are now (for the accuracy), if not at the manifest's data_root.
    Raises: ConfigError for an unknown protocol or runtime, or more threads than cores; BundleError when there is
    nothing to measure or a file is missing or was changed; DataError when `data` does not hold the test images.
    """
    protocol = request.checked()
    if data is not None:
        locate(bundle, test_split(bundle), data)  # a mistyped folder should not cost a benchmark
    for name in (PARITY, "reference.npz"):  # nor should these, which are read when all is timed
        if bundle.has(name):
            bundle.file(name)
    own = run_targets(bundle, request)
    targets = [*own, *file_targets(request.beside, own, request)]
    if not targets:
        raise ConfigError(f"no file runs in {', '.join(request.runtimes)}")
    note_left_out(targets, request)
    vectors = golden.of_run(bundle)
    size = bundle.manifest.preprocess.size
    photos = _photos(bundle, data)
    report, sessions = measure(
        targets, lambda side: _golden_images(vectors, size, side), protocol, request.seed, photos
    )
    known = accuracies(bundle, data, targets, sessions)
    rows = tuple(
        _judged(row, target, sessions.get(target.key), vectors, known.get(target.name))
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
    with bundle.stage("bench", f"skinedge {__version__}", {t.name: t.sha256 for t in targets}) as stage:
        stage.path(REPORT).write_text(report.to_text(), encoding="utf-8")
    return report


def bench_files(paths: Sequence[Path], request: BenchRequest = STANDARD) -> LatencyReport:
    """Benchmark model files of anybody's, on random pixels, in every runtime that takes them.

    Raises: as `bench`; ConfigError when one is no image classifier.
    """
    protocol = request.checked()
    targets = file_targets(paths, [], request)
    note_left_out(targets, request)
    report, _ = measure(targets, _random_images, protocol, request.seed, synthetic_photos())
    rows = tuple(replace(row, accuracy_note="files alone: no images to judge them by") for row in report.rows)
    if len(paths) > 1:
        return replace(report, rows=rows)
    return replace(report, rows=rows, model_id=open_file(paths[0]).model_id, model_sha256=targets[0].sha256)


def check_place(path: Path) -> None:
    """Before a benchmark whose report is to be kept at `path`. Raises: BundleError where no file can be made there."""
    if path.is_dir():
        raise BundleError("is a folder", where=str(path), todo="Name a file with --out.")
    check_writable(path.parent)


def save_report(report: LatencyReport, path: Path) -> None:
    """Write the report with its raw samples to a file of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, report.to_text())


def _photos(bundle: Bundle, data: Path | None) -> Photos:
    """What is timed end to end: test images where they are here, else drawn ones."""
    samples = test_split(bundle)
    try:
        root = locate(bundle, samples, data)
        found = photos_of_run(root, samples) if root else None
    except DataError as error:
        note(f"end to end: drawn images are timed: {error.what}")
        found = None
    return replace(found or synthetic_photos(), malignant=bundle.manifest.malignant)


def _golden_images(vectors: golden.Golden, size: int, side: int) -> Pixels:
    """The golden images, prepared once more where a file takes them at another size than the run."""
    if side in (size, FREE):
        return vectors.pixels
    return np.stack([prepare(source, side) for source in vectors.sources.values()])


def _random_images(side: int) -> Pixels:
    side = FREE_SIDE if side == FREE else side
    return np.random.default_rng(0).integers(0, 256, (16, side, side, 3)).astype(np.uint8)


def _judged(
    row: Row, target: Target, session: Session | None, vectors: golden.Golden, accuracy: Accuracy | None
) -> Row:
    """The row with the file's accuracy, and with what the golden vectors say of a file of the run, here."""
    value, where = accuracy or (None, "not measured: the runtime is not installed")
    row = replace(row, balanced_accuracy=value, accuracy_note=where)
    if session is None or not target.in_run:
        return row
    verdict, failed = golden_verdict(vectors, session, target.precision)
    reasons = (*row.reasons, *(f"the golden vectors fail: {name}" for name in failed))
    return replace(row, golden=verdict, reasons=reasons, trustworthy=not reasons)
