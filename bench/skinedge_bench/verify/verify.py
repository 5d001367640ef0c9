"""`skinedge verify`: compare every exported file with the merged network in PyTorch, gate by gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import ConfigError
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import Preprocess, prepare
from skinedge.data.loading import iterate_prepared
from skinedge.data.read_options import DEFAULT, ReadOptions
from skinedge.run import golden
from skinedge.run.class_order import Reference, check_folder, check_reports, read_reference, taxonomy_warnings
from skinedge.run.embedded_metadata import KEY, ModelDescription
from skinedge.run.file_card import card_name, disagreement, read_card
from skinedge.run.file_trial import open_tried
from skinedge.run.manifest import FileEntry, Manifest
from skinedge.run.parallel_sessions import joined, run_each
from skinedge.run.plugins import Session, judge_for
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.stats.differences import largest_difference
from skinedge.stats.gates import (
    MAX_SUM_ERROR,
    Gate,
    finite_gate,
    fp32_gates,
    golden_gates,
    golden_outputs_gate,
    lossy_gates,
    unmeasured_gates,
)
from skinedge.system.cpu_features import cpu_features, instruction_set
from skinedge.system.progress import bar, note
from skinedge_bench.device import saturation
from skinedge_bench.evaluate.document import Predictions, flagged_document, malignant_document
from skinedge_bench.loaded_model import contradiction, exported, open_file, refuse_output, run_of
from skinedge_bench.split_images import Located, locate, place_of, test_split
from skinedge_bench.verify.comparison import Pair, Side, changes, compare
from skinedge_bench.verify.previous_report import REPORT, previously_measured, with_previous
from skinedge_bench.verify.report import Figures, FileParity, ParityReport

EXACT = ("fp32",)  # precisions that compute like the reference; any other is compared statistically
THREADS = 1


def verify(
    bundle: Bundle,
    data: Path | None = None,
    *,
    strict: bool = False,
    keep: bool = True,
    reading: ReadOptions = DEFAULT,
) -> ParityReport:
    """Verify every model file of a run and write the report to it. The caller turns `passed` into an exit code.

    data: folder of the images, if not the manifest's data_root. Without a named folder and without images, only the
    golden vectors are replayed, and results of the previous report for the same files and images are kept.
    keep: False writes nothing, so that a signed manifest stays unchanged.
    reading: how to read the labels of the folder, by default as recorded in the run.
    Raises: BundleError without files to verify, or if a file changed; DataError if `data` does not hold the test
    images, or some of them are missing or changed.
    """
    entries = exported(bundle)
    report = check(bundle, entries, data, strict, reading)
    if not keep:
        return report
    thresholds = json_io.digest(bundle.manifest.thresholds)
    inputs = (*entries, bundle.entries()["reference.npz"])
    made_from = {"thresholds": thresholds, **{entry.path: entry.sha256 for entry in inputs}}
    previous = {} if any(file.figures for file in report.files) else previously_measured(bundle, made_from)
    if report.unmeasured and len(previous) == len(entries) and bundle.is_current("verify", made_from):
        note(f"{REPORT} is kept: it verified the same files on the test images")
        return report
    body = with_previous(report, previous)
    if previous:
        note(f"kept in {REPORT}, from the previous verification on the test images: {', '.join(previous)}")
    with bundle.stage("verify", f"skinedge {__version__}", made_from) as stage:
        document = json_io.document("verify", body, model_id=report.model_id, model_sha256=report.model_sha256)
        stage.path(REPORT).write_text(json_io.to_text(document), encoding="utf-8")
    return report


def verify_file(
    path: Path,
    data: Path | None = None,
    *,
    strict: bool = False,
    reading: ReadOptions = DEFAULT,
    output: str | None = None,
) -> ParityReport:
    """Verify one model file; no report is written. A file that a run lists is verified as `verify` does.

    For a file without a run, only loading it, its card and its probabilities for four images can be checked.
    output: as in `open_file`.
    Raises: as `verify`; ConfigError if a file without a run is given images, or is not an image classifier.
    """
    bundle = run_of(path)
    if bundle is not None:
        refuse_output(output, path)
        entry = bundle.entries()[path.name]
        return replace(check(bundle, [entry], data, strict, reading), model_sha256=entry.sha256)
    if data is not None or reading.given:
        raise ConfigError(
            "a file without its run: there is no reference to compare it with on images (--data)",
            where=str(path),
            todo=f"To evaluate it on labelled images: skinedge evaluate {path} --data {data or 'DIR'}",
        )
    model = open_file(path, output=output)
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    pixels = np.random.default_rng(0).integers(0, 256, (4, model.size, model.size, 3)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    tolerance = MAX_SUM_ERROR if KEY in model.session.metadata else model.max_sum_error
    reason = "nothing to compare with: a file without its run"
    card = path.with_name(card_name(path.name)).is_file()  # `open_file` has checked it
    gates = (
        finite_gate(model.run(pixels), max_sum_error=tolerance),
        *([Gate("card", 0, 0, "pass", "sha256, classes and run of the card beside it")] if card else []),
        *unmeasured_gates(
            reason, exact=model.precision in EXACT, malignant=model.malignant or (), melanoma=model.melanoma
        ),
    )
    file = FileParity(path.name, model.sha256, gates, runtime=model.runtime)
    report = ParityReport((file,), None, reason, strict, model.model_id, model.sha256)
    return on_this_cpu(report, {path.name: model.precision})


def check(
    bundle: Bundle, entries: Sequence[FileEntry], data: Path | None, strict: bool, reading: ReadOptions = DEFAULT
) -> ParityReport:
    """Verify the files without writing anything."""
    manifest = bundle.manifest
    vectors = golden.of_run(bundle)
    reference = read_reference(bundle)
    check_reports(bundle, reference)
    sessions = {entry.path: open_session(bundle, entry.path) for entry in entries}
    samples = test_split(bundle)
    located = locate(bundle, samples, data)
    outputs: dict[str, Outputs] = {}
    if located is not None:
        if unread := check_folder(located.samples, located.root, bundle.reading(reading, located.root)):
            note(unread)
        images = f"{len(samples)} test images under {located.root}"
        outputs = run_all(sessions, located, manifest.preprocess)
    else:
        images = (
            f"none of the {len(samples)} test images is {place_of(manifest)}: only the golden vectors were replayed"
        )
        note(images)
    files = [FileParity("golden.npz", bundle.entries()["golden.npz"].sha256, (resize_gate(vectors, manifest),))]
    for entry in entries:
        gates = (
            model_gate(bundle, entry),
            *card_gates(bundle, entry, sessions[entry.path]),
            *file_gates(bundle, entry, sessions[entry.path], vectors),
        )
        gates = (*gates, *test_gates(entry, manifest, reference, outputs))
        parity = FileParity(entry.path, entry.sha256, gates, runtime=judge_for(Path(entry.path)).name)
        output = outputs.get(entry.path)
        files.append(parity if output is None else with_figures(parity, entry, manifest, reference, output))
    own = figures_of(manifest, reference, Outputs(metrics.softmax(reference.logits), reference.logits), "default")
    report = ParityReport(tuple(files), own, images, strict, manifest.id, bundle.model_sha256)
    report = on_this_cpu(report, {entry.path: str(entry.info.get("precision")) for entry in entries})
    return replace(report, warnings=(*report.warnings, *taxonomy_warnings(manifest)))


def on_this_cpu(report: ParityReport, precisions: Mapping[str, str]) -> ParityReport:
    """Add this CPU's instruction set, and a warning if it affects some of the files (name -> precision)."""
    features = cpu_features()
    warning = saturation(precisions, features)
    return replace(report, instruction_set=instruction_set(features), warnings=(warning,) if warning else ())


