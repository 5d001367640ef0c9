"""`skinedge verify`: every exported file against the merged model in PyTorch, gate by gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import ConfigError
from skinedge.core.outputs import Outputs
from skinedge.core.preprocess import prepare
from skinedge.data.dataset import Sample
from skinedge.data.loading import iterate_prepared
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
from skinedge.stats.gates import (
    MAX_SUM_ERROR,
    Gate,
    finite_gate,
    fp32_gates,
    golden_gates,
    largest_difference,
    lossy_gates,
    unmeasured_gates,
)
from skinedge.system.progress import bar, note
from skinedge_bench.device import cpu_features, instruction_set, saturation
from skinedge_bench.evaluate.document import Predictions, malignant_document
from skinedge_bench.loaded_model import contradiction, exported, open_file, run_of
from skinedge_bench.runtimes.session import SUM_TOLERANCE
from skinedge_bench.split_images import locate, place_of, test_split
from skinedge_bench.verify.comparison import Pair, Side, changes, compare
from skinedge_bench.verify.previous_report import REPORT, previously_measured, with_previous
from skinedge_bench.verify.report import Figures, FileParity, ParityReport

EXACT = ("fp32",)  # precisions that compute as the reference does; any other is judged statistically
THREADS = 1


def verify(bundle: Bundle, data: Path | None = None, *, strict: bool = False, keep: bool = True) -> ParityReport:
    """Check every model file of a run and keep the report in it. The caller turns `passed` into an exit code.

    keep: False writes nothing, so that a signed manifest stays as it is.
    data: where the images are now, if not at the manifest's data_root. Where nothing was named and nothing is
    there, only the golden vectors are replayed; what an earlier report said of the same files and images is kept.
    Raises: BundleError when there is nothing to verify or a file was changed; DataError when `data` does not hold
    the test images, or some of them are missing or changed.
    """
    entries = exported(bundle)
    report = check(bundle, entries, data, strict)
    if not keep:
        return report
    flags = json_io.digest(bundle.manifest.thresholds)
    judged = (*entries, bundle.entries()["reference.npz"])
    made_from = {"thresholds": flags, **{entry.path: entry.sha256 for entry in judged}}
    before = {} if any(file.figures for file in report.files) else previously_measured(bundle, made_from)
    if report.unmeasured and len(before) == len(entries) and bundle.is_current("verify", made_from):
        note(f"{REPORT} is kept: it judged the test images, with the same files")
        return report
    body = with_previous(report, before)
    if before:
        note(f"kept in {REPORT}, as judged on the test images before: {', '.join(before)}")
    with bundle.stage("verify", f"skinedge {__version__}", made_from) as stage:
        document = json_io.document("verify", body, model_id=report.model_id, model_sha256=report.model_sha256)
        stage.path(REPORT).write_text(json_io.to_text(document), encoding="utf-8")
    return report


def verify_file(path: Path, data: Path | None = None, *, strict: bool = False) -> ParityReport:
    """One model file. In the run that lists it, it is judged as `verify` does, and no report is written.

    Alone, all that can be told is that it loads, and that four images give probabilities.
    Raises: as `verify`; ConfigError when a file alone is given images, or is no image classifier.
    """
    bundle = run_of(path)
    if bundle is not None:
        entry = bundle.entries()[path.name]
        return replace(check(bundle, [entry], data, strict), model_sha256=entry.sha256)
    if data is not None:
        raise ConfigError(
            "a file alone: there is no reference to compare it with on images (--data)",
            where=str(path),
            todo=f"To judge it by labelled images: skinedge evaluate {path} --data {data}",
        )
    model = open_file(path)
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    pixels = np.random.default_rng(0).integers(0, 256, (4, model.size, model.size, 3)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    tolerance = MAX_SUM_ERROR if KEY in model.session.metadata else SUM_TOLERANCE
    alone = "a file alone: nothing to compare with"
    gates = (
        finite_gate(model.run(pixels), max_sum_error=tolerance),
        *unmeasured_gates(
            alone, exact=model.precision in EXACT, malignant=model.malignant or (), melanoma=model.melanoma
        ),
    )
    file = FileParity(path.name, model.sha256, gates, runtime=model.runtime)
    report = ParityReport((file,), None, alone, strict, model.model_id, model.sha256)
    return on_this_cpu(report, {path.name: model.precision})


def check(bundle: Bundle, entries: Sequence[FileEntry], data: Path | None, strict: bool) -> ParityReport:
    """The report, without writing anything."""
    manifest = bundle.manifest
    vectors = golden.of_run(bundle)
    reference = read_reference(bundle)
    check_reports(bundle, reference)
    sessions = {entry.path: open_session(bundle, entry.path) for entry in entries}
    samples = test_split(bundle)
    root = locate(bundle, samples, data)
    outputs: dict[str, Outputs] = {}
    if root is not None:
        if unread := check_folder(samples, root):
            note(unread)
        images = f"{len(samples)} test images under {root}"
        outputs = run_all(sessions, root, samples, manifest.preprocess.size)
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
            *file_gates(entry, sessions[entry.path], manifest, vectors),
        )
        gates = (*gates, *test_gates(entry, manifest, reference, outputs))
        judged = FileParity(entry.path, entry.sha256, gates, runtime=judge_for(Path(entry.path)).name)
        said = outputs.get(entry.path)
        files.append(judged if said is None else with_figures(judged, entry, manifest, reference, said))
    own = figures_of(manifest, reference, Outputs(metrics.softmax(reference.logits), reference.logits), "default")
    report = ParityReport(tuple(files), own, images, strict, manifest.id, bundle.model_sha256)
    report = on_this_cpu(report, {entry.path: str(entry.info.get("precision")) for entry in entries})
    return replace(report, warnings=(*report.warnings, *taxonomy_warnings(manifest)))


def on_this_cpu(report: ParityReport, precisions: Mapping[str, str]) -> ParityReport:
    """The report with the instruction set that the files (name -> precision) ran on, and what that means for them."""
    features = cpu_features()
    warning = saturation(precisions, features)
    return replace(report, instruction_set=instruction_set(features), warnings=(warning,) if warning else ())


def file_gates(entry: FileEntry, session: Session, manifest: Manifest, vectors: golden.Golden) -> tuple[Gate, ...]:
    """The gates that need no image of the test split."""
    outputs = session.run(vectors.pixels)
    return (
        description_gate(session, manifest),
        *golden_gates(vectors.logits, outputs, exact=is_exact(entry)),
    )


def is_exact(entry: FileEntry) -> bool:
    return entry.info.get("precision") in EXACT


def open_session(bundle: Bundle, name: str) -> Session:
    """A file of the run, its hash checked, in the runtime that judges files of its type."""
    path = bundle.file(name)
    return open_tried(path, judge_for(path), THREADS, checksum=bundle.entries()[name].sha256)


def run_all(sessions: dict[str, Session], root: Path, samples: Sequence[Sample], size: int) -> dict[str, Outputs]:
    """Every file's outputs on the same prepared pixels; each image is decoded once."""
    parts: list[list[Outputs]] = []
    with bar("verifying", len(samples)) as advance:
        for pixels in iterate_prepared(root, samples, size):
            parts.append(run_each(list(sessions.values()), pixels))
            advance(len(pixels))
    return {name: joined(outputs) for name, outputs in zip(sessions, zip(*parts, strict=True), strict=True)}


