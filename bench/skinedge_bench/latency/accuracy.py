"""Accuracy of the timed files: balanced accuracy on the run's test split, and golden vectors on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from skinedge.core.errors import DataError
from skinedge.run import golden
from skinedge.run.class_order import read_reference
from skinedge.run.manifest import MODEL
from skinedge.run.plugins import Session
from skinedge.run.report_schemas import FileVerdict, read_parity
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.stats.gates import golden_gates, worst
from skinedge.stats.verdicts import Verdict
from skinedge.system.progress import note
from skinedge_bench.latency.row import ParityVerdict
from skinedge_bench.latency.targets import Target
from skinedge_bench.runtimes.input_layout import input_side
from skinedge_bench.split_images import Located, locate, place_of, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY
from skinedge_bench.verify.verify import EXACT, run_all

Accuracy = tuple[float | None, str]  # balanced accuracy or None, and its source or the reason for None


def accuracies(
    bundle: Bundle, data: Path | None, targets: Sequence[Target], sessions: Mapping[str, Session]
) -> dict[str, Accuracy]:
    """Return file -> (balanced accuracy on the run's test split, or None; its source, or the reason for None).

    Taken from the parity report if its sha256 matches, else measured in the file's first runtime. A third-party file is
    evaluated if it names the run's classes, in any order.
    """
    results = _reported(bundle, targets)
    first = {t.name: t for t in reversed(targets) if t.key in sessions and t.name not in results}
    results |= {name: (None, reason) for name, target in first.items() if (reason := _incomparable(target, bundle))}
    pending = [target for name, target in first.items() if name not in results]
    if not pending:
        return results
    samples = test_split(bundle)
    try:
        located = locate(bundle, samples, data)
        if located is None:
            note(f"accuracy: the test images are not {place_of(bundle.manifest)}")
            reason = "test images not found (--data DIR); golden vectors were replayed instead"
            return {**results, **dict.fromkeys((target.name for target in pending), (None, reason))}
        note(f"accuracy: {len(pending)} files on {len(samples)} test images")
        return {**results, **_measured(bundle, pending, sessions, located)}
    except DataError as error:
        return {**results, **dict.fromkeys((target.name for target in pending), (None, error.what))}


def parity_verdicts(bundle: Bundle, targets: Sequence[Target], features: Sequence[str]) -> dict[str, ParityVerdict]:
    """Return file -> verdict of the run's parity report, for files of unchanged sha256 that it checked on test images.

    Without those of which a gate was not measured. features: this machine's instruction set.
    """
    verdicts: dict[str, ParityVerdict] = {MODEL: "reference"}
    for name, (verdict, instruction_set) in _in_parity_report(bundle, targets).items():
        here = instruction_set == tuple(features)
        match verdict.worst:
            case "fail":
                verdicts[name] = "fail"
            case "inconclusive" if not verdict.passed:
                verdicts[name] = "inconclusive_strict"
            case "inconclusive":
                verdicts[name] = "inconclusive" if here else "inconclusive_elsewhere"
            case "pass":
                verdicts[name] = "pass" if here else "pass_elsewhere"
    return verdicts


def golden_verdict(vectors: golden.Golden, session: Session, precision: str) -> tuple[Verdict, list[str]]:
    """Return the worst verdict of the golden gates, and the names of those that failed."""
    gates = golden_gates(vectors.logits, session.run(vectors.pixels), exact=precision in EXACT)
    return worst(gates), [gate.name for gate in gates if gate.verdict == "fail"]


def _in_parity_report(
    bundle: Bundle, targets: Sequence[Target]
) -> dict[str, tuple[FileVerdict, tuple[str, ...] | None]]:
    """Return file -> (its verdict in the run's parity report, where test images judged these very bytes; the
    instruction set that it holds for, None where unknown).
    """
    if not bundle.has(PARITY):
        return {}
    report = read_parity(bundle.file(PARITY))
    results = {}
    for target in targets:
        verdict = report.files.get(target.name) if target.in_run else None
        if verdict is not None and verdict.sha256 == target.sha256 and verdict.metrics is not None:
            results[target.name] = verdict, (verdict.kept_from or report).instruction_set
    return results


def _reported(bundle: Bundle, targets: Sequence[Target]) -> dict[str, Accuracy]:
    """Return the accuracies that reference.npz and the parity report hold for these files."""
    known: dict[str, Accuracy] = {
        name: (verdict.metrics.balanced_accuracy, PARITY)
        for name, (verdict, _) in _in_parity_report(bundle, targets).items()
        if verdict.metrics is not None
    }
    if bundle.has("reference.npz"):
        reference = read_reference(bundle)
        predicted = reference.logits.argmax(axis=1)
        known[MODEL] = (metrics.balanced_accuracy(reference.labels, predicted), "reference.npz")
    return known


def _incomparable(target: Target, bundle: Bundle) -> str | None:
    """Return the reason why a file's classes do not match the run's labels; None if they do."""
    if target.labels is None:
        return f"{target.name} does not name its classes"
    if target.output_format is not None and not target.output_format.exclusive:
        return f"the classes of {target.name} do not exclude each other (multi-label)"
    if sorted(target.labels) != sorted(bundle.manifest.labels):
        return f"{target.name} has other classes than the run: {', '.join(target.labels)}"
    return None


def _measured(
    bundle: Bundle, targets: Sequence[Target], sessions: Mapping[str, Session], images: Located
) -> dict[str, Accuracy]:
    """Measure the targets' balanced accuracy; decode each image once per input size."""
    labels, rule = bundle.manifest.labels, bundle.manifest.preprocess
    truth = np.array([labels.index(sample.label) for sample in images.samples], dtype=np.int64)
    by_size: dict[int, list[Target]] = {}
    for target in targets:
        by_size.setdefault(input_side(sessions[target.key], rule.size), []).append(target)
    results: dict[str, Accuracy] = {}
    for size, group in by_size.items():
        files = {target.name: sessions[target.key] for target in group}
        outputs = run_all(files, images, replace(rule, size=size))
        for target in group:
            indices = np.array([labels.index(label) for label in target.labels or labels])
            predicted = indices[outputs[target.name].probabilities.argmax(axis=1)]
            results[target.name] = (metrics.balanced_accuracy(truth, predicted), "measured")
    return results
