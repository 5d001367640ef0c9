"""Whether what was timed is still right: each file's accuracy on the run's test split, and the golden vectors here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skinedge.core.errors import DataError
from skinedge.data.dataset import Sample
from skinedge.run import golden
from skinedge.run.class_order import read_reference
from skinedge.run.manifest import MODEL
from skinedge.run.plugins import Session
from skinedge.run.report_schemas import FileVerdict, read_parity
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.stats.gates import golden_gates
from skinedge.system.progress import note
from skinedge_bench.latency.targets import Target
from skinedge_bench.runtimes.session import input_side
from skinedge_bench.split_images import locate, place_of, test_split
from skinedge_bench.verify.previous_report import REPORT as PARITY
from skinedge_bench.verify.verify import EXACT, run_all

Accuracy = tuple[float | None, str]  # balanced accuracy, and where it is from or why it is not there


def accuracies(
    bundle: Bundle, data: Path | None, targets: Sequence[Target], sessions: Mapping[str, Session]
) -> dict[str, Accuracy]:
    """file -> (balanced accuracy on the run's test split, or None; where it is from, or why it is not there).

    Taken from the parity report where it speaks of these very bytes, else measured, in the file's first runtime.
    A file from elsewhere is judged where it names the run's classes, in whatever order.
    """
    known = _known(bundle, targets)
    first = {t.name: t for t in reversed(targets) if t.key in sessions and t.name not in known}
    known |= {name: (None, why) for name, target in first.items() if (why := _incomparable(target, bundle))}
    judged = [target for name, target in first.items() if name not in known]
    if not judged:
        return known
    samples = test_split(bundle)
    try:
        root = locate(bundle, samples, data)
        if root is None:
            note(f"accuracy: the test images are not {place_of(bundle.manifest)}")
            why = "the test images are not here (--data DIR); golden vectors were replayed instead"
            return {**known, **dict.fromkeys((target.name for target in judged), (None, why))}
        note(f"accuracy: {len(judged)} files on {len(samples)} test images")
        return {**known, **_measured(bundle, judged, sessions, root, samples)}
    except DataError as error:
        return {**known, **dict.fromkeys((target.name for target in judged), (None, error.what))}


def parity_verdicts(bundle: Bundle, targets: Sequence[Target], features: Sequence[str]) -> dict[str, str]:
    """file -> 'pass', 'pass_elsewhere' or 'fail', where the run's parity report judged these very bytes on test images;
    'reference' for what it compares with. features: this machine's instruction set.
    """
    found = {MODEL: "reference"}
    for name, (verdict, instruction_set) in _in_parity_report(bundle, targets).items():
        here = instruction_set == tuple(features)
        found[name] = ("pass" if here else "pass_elsewhere") if verdict.passed else "fail"
    return found


def golden_verdict(vectors: golden.Golden, session: Session, precision: str) -> tuple[str, list[str]]:
    """'pass', 'fail' or 'underpowered', and the names of the gates that failed."""
    gates = golden_gates(vectors.logits, session.run(vectors.pixels), exact=precision in EXACT)
    failed = [gate.name for gate in gates if gate.verdict == "fail"]
    undecided = any(gate.verdict == "underpowered" for gate in gates)
    return "fail" if failed else "underpowered" if undecided else "pass", failed


def _in_parity_report(
    bundle: Bundle, targets: Sequence[Target]
) -> dict[str, tuple[FileVerdict, tuple[str, ...] | None]]:
    """Return file -> (its verdict in the run's parity report, where test images judged these very bytes; the
    instruction set that it holds for, None where unknown).
    """
    if not bundle.has(PARITY):
        return {}
    report = read_parity(bundle.file(PARITY))
    found = {}
    for target in targets:
        verdict = report.files.get(target.name) if target.in_run else None
        if verdict is not None and verdict.sha256 == target.sha256 and verdict.metrics is not None:
            found[target.name] = verdict, (verdict.kept_from or report).instruction_set
    return found


def _known(bundle: Bundle, targets: Sequence[Target]) -> dict[str, Accuracy]:
    """What the run's reference and its parity report say of these very bytes."""
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
    """Why a file's answers cannot be held against the run's labels; None where they can."""
    if target.labels is None:
        return f"{target.name} does not name its classes"
    if sorted(target.labels) != sorted(bundle.manifest.labels):
        return f"{target.name} has other classes than the run: {', '.join(target.labels)}"
    return None


def _measured(
    bundle: Bundle, targets: Sequence[Target], sessions: Mapping[str, Session], root: Path, samples: Sequence[Sample]
) -> dict[str, Accuracy]:
    """Each image is decoded once for each size that the files take."""
    labels, own_size = bundle.manifest.labels, bundle.manifest.preprocess.size
    truth = np.array([labels.index(sample.label) for sample in samples], dtype=np.int64)
    by_size: dict[int, list[Target]] = {}
    for target in targets:
        by_size.setdefault(input_side(sessions[target.key], own_size), []).append(target)
    known: dict[str, Accuracy] = {}
    for size, group in by_size.items():
        outputs = run_all({target.name: sessions[target.key] for target in group}, root, samples, size)
        for target in group:
            places = np.array([labels.index(label) for label in target.labels or labels])
            predicted = places[outputs[target.name].probabilities.argmax(axis=1)]
            known[target.name] = (metrics.balanced_accuracy(truth, predicted), "measured")
    return known
