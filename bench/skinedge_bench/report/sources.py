"""Sources of a report: the documents that the stages left in a run, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skinedge.core.errors import BundleError
from skinedge.core.json_io import build, finite
from skinedge.run import report_schemas as schemas
from skinedge.run.class_order import check_run, read_reference, taxonomy_warnings
from skinedge.run.manifest import MANIFEST
from skinedge.run.report_schemas import DAMAGED
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.system.progress import note
from skinedge_bench.evaluate import tables
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.evaluate import Evaluation
from skinedge_bench.evaluate.selection import Selection
from skinedge_bench.evaluate.tables import Table
from skinedge_bench.report.mistakes import Judged, judge
from skinedge_bench.split_images import test_split

T = TypeVar("T")
Document = Mapping[str, Any]
TRAINING, PARITY, LATENCY = "reports/training.json", "reports/parity.json", "reports/latency.json"
THRESHOLDS, EVALUATION, REFERENCE = "reports/thresholds.json", "reports/evaluation.json", "reference.npz"
NETWORK = "PyTorch, merged"


@dataclass(frozen=True)
class EvaluationTables:
    """Figures of one file, or of the merged network, and the tables of `skinedge evaluate` on them.

    per_class, confusion, overall, intervals, subgroups, decisions: as `evaluate.tables` makes them.
    """

    figures: schemas.Evaluation
    per_class: Table
    confusion: Table
    overall: Table
    intervals: Table
    subgroups: tuple[Table, ...]
    decisions: tuple[Table, ...]


@dataclass(frozen=True)
class Sources:
    """A run's documents, None where a stage has not run.

    searches: report -> the precisions that were tried for a file; evaluation: of one file, else of the merged network
    on the test split, from its stored logits; curves: the same, or the network's where an older `evaluate` stored no
    ROC curve; mistakes: of the default file or the network, None before `merge`; others: latency reports of other runs;
    document: the JSON form, without the raw samples.
    """

    bundle: Bundle
    training: schemas.Training | None
    parity: schemas.Parity | None
    latency: schemas.Latency | None
    searches: Mapping[str, schemas.PrecisionSearch]
    evaluation: EvaluationTables | None
    curves: EvaluationTables | None
    mistakes: Judged | None
    others: tuple[tuple[Bundle, schemas.Latency], ...]
    document: Mapping[str, object]

    def is_outdated(self, name: str, sha256: str) -> bool:
        """Return True where the run's file of this name has another hash; False where it has no such file."""
        entry = self.bundle.entries().get(name)
        return entry is not None and entry.sha256 != sha256


def collect(bundle: Bundle, evaluation: Path | None, runs: Sequence[Path]) -> Sources:
    """Read all documents.

    Args:
        evaluation: a folder that `evaluate --out` wrote for a file of this run; None: the run's own, if packed.
        runs: other runs, or folders of runs, to compare this run's files with.
    Raises: BundleError when a document is damaged, was changed after it was made, or is another run's, or when parts of
    the run contradict each other on the classes.
    """
    check_run(bundle)
    for warning in taxonomy_warnings(bundle.manifest):
        note(f"warning: {warning}")
    raw = {name: read_raw(bundle, name) for name in (TRAINING, PARITY, LATENCY, THRESHOLDS)}
    searches = {name: read_document(bundle.file(name)) for name in bundle.entries() if _is_search(name)}
    path = bundle.root / EVALUATION if evaluation is None else evaluation / "evaluation.json"
    own = read_own_evaluation(bundle) if evaluation is None else read_evaluation(path, bundle)
    network = evaluate_network(bundle) if bundle.has(REFERENCE) and (own is None or "roc" not in own) else None
    judged = own or network
    curves = network or own
    parity = _typed(bundle, PARITY, raw[PARITY], schemas.Parity)
    return Sources(
        bundle=bundle,
        training=_typed(bundle, TRAINING, raw[TRAINING], schemas.Training),
        parity=parity,
        latency=_typed(bundle, LATENCY, raw[LATENCY], schemas.Latency),
        searches={
            name: build(document, schemas.PrecisionSearch, str(bundle.root / name), error=DAMAGED)
            for name, document in searches.items()
        },
        evaluation=None if judged is None else evaluation_tables(judged, str(path)),
        curves=None if curves is None else evaluation_tables(curves, str(path)),
        mistakes=read_mistakes(bundle, parity) if bundle.has(REFERENCE) else None,
        others=tuple(other for folder in runs for other in read_others(folder, bundle)),
        document={
            "training": raw[TRAINING],
            "parity": raw[PARITY],
            "latency": without_samples(raw[LATENCY]),
            "thresholds": raw[THRESHOLDS],
            "ladders": list(searches.values()),
            "evaluation": judged,
        },
    )


