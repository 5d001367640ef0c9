"""Schemas of the JSON reports in a run: what the stages wrote, as frozen structs.

Readers use the fields; keys that no field names pass, so that newer reports can be read. A field with a default is
missing from older reports. None stands for a figure that is undefined or was not measured. Shares are in 0..1, times in
milliseconds, `*_counts` are (hits, images), `*_wilson` and `intervals` are 95 % intervals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from msgspec import Meta, Struct

from skinedge.core.json_io import build, read_json, refusal
from skinedge.stats.earlier_verdicts import current_report
from skinedge.stats.gates import Gate, worst
from skinedge.stats.verdicts import Verdict

EVALUATION = "skinedge.evaluate/1"
NOT_AN_EVALUATION = refusal("not an evaluation", todo="Make one: skinedge evaluate RUN --split test --out DIR")
DAMAGED = refusal("damaged report")

Count: TypeAlias = Annotated[int, Meta(ge=0)]
Figure: TypeAlias = Annotated[float, Meta(ge=-1e12, le=1e12)]  # what a chart can scale
Milliseconds: TypeAlias = Annotated[float, Meta(ge=1e-9, le=1e12)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Counts: TypeAlias = tuple[Count, Count]
Bounds: TypeAlias = tuple[float | None, float | None]


class Epoch(Struct, frozen=True):
    """One epoch of training. images_per_second: of training alone."""

    epoch: Figure
    train_loss: Figure | None
    val_balanced_accuracy: Figure | None
    val_macro_auc: Figure | None
    images_per_second: float | None


class Training(Struct, frozen=True):
    """reports/training.json of `train`. best_epoch: the epoch whose weights the run keeps."""

    history: tuple[Epoch, ...]
    best_epoch: Figure | None = None


class Rates(Struct, frozen=True):
    """Sensitivity and specificity of the malignant flag; None without a threshold or without such an image."""

    sensitivity: float | None = None
    sensitivity_counts: Counts | None = None
    sensitivity_wilson: Bounds | None = None
    specificity: float | None = None
    specificity_counts: Counts | None = None
    specificity_wilson: Bounds | None = None


class Metrics(Struct, frozen=True):
    """Figures of one file on the test split. fall: drop of balanced accuracy from the merged network."""

    n: Count
    agreement: Figure | None
    agreement_low: Figure | None
    agreement_high: Figure | None
    fall: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    macro_auc: float | None
    melanoma_sensitivity: float | None
    malignant: Rates
    flagged: dict[str, Counts] | None = None
    max_difference: float | None = None


class IntervalEstimate(Struct, frozen=True):
    """A figure with its interval."""

    value: Figure | None
    low: Figure | None
    high: Figure | None


class McNemarTable(Struct, frozen=True):
    """Images that one side alone got right, and McNemar's p."""

    only_reference: Count
    only_file: Count
    p: float | None


class Comparison(Struct, frozen=True):
    """Paired figures of a file and the merged network; a drop is positive."""

    mcnemar: McNemarTable
    balanced_accuracy_fall: IntervalEstimate | None
    melanoma_sensitivity_fall: IntervalEstimate | None
    malignant_sensitivity_fall: IntervalEstimate | None
    malignant_score_change: IntervalEstimate | None


class Change(Struct, frozen=True):
    """An image whose diagnosis differs between the merged network (reference) and the file."""

    image: str
    label: str
    reference: str
    reference_probability: float
    file: str
    file_probability: float
    reference_malignant: float
    file_malignant: float
    verdict: str | None


class VerdictOrigin(Struct, frozen=True):
    """The earlier report that a verdict comes from. images: where its test images were."""

    images: str | None = None
    instruction_set: tuple[str, ...] | None = None


class FileVerdict(Struct, frozen=True):
    """Verdict on one file.

    passed: no gate failed (with --strict: every gate passed); verdict: the worst of the gates, None in older reports;
    metrics: None without test images; kept_from: the earlier report that gave the verdict.
    """

    passed: bool
    sha256: str
    gates: tuple[Gate, ...]
    metrics: Metrics | None
    comparison: Comparison | None = None
    changed: tuple[Change, ...] = ()
    kept_from: VerdictOrigin | None = None
    verdict: Verdict | None = None

    @property
    def worst(self) -> Verdict:
        """The worst verdict of the gates."""
        return worst(self.gates)


class Parity(Struct, frozen=True):
    """reports/parity.json of `verify`. files: name -> verdict; images: where the test images were."""

    schema: Literal["skinedge.verify/2"]  # `read_report` translates earlier ones
    passed: bool
    images: str
    files: dict[str, FileVerdict]
    reference: Metrics | None = None
    instruction_set: tuple[str, ...] | None = None
    warnings: tuple[str, ...] = ()


class Roofline(Struct, frozen=True):
    """Lower bound of the latency on the device that measured."""

    ms: float | None = None


class EndToEnd(Struct, frozen=True):
    """Latency from encoded photo to label. parts_ms: step -> median; n: images."""

    p50_ms: float | None
    p90_ms: float | None
    n: int
    parts_ms: dict[str, float | None]


class LatencyRow(Struct, frozen=True):
    """One file in one runtime. n: samples; reasons: why the figures are not trustworthy; floor: roofline bound."""

    file: str
    runtime: str
    threads: int
    p50_ms: Milliseconds | None
    p90_ms: float | None
    n: int
    reasons: tuple[str, ...]
    precision: str = ""
    size_bytes: Count = 0
    sha256: str = ""
    p99_ms: float | None = None
    load_ms: float | None = None
    first_inference_ms: float | None = None
    peak_rss_mib: float | None = None
    ratio_to_fp32: float | None = None
    ratio_to_eager: float | None = None
    balanced_accuracy: Figure | None = None
    floor: Roofline | None = None
    end_to_end: EndToEnd | None = None


