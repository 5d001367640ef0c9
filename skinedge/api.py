"""The public Python API, `skinedge.load`, `skinedge.train` and so on; the command line is a thin shell over it.

`run` is a run directory (a path or an open `Bundle`); None is the newest one under runs/, else the model that ships
with skinedge, as on the command line. Functions raise SkinedgeError, print progress on standard error only, and import
torch only where they need it. They may be called in any thread. While `export` runs a converter, it captures all output
of the process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from skinedge.data.read_options import ReadOptions
    from skinedge.publish.package import Evaluation as PackagedEvaluation
    from skinedge.run.run_directory import Bundle
    from skinedge.stats.calibration import Reading
    from skinedge.training.job import TrainRequest
    from skinedge_bench.classifier import Classifier
    from skinedge_bench.evaluate.evaluate import Evaluation
    from skinedge_bench.evaluate.request import EvaluationRequest
    from skinedge_bench.latency.report import LatencyReport
    from skinedge_bench.latency.targets import BenchRequest
    from skinedge_bench.verify.layers.report import LayersReport
    from skinedge_bench.verify.report import ParityReport
    from skinedge_export.target import ExportTarget

StrPath: TypeAlias = str | os.PathLike[str]
Run: TypeAlias = "StrPath | Bundle"


def load(path: Run | None = None, file: str | None = None, output: str | None = None) -> Classifier:
    """Open a classifier for predicting and explaining images; never imports torch for an exported file.

    Args:
        path: a run directory or a model file; None: the model that ships with skinedge.
        file: name of the run's model file; None: its default file.
        output: name of the output with the scores, of another tool's file that has several; None: chosen by its shape.
    Raises: BundleError for a missing, damaged or changed run or file; ConfigError for a file that is no classifier.
    """
    from skinedge.publish import bundled_model
    from skinedge_bench.classifier import open_classifier

    return open_classifier(bundled_model.require() if path is None else _run_or_file(path), file, output)


def train(request: TrainRequest) -> Bundle:
    """Train LoRA adapters and create the run directory `request.out`.

    Raises: SkinedgeError for every problem that the user can fix; KeyboardInterrupt, after writing a checkpoint.
    """
    from skinedge.training.train import train as train_run

    return train_run(request)


def merge(run: Run | None = None, data: StrPath | None = None, reading: Reading | None = None) -> Bundle:
    """Merge a run's adapters into the base weights and calibrate the result; does nothing if that is done.

    Args:
        data: folder of the images, if they moved since training.
        reading: class prior and sensitivity to calibrate for; None: unchanged.
    Raises: BundleError, DataError; GateError if merging changes the logits.
    """
    from skinedge.training.merge import merge as merge_run

    return merge_run(_run(run, writes=True), _path(data), reading)


def export(
    run: Run | None = None,
    targets: Sequence[ExportTarget] | None = None,
    data: StrPath | None = None,
    *,
    reading: Reading | None = None,
    force: bool = False,
) -> Bundle:
    """Write model files, each checked against PyTorch before it replaces a file; merges first if that is not done.

    Args:
        targets: what to write, from `export_targets`; None: fp32 and int8 in all installed formats.
        data: folder of the images, if they moved since training.
        reading: class prior and sensitivity to calibrate for; None: unchanged.
        force: write files again that are up to date.
    Raises: GateError if a file fails a gate (earlier files stay); ConfigError, DataError, BundleError.
    """
    from skinedge_export.export import export as write_files
    from skinedge_export.target import export_targets, formats

    wanted = export_targets(formats(), int8=True) if targets is None else targets
    return write_files(_run(run, writes=True), wanted, data=_path(data), force=force, reading=reading)


def verify(
    run: Run | None = None,
    data: StrPath | None = None,
    *,
    strict: bool = False,
    key: str | None = None,
    reading: ReadOptions | None = None,
    output: str | None = None,
) -> ParityReport:
    """Check every model file of a run, or one model file, against the merged PyTorch model; the run keeps the report.

    Args:
        data: folder of the images, if they moved since training.
        strict: inconclusive gates fail too.
        key: minisign public key (or its file) of a package: checks its signature first, and writes no report.
        reading: how to read the labels of the folder; None: as recorded in the run.
        output: as in `load`.
    Returns: the report; `passed` is False if a gate failed, and `require_passed` raises then.
    Raises: BundleError, also for a wrong signature; DataError, ConfigError.
    """
    from skinedge.data.read_options import DEFAULT
    from skinedge_bench.loaded_model import refuse_output
    from skinedge_bench.verify.verify import verify as verify_run
    from skinedge_bench.verify.verify import verify_file

    reading = reading or DEFAULT
    if key is not None:
        _check_signature(run, key)
    source = _run_or_file(run, writes=key is None)
    if isinstance(source, Path):
        return verify_file(source, _path(data), strict=strict, reading=reading, output=output)
    refuse_output(output, source.root)
    return verify_run(source, _path(data), strict=strict, keep=key is None, reading=reading)


def layers(run: Run | None = None, data: StrPath | None = None, images: int | None = None) -> LayersReport:
    """Compare each layer of a run's smaller files, or of one of them, with fp32; a run keeps the report.

    images: maximum number of validation images. Raises: BundleError, DataError, ConfigError, MissingDependencyError.
    """
    from skinedge_bench.verify.layers.compare import IMAGES, compare_file, compare_run

    source, count = _run_or_file(run, writes=True), IMAGES if images is None else images
    if isinstance(source, Path):
        return compare_file(source, _path(data), count)
    return compare_run(source, _path(data), count)


def bench(run: Run | None = None, request: BenchRequest | None = None, data: StrPath | None = None) -> LatencyReport:
    """Measure latency, memory and size of every model file of a run, or of one file; a run keeps the report.

    The model that ships with skinedge stays as it is, and nothing is written.

    Args:
        request: protocol, threads and runtimes; None: the standard protocol with one thread.
        data: folder of the images for a run's accuracy, if they moved since training.
    Raises: ConfigError, BundleError, DataError.
    """
    from skinedge.core.errors import ConfigError
    from skinedge.core.files import check_writable
    from skinedge_bench.latency.bench import bench as bench_run
    from skinedge_bench.latency.bench import bench_files
    from skinedge_bench.latency.targets import STANDARD

    source, request = _run_or_file(run, writes=run is not None), request or STANDARD
    if not isinstance(source, Path) and not source.read_only:
        check_writable(source.root)
    if not isinstance(source, Path):
        return bench_run(source, request, _path(data))
    if data is not None:
        raise ConfigError("--data requires a run: accuracy is not measured on a single file", where=str(source))
    return bench_files([source, *request.beside], request)


def evaluate(model: Classifier | Run | None = None, request: EvaluationRequest | None = None) -> Evaluation:
    """Measure accuracy, AUC and sensitivity of a model file on labelled images.

    Args:
        model: a classifier, a run directory or a model file; None: as for `load`.
        request: images, split and output folder; None: the test split of the run's own images, nothing is written.
    Raises: DataError for unusable images or images that the model was trained on; ConfigError, BundleError.
    """
    from skinedge_bench.classifier import Classifier
    from skinedge_bench.evaluate.request import EvaluationRequest, evaluate_and_write

    classifier = model if isinstance(model, Classifier) else load(model)
    return evaluate_and_write(classifier.model, request or EvaluationRequest())


@dataclass(frozen=True)
class PipelineResult:
    """The run that `pipeline` made, with its parity and latency reports."""

    run: Bundle
    parity: ParityReport
    latency: LatencyReport


def pipeline(request: TrainRequest) -> PipelineResult:
    """Train, merge, export in all formats in fp32 and int8, verify, and benchmark with the quick protocol.

    Stages skip current files, so with `request.resume` only the missing work is done.
    Returns: the reports, also if a gate of `verify` failed.
    Raises: as the stages.
    """
    from skinedge.system.requirements import EXPORT, require
    from skinedge.training.request_check import check_request
    from skinedge_bench.latency.targets import BenchRequest

    check_request(request)
    require(EXPORT, "export")  # before the minutes of training
    run = export(merge(train(request), request.data), data=request.data)
    parity = verify(run, request.data)
    latency = bench(run, BenchRequest(protocol="quick"), request.data)
    return PipelineResult(run.reload(), parity, latency)


def ship(
    run: Run, to: StrPath, evaluation: StrPath | None = None, *, force: bool = False, sign: Path | None = None
) -> Bundle:
    """Package a finished run for distribution in the new folder `to`.

    Args:
        evaluation: folder that `evaluate` wrote for the run's test split, for the model card.
        force: replace a package at `to`.
        sign: minisign secret key to sign the manifest with.
    Raises: BundleError for a run without int8 files that passed `verify`, or another document than an evaluation.
    """
    from skinedge.publish.package import ship as write_package

    bundle, measured = _run(run), None if evaluation is None else read_evaluation(Path(evaluation))
    return write_package(bundle, Path(to), measured, force=force, key=sign)


def read_evaluation(folder: Path) -> PackagedEvaluation:
    """Read the output folder of an evaluation. Raises: BundleError for anything else."""
    from skinedge.publish.package import Evaluation
    from skinedge.run.report_schemas import NOT_AN_EVALUATION
    from skinedge.run.report_schemas import read_evaluation as read
    from skinedge_bench.evaluate.tables import markdown

    path = folder / "evaluation.json"
    document = read(path)
    about = f"`{document['file']}`, judged by `skinedge evaluate` on the run's own test split."
    try:
        return Evaluation(document, markdown(document, about, []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NOT_AN_EVALUATION(error, where=str(path)) from None


def _path(path: StrPath | None) -> Path | None:
    return None if path is None else Path(path)


def _run(run: Run | None, *, writes: bool = False) -> Bundle:
    """Open a run, or read the manifest of an open one again. Raises: BundleError, also if it cannot be written to."""
    from skinedge.core.files import check_writable
    from skinedge.publish.bundled_model import open_run
    from skinedge.run.run_directory import Bundle

    if not isinstance(run, Bundle):
        return open_run(_path(run), writes=writes)
    if writes:
        check_writable(run.root)
    return run.reload()


def _run_or_file(run: Run | None, *, writes: bool = False) -> Bundle | Path:
    """Return the path of a model file, or open a run."""
    from skinedge.run.run_directory import Bundle

    path = None if run is None or isinstance(run, Bundle) else Path(run)
    return path if path is not None and path.is_file() else _run(run, writes=writes)


def _check_signature(run: Run | None, key: str) -> None:
    """Check a package's signature and the hashes of its files. Raises: BundleError if any is wrong."""
    from skinedge.core.errors import ConfigError
    from skinedge.run.run_directory import Bundle
    from skinedge.run.signing import check_signature
    from skinedge.system.progress import note

    root = Path(run) if run is not None and not isinstance(run, Bundle) else _run(run).root
    if root.is_file():
        raise ConfigError("--key checks a package: name its folder, not a file", where=str(root))
    note(f"signature and files verified: {check_signature(root, key)}")