def read_document(path: Path) -> Document:
    """Read a JSON object. Raises: BundleError when it is none."""
    return schemas.read_report(path)


def read_raw(bundle: Bundle, name: str) -> Document | None:
    """Read a report of the run; None where no stage made it."""
    return read_document(bundle.file(name)) if bundle.has(name) else None


def without_samples(latency: Document | None) -> Document | None:
    """Return a latency report without its raw samples."""
    return None if latency is None else {key: value for key, value in latency.items() if key != "samples_ms"}


def read_mistakes(bundle: Bundle, parity: schemas.Parity | None) -> Judged:
    """Return the mistakes on the test split. parity: of the files that the run has, None before `verify`."""
    name = bundle.manifest.default_file or ""
    verdict, entry = parity.files.get(name) if parity else None, bundle.entries().get(name)
    current = verdict is not None and entry is not None and verdict.sha256 == entry.sha256
    return judge(bundle.manifest, read_reference(bundle), verdict if current else None)


def _typed(bundle: Bundle, name: str, document: Document | None, schema: type[T]) -> T | None:
    return None if document is None else build(document, schema, str(bundle.root / name), error=DAMAGED)


def _is_search(name: str) -> bool:
    return name.startswith("reports/ladder.")


def evaluation_tables(document: Document, where: str) -> EvaluationTables:
    """Check an evaluation and tabulate it. Raises: BundleError naming `where` when it is damaged."""
    figures = build(document, schemas.Evaluation, where, error=DAMAGED)
    try:
        per_class, confusion, overall, *subgroups = tables.tables(document)
        intervals, decisions = tables.class_intervals(document), tuple(tables.decision_tables(document))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DAMAGED(f"{type(error).__name__}: {error}", where=where) from None
    return EvaluationTables(figures, per_class, confusion, overall, intervals, tuple(subgroups), decisions)


def read_own_evaluation(bundle: Bundle) -> Document | None:
    """Read the evaluation that a packed model carries; None without one, or, with a note, where its file changed."""
    document = read_raw(bundle, EVALUATION)
    if document is not None and not _is_of_run(document, bundle):
        note(f"{EVALUATION} left out: it is of an earlier file than the run has now")
        return None
    return document


def read_evaluation(path: Path, bundle: Bundle) -> Document:
    """Read an evaluation. Raises: BundleError when it is missing, or not of a file that the run has now."""
    todo = f"Make one: skinedge evaluate {bundle.root} --out DIR"
    if not path.is_file():
        raise BundleError("no such file: `skinedge evaluate --out DIR` writes it", where=str(path), todo=todo)
    document = read_document(path)
    if document.get("schema") != schemas.EVALUATION:
        raise BundleError(f"not an evaluation (its schema is {document.get('schema')!r})", where=str(path), todo=todo)
    if not _is_of_run(document, bundle):
        raise BundleError("an evaluation of a file that this run does not have", where=str(path), todo=todo)
    return document


def _is_of_run(evaluation: Document, bundle: Bundle) -> bool:
    return evaluation.get("model_sha256") in {entry.sha256 for entry in bundle.entries().values()}


def evaluate_network(bundle: Bundle) -> Document:
    """Evaluate the merged network on the run's test split, from the logits that `merge` stored, as `evaluate` would."""
    manifest, reference = bundle.manifest, read_reference(bundle)
    samples = test_split(bundle)
    priors = (manifest.class_prior, manifest.training["data"]["training_prior"])
    own, training = (tuple(prior[label] for label in manifest.labels) for prior in priors)
    predictions = Predictions(
        labels=manifest.labels,
        truth=reference.labels,
        probabilities=metrics.softmax(reference.logits),
        malignant=manifest.malignant,
        threshold=manifest.thresholds.get("default"),
        prior=own,
        training=training,
    )
    selection = Selection(Path(), samples, "test", {})
    document: Document = finite(Evaluation(NETWORK, manifest.synthetic, predictions, selection).document)
    return document


def read_others(folder: Path, own: Bundle) -> Iterator[tuple[Bundle, schemas.Latency]]:
    """Yield the run in `folder`, or each run under it, with its latency report; leave out those without one.

    Raises: BundleError when there is no run.
    """
    is_run = (folder / MANIFEST).is_file()
    roots = [folder] if is_run else [path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    if not roots:
        raise BundleError("no run there, and no folder of runs", where=str(folder))
    for root in roots:
        bundle = Bundle.open(root)
        latency = _typed(bundle, LATENCY, read_raw(bundle, LATENCY), schemas.Latency)
        if latency is not None and root.resolve() != own.root.resolve():
            yield bundle, latency