class Machine(Struct, frozen=True):
    """The device that measured. versions: runtime -> version."""

    cpu: str
    versions: dict[str, str]
    system: str = ""


class ProtocolName(Struct, frozen=True):
    """Which protocol measured."""

    name: str = ""


class Recommendation(Struct, frozen=True):
    """reasons: sentences, the recommendation first."""

    reasons: tuple[str, ...] = ()


class Latency(Struct, frozen=True):
    """reports/latency.json of `bench`. host: the other machine that measured; samples_ms: key -> blocks of samples."""

    device: Machine
    rows: tuple[LatencyRow, ...]
    protocol: ProtocolName = ProtocolName()
    host: str | None = None
    remarks: tuple[str, ...] = ()
    floor_method: str | None = None
    recommendation: Recommendation | None = None
    samples_ms: dict[str, tuple[tuple[Milliseconds, ...], ...]] = {}


class CandidateMetrics(Struct, frozen=True):
    """Figures of a candidate on the validation images."""

    images: Annotated[int, Meta(gt=0)]
    agreement: Share
    balanced_accuracy: float | None = None
    fall: float | None = None
    melanoma_sensitivity: float | None = None


class Candidate(Struct, frozen=True):
    """One precision that the search tried.

    rung: its name; passed: no gate failed; convincing: nor is an estimate beyond its limit.
    """

    rung: str
    passed: bool
    convincing: bool
    gates: tuple[Gate, ...]
    validation: CandidateMetrics | None
    size_bytes: Count
    milliseconds: float | None

    @property
    def worst(self) -> Verdict:
        """The worst verdict of the gates."""
        return worst(self.gates)


class PrecisionSearch(Struct, frozen=True):
    """reports/ladder.*.json of `export`. given_up: what the chosen precision costs; rungs: the candidates."""

    file: str
    validation_images: Count
    chosen: str
    given_up: str | None
    rungs: tuple[Candidate, ...]


class ReliabilityBin(Struct, frozen=True):
    """Images whose top confidence lies in [above, up_to]. share: of all images; accuracy: share that is right."""

    above: Figure | None
    up_to: Figure | None
    share: Figure | None
    confidence: Figure | None
    accuracy: Figure | None


class ClassFigures(Struct, frozen=True):
    """Figures of one class against the rest. support: its images; flagged: (flagged as malignant, all) of them."""

    auc: float | None
    support: Count
    name: str | None = None
    flagged: Counts | None = None


class Malignant(Struct, frozen=True):
    """Figures of the malignant score. threshold: from this score on a lesion is flagged."""

    sensitivity: Figure | None
    specificity: Figure | None
    auc: float | None
    threshold: float | None
    sensitivity_counts: Counts | None = None
    sensitivity_wilson: Bounds | None = None
    specificity_counts: Counts | None = None
    specificity_wilson: Bounds | None = None


class Corner(NamedTuple):
    """Where a ROC curve turns: images flagged so far."""

    negatives: Count
    positives: Count


class RocCurves(Struct, frozen=True):
    """Corners of each ROC curve from (0, 0) on, the last holding all images; None where undefined."""

    per_class: dict[str, tuple[Corner, ...] | None]
    malignant: tuple[Corner, ...] | None

    def __post_init__(self) -> None:
        if any(curve and not all(curve[-1]) for curve in (*self.per_class.values(), self.malignant)):
            raise ValueError("a ROC curve without positives or negatives")


class Evaluation(Struct, frozen=True):
    """evaluation.json of `evaluate --out`.

    seen: split -> judged images that the run had in it, None where unknown; contaminated: judged images that the model
    was trained on; confusion: rows: truth; intervals: figure -> its interval; summary: sentences.
    """

    n: Count
    file: str
    split: str
    seen: dict[str, int] | None
    contaminated: int
    balanced_accuracy: float | None
    macro_auc: float | None
    ece: float | None
    reliability: tuple[ReliabilityBin, ...]
    per_class: dict[str, ClassFigures]
    malignant: Malignant
    intervals: dict[str, Bounds | None]
    confusion: tuple[tuple[Count, ...], ...]
    roc: RocCurves | None = None
    summary: tuple[str, ...] = ()
    schema: str = ""
    model_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.roc is not None and not set(self.roc.per_class) <= set(self.per_class):
            raise ValueError("a ROC curve of a class that per_class does not have")


def read_report(path: Path) -> dict[str, Any]:
    """Read any report of a run as plain values with today's verdicts. Raises: BundleError when it is none."""
    document: dict[str, Any] = read_json(path, dict[str, Any], error=DAMAGED)
    return current_report(document)


def read_parity(path: Path) -> Parity:
    """Read a report of `verify`, of this version or an earlier one. Raises: BundleError when it is none."""
    return build(read_report(path), Parity, str(path), error=DAMAGED)


def read_latency(path: Path) -> Latency:
    """Read a report of `bench`. Raises: BundleError when it is none."""
    return build(read_report(path), Latency, str(path), error=DAMAGED)


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read what `evaluate --out` wrote as plain values that fit `Evaluation`. Raises: BundleError when it is none."""
    document: dict[str, Any] = read_json(path, dict[str, Any], error=NOT_AN_EVALUATION)
    if document.get("schema") != EVALUATION:
        raise NOT_AN_EVALUATION(f"schema is {document.get('schema')!r}", where=str(path))
    build(document, Evaluation, str(path), error=NOT_AN_EVALUATION)
    return document
