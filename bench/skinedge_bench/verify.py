"""`skinedge verify`: every exported file against the merged model in PyTorch, gate by gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skinedge import __version__, documents, golden, metrics, parity
from skinedge.bundle import Bundle, FileEntry, Manifest
from skinedge.data.dataset import Sample, data_root, read_split
from skinedge.errors import BundleError
from skinedge.parity import Gate
from skinedge.plugins import Outputs, Session, runtimes_for
from skinedge.preprocess import prepare
from skinedge.progress import bar, note
from skinedge_bench.evaluate import malignant_document
from skinedge_bench.images import prepared, present
from skinedge_bench.model import contradiction, open_file
from skinedge_bench.parity_report import Figures, FileParity, ParityReport

REPORT = "reports/parity.json"
EXACT = ("fp32",)  # precisions that compute as the reference does; any other is judged statistically
THREADS = 1


@dataclass(frozen=True)
class Reference:
    """reference.npz: id (N,) str, labels (N,) int64, logits (N, C) float32 of the whole test split."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


def verify(bundle: Bundle, data: Path | None = None, *, strict: bool = False) -> ParityReport:
    """Check every model file of a run and keep the report in it. The caller turns `passed` into an exit code.

    data: where the images are now, if not at the manifest's data_root.
    Raises: BundleError when there is nothing to verify or a file was changed; DataError when some of the
    test images are missing or changed (with none of them there, only the golden vectors are replayed).
    """
    entries = bundle.model_files()
    if not entries:
        raise BundleError(
            "this run has no exported model yet",
            where=str(bundle.root),
            todo="Make one with: skinedge export --format all --int8",
        )
    report = check(bundle, entries, data_root(data or Path(bundle.manifest.data_root)), strict)
    made_from = {entry.path: entry.sha256 for entry in entries}
    with bundle.stage("verify", f"skinedge {__version__}", made_from) as stage:
        document = {"schema": "skinedge.verify/1", "model_id": bundle.manifest.id, **report.document()}
        stage.path(REPORT).write_text(documents.to_text(document), encoding="utf-8")
    return report


def verify_file(path: Path) -> ParityReport:
    """What can be told of a model file alone: it loads, and four images give probabilities.

    Raises: BundleError, ConfigError when it does not load or is no image classifier.
    """
    model = open_file(path)
    for assumption in model.assumptions:
        note(f"assumed: {assumption}")
    pixels = np.random.default_rng(0).integers(0, 256, (4, model.size, model.size, 3)).astype(np.uint8)
    pixels[0], pixels[1] = 0, 255
    gate = parity.finite_gate(model.run(pixels))
    return ParityReport((FileParity(path.name, model.sha256, (gate,)),), None, "a file alone: nothing to compare with")


def check(bundle: Bundle, entries: Sequence[FileEntry], root: Path, strict: bool) -> ParityReport:
    """The report, without writing anything."""
    vectors = golden.load(bundle.file("golden.npz"))
    reference = read_reference(bundle)
    sessions = {entry.path: open_session(bundle, entry.path) for entry in entries}
    samples = [sample for sample in read_split(bundle.file("split.csv")) if sample.split == "test"]
    if tuple(sample.image_id for sample in samples) != reference.ids:
        raise BundleError("reference.npz and split.csv list different test images", where=str(bundle.root))
    manifest = bundle.manifest
    files = [FileParity("golden.npz", bundle.entries()["golden.npz"].sha256, (resize_gate(vectors, manifest),))]
    outputs: dict[str, Outputs] = {}
    images = f"{len(samples)} test images under {root}"
    if present(root, samples):
        outputs = run_all(sessions, root, samples, manifest.preprocess.size)
    else:
        images = f"none of the {len(samples)} test images is under {root}: only the golden vectors were replayed"
        note(images)
    for entry in entries:
        session, name = sessions[entry.path], entry.path
        exact = entry.info.get("precision") in EXACT
        gates = [description_gate(session, manifest)]
        gates += parity.golden_gates(vectors.logits, session.run(vectors.pixels), exact=exact)
        figures = None
        if name in outputs:
            gates += test_gates(reference, outputs[name], exact)
            figures = figures_of(manifest, reference, outputs[name], name)
        elif not exact:
            gates += parity.unmeasured_gates("the test images are not here; give their folder with --data")
        files.append(FileParity(name, entry.sha256, tuple(gates), figures))
    own = Outputs(metrics.softmax(reference.logits), reference.logits)
    return ParityReport(tuple(files), figures_of(manifest, reference, own, "default"), images, strict)


