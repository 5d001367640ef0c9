"""What is read of the reports in a run: schemas of reports/parity.json and of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from skinedge.documents import read_json, refusal
from skinedge.provenance import GateRecord

EVALUATION = "skinedge.evaluate/1"
NOT_AN_EVALUATION = refusal("not an evaluation", todo="Make one: skinedge evaluate RUN --split test --out DIR")


class Metrics(TypedDict):
    """Figures on the test split; None where undefined."""

    n: int
    agreement: float
    agreement_low: float
    agreement_high: float
    fall: float
    accuracy: float
    balanced_accuracy: float
    macro_auc: float | None
    melanoma_sensitivity: float | None


class FileVerdict(TypedDict):
    """metrics: None where no test image judged the file."""

    passed: bool
    sha256: str
    gates: list[GateRecord]
    metrics: Metrics | None
    kept_from: NotRequired[dict[str, Any]]


class Parity(TypedDict):
    """What `verify` wrote. files: name -> verdict; images: where the test images were."""

    images: str
    files: dict[str, FileVerdict]
    reference: NotRequired[dict[str, Any] | None]
    instruction_set: NotRequired[list[str]]


class Support(TypedDict):
    """support: images of a class."""

    support: int


class Malignant(TypedDict):
    """threshold: the malignant score from which on a lesion is flagged."""

    threshold: float | None


class Evaluation(TypedDict):
    """What `evaluate --out` wrote. contaminated: how many judged images the model was trained on."""

    schema: str
    file: str
    model_sha256: str | None
    split: str
    contaminated: int
    per_class: dict[str, Support]
    malignant: Malignant


def read_parity(path: Path) -> Parity:
    """Raises: BundleError when it is no report of `verify`."""
    return read_json(path, Parity, error=refusal("damaged report"))


def read_evaluation(path: Path) -> Evaluation:
    """Raises: BundleError when it is not what `evaluate --out` writes."""
    document = read_json(path, dict[str, Any], error=NOT_AN_EVALUATION)
    if document.get("schema") != EVALUATION:
        raise NOT_AN_EVALUATION(f"schema is {document.get('schema')!r}", where=str(path))
    return read_json(path, Evaluation, error=NOT_AN_EVALUATION)
