"""The report of `verify`: gates and metrics of every file of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skinedge.core.errors import GateError
from skinedge.stats.gates import Gate, passed
from skinedge_bench.evaluate.summary import Summary
from skinedge_bench.verify.comparison import Change, Comparison


@dataclass(frozen=True)
class Figures:
    """Metrics of one file on the test split; NaN where undefined.

    agreement_low, agreement_high: Wilson's 95 % interval; fall: drop of balanced accuracy from the reference;
    melanoma_sensitivity: recall of the class melanoma, as the top class; sensitivity: label -> recall; flagged:
    label -> [images flagged as malignant, all images of the class], None without a threshold; own_threshold: whether
    the malignant metrics are at a threshold fitted for this file, not at that of the merged network.
    """

    n: int
    max_difference: float
    agreement: float
    agreement_low: float
    agreement_high: float
    accuracy: float
    balanced_accuracy: float
    fall: float
    macro_auc: float
    melanoma_sensitivity: float
    sensitivity: dict[str, float]
    flagged: dict[str, list[int]] | None
    malignant: Mapping[str, Any]
    own_threshold: bool

    def summary(self, malignant: Sequence[str]) -> Summary:
        """The metrics in sentences. malignant: the malignant and premalignant labels."""
        threshold = self.malignant["threshold"]
        about = f"{self.n:,} test images"
        return Summary(about, self.accuracy, self.balanced_accuracy, threshold, self.flagged, malignant)


@dataclass(frozen=True)
class FileParity:
    """Gates of one file, and its metrics if the test images are available.

    comparison: with the reference, of a file that is not exact; changed: the images whose diagnosis changed;
    runtime: that ran the file, None if it is not a model file.
    """

    name: str
    sha256: str
    gates: tuple[Gate, ...]
    figures: Figures | None = None
    comparison: Comparison | None = None
    changed: tuple[Change, ...] = ()
    runtime: str | None = None

    def sentence(self) -> str:
        """Say whether the file kept the answers of the network in PyTorch, and count its verdicts."""
        counts = ", ".join(f"{n} {verdict}" for verdict, n in Counter(gate.verdict for gate in self.gates).items())
        if self.figures is None:
            return f"Not compared with the network in PyTorch on images; gates: {counts}."
        low, high = self.figures.agreement_low, self.figures.agreement_high
        same = f"{self.figures.agreement:.1%} of them (95 % interval {low:.1%} to {high:.1%})"
        return f"Same class as the network in PyTorch for {same}; gates: {counts}."

    def document(self, *, strict: bool) -> dict[str, object]:
        """Return as JSON."""
        return {
            "passed": passed(self.gates, strict=strict),
            "sha256": self.sha256,
            "runtime": self.runtime,
            "gates": [asdict(gate) for gate in self.gates],
            "metrics": None if self.figures is None else asdict(self.figures),
            "comparison": None if self.comparison is None else self.comparison.document(),
            "changed": [asdict(change) for change in self.changed],
        }


@dataclass(frozen=True)
class ParityReport:
    """The result of `verify`.

    reference: metrics of the merged network itself; images: where the test images are, or that they are missing;
    model_id, model_sha256: of the run and its merged weights, or of a single file;
    instruction_set: of the CPU that ran the files, as Linux spells it; the verdicts hold for it only;
    warnings: its effects on some of the files.
    """

    files: tuple[FileParity, ...]
    reference: Figures | None
    images: str
    strict: bool = False
    model_id: str | None = None
    model_sha256: str | None = None
    instruction_set: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def unmeasured(self) -> bool:
        """True if no file was verified on images, and no gate failed."""
        failed = any(gate.verdict == "fail" for file in self.files for gate in file.gates)
        return not failed and not any(file.figures for file in self.files)

    @property
    def passed(self) -> bool:
        """True if all gates of all files pass, see `gates.passed`."""
        return all(passed(file.gates, strict=self.strict) for file in self.files)

    def failures(self) -> list[str]:
        """List 'file: gate' of every gate that prevents passing."""
        return [
            f"{file.name}: {gate.name} is {gate.verdict} ({shown(gate)})"
            for file in self.files
            for gate in file.gates
            if not passed((gate,), strict=self.strict)
        ]

    def require_passed(self) -> None:
        """Raise a GateError that names every failed gate, if there is one."""
        if not self.passed:
            raise GateError("a gate failed:", lines=[f"  {line}" for line in self.failures()])

    def document(self) -> dict[str, object]:
        """Return as JSON; undefined metrics are NaN (null once printed)."""
        return {
            "passed": self.passed,
            "strict": self.strict,
            "images": self.images,
            "reference": None if self.reference is None else asdict(self.reference),
            "instruction_set": list(self.instruction_set),
            "warnings": list(self.warnings),
            "files": {file.name: file.document(strict=self.strict) for file in self.files},
        }


def shown(gate: Gate) -> str:
    """Format value, limit and detail of a gate."""
    return f"{gate.measured}, limit {gate.limit:g}; {gate.detail}"