def test_gates(
    entry: FileEntry, manifest: Manifest, reference: Reference, outputs: Mapping[str, Outputs]
) -> tuple[Gate, ...]:
    """The gates over the test split. outputs: file -> what it said; without the file, they are unmeasured."""
    if entry.path not in outputs:
        reason = "the test images are not here; give their folder with --data"
        return unmeasured_gates(
            reason, exact=is_exact(entry), malignant=manifest.malignant, melanoma=manifest.melanoma_index
        )
    said = outputs[entry.path]
    if is_exact(entry):
        return fp32_gates(reference.logits, said)
    return lossy_gates(reference.labels, reference.logits, said, manifest.malignant, manifest.melanoma_index)


def description_gate(session: Session, manifest: Manifest) -> Gate:
    """The file says the same labels, in the same order, and the same preprocessing as its run."""
    problem = contradiction(session, manifest)
    return Gate("description", int(problem is not None), 0, "fail" if problem else "pass", problem or "")


def model_gate(bundle: Bundle, entry: FileEntry) -> Gate:
    """The file was made from the merged network that the run has now."""
    fits = bundle.fits_model(entry)
    todo = "" if fits else "made from another merged model: skinedge export makes it again"
    return Gate("same_model", int(not fits), 0, "pass" if fits else "fail", todo)


def card_gates(bundle: Bundle, entry: FileEntry, session: Session) -> tuple[Gate, ...]:
    """The card beside the file says what run and file say; none where the run was exported before there were cards."""
    name = card_name(entry.path)
    if not bundle.has(name) or KEY not in session.metadata:
        return ()
    said = ModelDescription.from_json(session.metadata[KEY], entry.path)
    problem = disagreement(read_card(bundle.file(name)), bundle.manifest, entry, said)
    return (Gate("card", int(problem is not None), 0, "fail" if problem else "pass", problem or ""),)


def resize_gate(vectors: golden.Golden, manifest: Manifest) -> Gate:
    """Preparing the golden sources here gives the very pixels that were recorded."""
    size = manifest.preprocess.size
    wrong = sum(
        not np.array_equal(prepare(source, size), vectors.pixels[index]) for index, source in vectors.sources.items()
    )
    return Gate(
        "golden_resize",
        wrong,
        0,
        "fail" if wrong else "pass",
        f"of {len(vectors.sources)} images that resize differently here",
    )


def with_figures(
    judged: FileParity, entry: FileEntry, manifest: Manifest, reference: Reference, outputs: Outputs
) -> FileParity:
    """The same with what the file does on the test images, beside the reference."""
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
    return replace(judged, figures=figures, comparison=comparison, changed=changes(pair))


def figures_of(manifest: Manifest, reference: Reference, outputs: Outputs, name: str) -> Figures:
    """The figures of one file on the test split, at its own threshold."""
    labels, probabilities = reference.labels, outputs.probabilities
    expected, predicted = reference.logits.argmax(axis=1), probabilities.argmax(axis=1)
    low, high = metrics.wilson(int((expected == predicted).sum()), len(labels))
    balanced = metrics.balanced_accuracy(labels, predicted)
    recall = metrics.per_class(labels, probabilities).recall
    melanoma = manifest.melanoma_index
    threshold = manifest.threshold(name)
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
        malignant=malignant_document(
            Predictions(manifest.labels, labels, probabilities, manifest.malignant, threshold)
        ),
        own_threshold=name in manifest.thresholds,
    )
