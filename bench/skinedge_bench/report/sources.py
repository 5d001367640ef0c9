"""What a report is written from: the documents that the stages left in a run, read and checked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skinedge.core.errors import BundleError
from skinedge.core.json_io import finite, read_json, refusal
from skinedge.run.class_order import check_run, read_reference, taxonomy_warnings
from skinedge.run.manifest import MANIFEST
from skinedge.run.run_directory import Bundle
from skinedge.stats import metrics
from skinedge.system.progress import note
from skinedge_bench.evaluate.document import Predictions
from skinedge_bench.evaluate.evaluate import Evaluation
from skinedge_bench.evaluate.selection import Selection
from skinedge_bench.split_images import test_split

Document = Mapping[str, Any]
TRAINING, PARITY, LATENCY = "reports/training.json", "reports/parity.json", "reports/latency.json"
THRESHOLDS, EVALUATION, REFERENCE = "reports/thresholds.json", "reports/evaluation.json", "reference.npz"
NETWORK = "PyTorch, merged"


@dataclass(frozen=True)
class Sources:
    """A run's documents, None where a stage has not run.

    latency: with its raw samples; ladders: report -> the precisions that were tried for a file; evaluation: what
    `evaluate` said of one file, else of the merged network on the test split, from its kept logits; evaluated_in: where
    that lies; curves: the same, or, where an older `evaluate` kept no ROC curve, the network's; others: latency
    documents of other runs.
    """

    bundle: Bundle
    training: Document | None
    parity: Document | None
    latency: Document | None
    thresholds: Document | None
    ladders: Mapping[str, Document]
    evaluation: Document | None
    evaluated_in: Path
    curves: Document | None
    others: tuple[tuple[Bundle, Document], ...] = ()

    def made_again(self, name: str, sha256: str) -> bool:
        """Whether the run's file of this name is another than the one with the hash; not where it has none."""
        entry = self.bundle.entries().get(name)
        return entry is not None and entry.sha256 != sha256

    def document(self) -> dict[str, object]:
        """The JSON form, without the raw samples."""
        latency = None if self.latency is None else {k: v for k, v in self.latency.items() if k != "samples_ms"}
        return {
            "training": self.training,
            "parity": self.parity,
            "latency": latency,
            "thresholds": self.thresholds,
            "ladders": list(self.ladders.values()),
            "evaluation": self.evaluation,
        }


def collect(bundle: Bundle, evaluation: Path | None, runs: Sequence[Path]) -> Sources:
    """Read everything.

    evaluation: a folder that `evaluate --out` wrote, of a file of this run; None: the run's own, if it was packed with
    one. runs: other runs, or folders of runs, whose files are to stand beside this run's.
    Raises: BundleError when a document is damaged, was changed after it was made, or is another run's, or when parts of
    the run contradict each other on the classes.
    """
    check_run(bundle)
    for warning in taxonomy_warnings(bundle.manifest):
        note(f"warning: {warning}")
    place = bundle.root / EVALUATION if evaluation is None else evaluation / "evaluation.json"
    said = read_own_evaluation(bundle) if evaluation is None else read_evaluation(place, bundle)
    network = of_network(bundle) if bundle.has(REFERENCE) and (said is None or "roc" not in said) else None
    ladders = [name for name in bundle.entries() if name.startswith("reports/ladder.")]
    return Sources(
        bundle=bundle,
        training=read(bundle, TRAINING),
        parity=read(bundle, PARITY),
        latency=read(bundle, LATENCY),
        thresholds=read(bundle, THRESHOLDS),
        ladders={name: parse(bundle.file(name)) for name in ladders},
        evaluation=said or network,
        evaluated_in=place,
        curves=network or said,
        others=tuple(other for folder in runs for other in beside(folder, bundle)),
    )


def read(bundle: Bundle, name: str) -> Document | None:
    """A report of the run; None where no stage made it."""
    return parse(bundle.file(name)) if bundle.has(name) else None


def parse(path: Path) -> Document:
    """Raises: BundleError when it is no JSON object."""
    return read_json(path, dict[str, Any], error=refusal("damaged report"))


@contextlib.contextmanager
def is_valid(where: Path) -> Iterator[None]:
    """Around what reads a document. Raises: BundleError that names it where something in it is not as expected."""
    try:
        yield
    except KeyError as error:
        raise BundleError(f"damaged report: it has no {error}", where=str(where)) from None
    except (OSError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise BundleError(f"damaged report ({error})", where=str(where)) from None


def read_own_evaluation(bundle: Bundle) -> Document | None:
    """The one that a packed model carries; None without one, or where its file was made again since, as is said."""
    found = read(bundle, EVALUATION)
    if found is not None and not _known(found, bundle):
        note(f"{EVALUATION} is of an earlier file than the run has now: left out")
        return None
    return found


def read_evaluation(path: Path, bundle: Bundle) -> Document:
    """Raises: BundleError when it is not there, or not of a file that the run has now."""
    todo = f"Make one: skinedge evaluate {bundle.root} --out DIR"
    if not path.is_file():
        raise BundleError("no such file: `skinedge evaluate --out DIR` writes it", where=str(path), todo=todo)
    found = parse(path)
    if found.get("schema") != "skinedge.evaluate/1":
        raise BundleError(f"not an evaluation (its schema is {found.get('schema')!r})", where=str(path), todo=todo)
    if not _known(found, bundle):
        raise BundleError("an evaluation of a file that this run does not have", where=str(path), todo=todo)
    return found


def _known(evaluation: Document, bundle: Bundle) -> bool:
    return evaluation.get("model_sha256") in {entry.sha256 for entry in bundle.entries().values()}


def of_network(bundle: Bundle) -> Document:
    """What `evaluate` would say of the merged network on the run's test split, from the logits that `merge` kept."""
    manifest, reference = bundle.manifest, read_reference(bundle)
    samples = test_split(bundle)
    with is_valid(bundle.root / MANIFEST):
        priors = (manifest.class_prior, manifest.training["data"]["training_prior"])
        own, training = (tuple(prior[label] for label in manifest.labels) for prior in priors)
    said = Predictions(
        labels=manifest.labels,
        truth=reference.labels,
        probabilities=metrics.softmax(reference.logits),
        malignant=manifest.malignant,
        threshold=manifest.thresholds.get("default"),
        prior=own,
        training=training,
    )
    selection = Selection(Path(), samples, "test", {})
    found: Document = finite(Evaluation(NETWORK, manifest.synthetic, said, selection).document)
    return found


def beside(folder: Path, own: Bundle) -> Iterator[tuple[Bundle, Document]]:
    """The run in `folder`, or each of the runs under it, with its latency report; a run without one is left out.

    Raises: BundleError when there is none.
    """
    places = (
        [folder] if (folder / MANIFEST).is_file() else [path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))]
    )
    if not places:
        raise BundleError("no run there, and no folder of runs", where=str(folder))
    for place in places:
        bundle = Bundle.open(place)
        latency = read(bundle, LATENCY)
        if latency is not None and place.resolve() != own.root.resolve():
            yield bundle, latency
