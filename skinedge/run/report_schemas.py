"""What is read of the reports in a run: schemas of reports/parity.json and of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from skinedge.core.json_io import read_json, refusal
from skinedge.run.provenance import GateRecord

EVALUATION = "skinedge.evaluate/1"
NOT_AN_EVALUATION = refusal("not an evaluation", todo="Make one: skinedge evaluate RUN --split test --out DIR")


class Rates(TypedDict, total=False):
    """Of the malignant decision; counts: [hits, images]; wilson: 95 % interval. None where there was no such image."""

    sensitivity: float | None
    sensitivity_counts: tuple[int, int] | None
    sensitivity_wilson: tuple[float, float] | None
    specificity: float | None
    specificity_counts: tuple[int, int] | None
    specificity_wilson: tuple[float, float] | None


class Metrics(TypedDict):
    """Figures on the test split; None where undefined."""

    n: int
    agreement: float | None
    agreement_low: float | None
    agreement_high: float | None
    fall: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    macro_auc: float | None
    melanoma_sensitivity: float | None
    malignant: Rates


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
    reference: NotRequired[Metrics | None]
    instruction_set: NotRequired[list[str]]


class LatencyRow(TypedDict):
    """One file in one runtime; times in milliseconds, None where not measured; n: samples."""

    file: str
    runtime: str
    threads: int
    p50_ms: float | None
    p90_ms: float | None
    n: int
    reasons: list[str]


class Machine(TypedDict):
    """versions: runtime -> version."""

    cpu: str
    versions: dict[str, str]


class Latency(TypedDict):
    """What `bench` wrote."""

    device: Machine
    rows: list[LatencyRow]


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


def read_latency(path: Path) -> Latency:
    """Raises: BundleError when it is no report of `bench`."""
    return read_json(path, Latency, error=refusal("damaged report"))


def read_evaluation(path: Path) -> Evaluation:
    """Raises: BundleError when it is not what `evaluate --out` writes."""
    document = read_json(path, dict[str, Any], error=NOT_AN_EVALUATION)
    if document.get("schema") != EVALUATION:
        raise NOT_AN_EVALUATION(f"schema is {document.get('schema')!r}", where=str(path))
    return read_json(path, Evaluation, error=NOT_AN_EVALUATION)