def file_gates(bundle: Bundle, entry: FileEntry, session: Session, vectors: golden.Golden) -> tuple[Gate, ...]:
    """Gates that need no image of the test split."""
    outputs = session.run(vectors.pixels)
    gates = (
        description_gate(session, bundle.manifest),
        *golden_gates(vectors.logits, outputs, exact=is_exact(entry)),
    )
    recorded = golden.outputs_of(bundle, entry.path, len(vectors.pixels))
    if recorded is None:  # exported before they were recorded
        return gates
    here = recorded.environment == golden.environment(judge_for(Path(entry.path)))
    return (*gates, golden_outputs_gate(recorded.probabilities, outputs, same_environment=here))


def is_exact(entry: FileEntry) -> bool:
    """Return True if the file computes like the reference."""
    return entry.info.get("precision") in EXACT


def open_session(bundle: Bundle, name: str) -> Session:
    """Open a file of the run, after checking its hash, in the runtime that verifies files of its type."""
    path = bundle.file(name)
    return open_tried(path, judge_for(path), THREADS, checksum=bundle.entries()[name].sha256)


def run_all(sessions: dict[str, Session], images: Located, rule: Preprocess) -> dict[str, Outputs]:
    """Run every file on the same prepared pixels; each image is decoded once."""
    parts: list[list[Outputs]] = []
    with bar("verifying", len(images.samples)) as advance:
        for pixels in iterate_prepared(images.root, images.samples, rule):
            parts.append(run_each(list(sessions.values()), pixels))
            advance(len(pixels))
    return {name: joined(outputs) for name, outputs in zip(sessions, zip(*parts, strict=True), strict=True)}