def read_reference(bundle: Bundle) -> Reference:
    """Read a run's reference.npz; raises BundleError when it is missing, changed or not one."""
    path = bundle.file("reference.npz")
    try:
        with np.load(path, allow_pickle=False) as archive:
            ids = tuple(str(name) for name in archive["id"])
            return Reference(ids, archive["label"].astype(np.int64), archive["logits"].astype(np.float32))
    except (OSError, ValueError, KeyError) as error:
        raise BundleError(f"not a file of reference logits ({error})", where=str(path)) from None


def open_session(bundle: Bundle, name: str) -> Session:
    """A file of the run, its hash checked, in the first runtime that takes it."""
    path = bundle.file(name)
    return runtimes_for(path)[0].open(path, THREADS)


def run_all(sessions: dict[str, Session], root: Path, samples: Sequence[Sample], size: int) -> dict[str, Outputs]:
    """Every file's outputs on the same prepared pixels; each image is decoded once."""
    parts: dict[str, list[Outputs]] = {name: [] for name in sessions}
    with bar("verifying", len(samples)) as advance:
        for pixels in prepared(root, samples, size):
            for name, session in sessions.items():
                parts[name].append(session.run(pixels))
            advance(len(pixels))
    return {name: join(outputs) for name, outputs in parts.items()}


def join(parts: Sequence[Outputs]) -> Outputs:
    """Outputs of consecutive images as one."""
    logits = [part.logits for part in parts if part.logits is not None]
    return Outputs(
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(logits) if logits else None,
    )


def test_gates(reference: Reference, outputs: Outputs, exact: bool) -> tuple[Gate, ...]:
    """The gates over the test split."""
    if exact:
        return parity.fp32_gates(reference.logits, outputs)
    return parity.int8_gates(reference.labels, reference.logits, outputs)


def description_gate(session: Session, manifest: Manifest) -> Gate:
    """The file says the same labels, in the same order, and the same preprocessing as its run."""
    problem = contradiction(session, manifest)
    return Gate("description", int(problem is not None), 0, "fail" if problem else "pass", problem or "")


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


def figures_of(manifest: Manifest, reference: Reference, outputs: Outputs, name: str) -> Figures:
    """The figures of one file on the test split, at its own threshold."""
    labels, probabilities = reference.labels, outputs.probabilities
    expected, predicted = reference.logits.argmax(axis=1), probabilities.argmax(axis=1)
    low, high = metrics.wilson(int((expected == predicted).sum()), len(labels))
    balanced = metrics.balanced_accuracy(labels, predicted)
    recall = metrics.per_class(labels, probabilities).recall
    melanoma = manifest.melanoma_index
    threshold = manifest.thresholds.get(name, manifest.thresholds.get("default"))
    return Figures(
        n=len(labels),
        max_difference=parity.largest_difference(reference.logits, outputs),
        agreement=metrics.accuracy(expected, predicted),
        agreement_low=low,
        agreement_high=high,
        accuracy=metrics.accuracy(labels, predicted),
        balanced_accuracy=balanced,
        fall=metrics.balanced_accuracy(labels, expected) - balanced,
        macro_auc=metrics.macro_auc(labels, probabilities),
        melanoma_sensitivity=float("nan") if melanoma is None else float(recall[melanoma]),
        sensitivity={label: float(value) for label, value in zip(manifest.labels, recall, strict=True)},
        malignant=malignant_document(labels, probabilities, manifest.malignant, threshold),
    )