def test_gates(
    entry: FileEntry, manifest: Manifest, reference: Reference, outputs: Mapping[str, Outputs]
) -> tuple[Gate, ...]:
    """Gates of the test split. outputs: by file; the gates of a file that is not in it are unmeasured."""
    if entry.path not in outputs:
        reason = "test images not found; give their folder with --data"
        return unmeasured_gates(
            reason, exact=is_exact(entry), malignant=manifest.malignant, melanoma=manifest.melanoma_index
        )
    output = outputs[entry.path]
    if is_exact(entry):
        return fp32_gates(reference.logits, output)
    return lossy_gates(reference.labels, reference.logits, output, manifest.malignant, manifest.melanoma_index)


def description_gate(session: Session, manifest: Manifest) -> Gate:
    """The file's metadata has the labels, in the same order, and the preprocessing of its run."""
    problem = contradiction(session, manifest)
    return Gate("description", int(problem is not None), 0, "fail" if problem else "pass", problem or "")


def model_gate(bundle: Bundle, entry: FileEntry) -> Gate:
    """The file was made from the run's current merged network."""
    fits = bundle.fits_model(entry)
    todo = "" if fits else "made from another merged model; make it again with: skinedge export"
    return Gate("same_model", int(not fits), 0, "pass" if fits else "fail", todo)


def card_gates(bundle: Bundle, entry: FileEntry, session: Session) -> tuple[Gate, ...]:
    """The file's card agrees with run and file; no gate if the run was exported before cards existed."""
    name = card_name(entry.path)
    if not bundle.has(name) or KEY not in session.metadata:
        return ()
    description = ModelDescription.from_json(session.metadata[KEY], entry.path)
    problem = disagreement(read_card(bundle.file(name)), bundle.manifest, entry, description)
    return (Gate("card", int(problem is not None), 0, "fail" if problem else "pass", problem or ""),)


def resize_gate(vectors: golden.Golden, manifest: Manifest) -> Gate:
    """Preparing the golden sources on this machine gives exactly the recorded pixels."""
    size = manifest.preprocess.size
    wrong = sum(
        not np.array_equal(prepare(source, size), vectors.pixels[index]) for index, source in vectors.sources.items()
    )
    if not vectors.sources:
        return Gate("golden_resize", None, 0, "inconclusive", "golden.npz has no source images")
    detail = f"of {len(vectors.sources)} images that resize differently here"
    return Gate("golden_resize", wrong, 0, "fail" if wrong else "pass", detail)


def with_figures(
    parity: FileParity, entry: FileEntry, manifest: Manifest, reference: Reference, outputs: Outputs
) -> FileParity:
    """Add the file's metrics on the test images, and its comparison with the reference."""
    pair = Pair(
        ids=reference.ids,
        labels=manifest.labels,
        truth=reference.labels,
        reference=Side(metrics.softmax(reference.logits), manifest.threshold("default")),
        file=Side(outputs.probabilities, manifest.threshold(entry.path)),
        malignant=manifest.malignant,
        melanoma=manifest.melanoma_index,
    )
    figures = figures_of(manifest, reference, outputs, entry.path)
    comparison = None if is_exact(entry) else compare(pair)
    return replace(parity, figures=figures, comparison=comparison, changed=changes(pair))


def figures_of(manifest: Manifest, reference: Reference, outputs: Outputs, name: str) -> Figures:
    """Compute the metrics of one file on the test split, at its own threshold."""
    labels, probabilities = reference.labels, outputs.probabilities
    expected, predicted = reference.logits.argmax(axis=1), probabilities.argmax(axis=1)
    low, high = metrics.wilson(int((expected == predicted).sum()), len(labels))
    balanced = metrics.balanced_accuracy(labels, predicted)
    recall = metrics.per_class(labels, probabilities).recall
    melanoma = manifest.melanoma_index
    judged = Predictions(manifest.labels, labels, probabilities, manifest.malignant, manifest.threshold(name))
    return Figures(
        n=len(labels),
        max_difference=largest_difference(reference.logits, outputs),
        agreement=metrics.accuracy(expected, predicted),
        agreement_low=low,
        agreement_high=high,
        accuracy=metrics.accuracy(labels, predicted),
        balanced_accuracy=balanced,
        fall=metrics.balanced_accuracy(labels, expected) - balanced,
        macro_auc=metrics.macro_auc(labels, probabilities),
        melanoma_sensitivity=float("nan") if melanoma is None else float(recall[melanoma]),
        sensitivity={label: float(value) for label, value in zip(manifest.labels, recall, strict=True)},
        flagged=flagged_document(judged),
        malignant=malignant_document(judged),
        own_threshold=name in manifest.thresholds,
    )
