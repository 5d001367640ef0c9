"""The report of `verify`: gates and metrics of every file of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skinedge.core.errors import GateError
from skinedge.stats.gates import Gate, passed, worst
from skinedge.stats.verdicts import Verdict, counted_gates, word, worst_of
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
        verdicts = [gate.verdict for gate in self.gates]
        if self.figures is None:
            gates = counted_gates(verdicts, "of verify (without images)")
            return f"Not compared with the network in PyTorch on images; {gates}."
        low, high = self.figures.agreement_low, self.figures.agreement_high
        same = f"{self.figures.agreement:.1%} of them (95 % interval {low:.1%} to {high:.1%})"
        return f"Same class as the network in PyTorch for {same}; {counted_gates(verdicts, 'of verify (test images)')}."

    @property
    def compared(self) -> bool:
        """Whether a gate compared the file with something, and so verified it."""
        return any(gate.name != "finite" and gate.verdict != "not measured" for gate in self.gates)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the gates."""
        return worst(self.gates)

    @property
    def word(self) -> str:
        """The worst verdict as shown: passed, failed, inconclusive or not measured."""
        return word(self.verdict)

    def document(self, *, strict: bool) -> dict[str, object]:
        """Return as JSON; `passed` is null if no gate failed and none compared the file with anything."""
        result = passed(self.gates, strict=strict)
        return {
            "passed": result if self.compared or not result else None,
            "verdict": self.verdict,
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
        return self.verdict != "fail" and not any(file.figures for file in self.files)

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the files."""
        return worst_of(file.verdict for file in self.files)

    @property
    def passed(self) -> bool:
        """True if all gates of all files pass, see `gates.passed`."""
        return all(passed(file.gates, strict=self.strict) for file in self.files)

    @property
    def compared(self) -> bool:
        """Whether any file was compared with something."""
        return any(file.compared for file in self.files)

    @property
    def conclusion(self) -> str:
        """What the verification means, in a sentence, with the number of gates of each verdict."""
        files = f"{len(self.files)} file{'' if len(self.files) == 1 else 's'}"
        gates = counted_gates((gate.verdict for file in self.files for gate in file.gates), f"in {files}")
        if failed := sum(file.verdict == "fail" for file in self.files):
            return f"Gates failed in {failed} of {files} ({gates})."
        if not self.compared:
            return "Not measured: nothing to compare with. The file runs and gives probabilities, no more is known."
        if self.unmeasured:
            return f"No gate failed without images; not measured on test images ({gates})."
        if self.verdict == "pass":
            return f"All gates passed on the test images ({gates})."
        few = "; too few images to decide" if self.verdict == "inconclusive" else ""
        return f"No gate failed on the test images ({gates}{few})."

    def failures(self) -> list[str]:
        """List 'file: gate' of every gate that prevents passing."""
        return [
            f"{file.name}: {gate.name} {gate.word} ({shown(gate)})"
            for file in self.files
            for gate in file.gates
            if not passed((gate,), strict=self.strict)
        ]

    def require_passed(self) -> None:
        """Raise a GateError that names every gate that prevents passing, if there is one."""
        if not self.passed:
            undecided = "with --strict, every gate must have passed:"
            what = "a gate failed:" if self.verdict == "fail" else undecided
            raise GateError(what, lines=[f"  {line}" for line in self.failures()])

    def document(self) -> dict[str, object]:
        """Return as JSON; undefined metrics are NaN (null once printed); `passed` as in `FileParity.document`."""
        return {
            "passed": self.passed if self.compared or not self.passed else None,
            "strict": self.strict,
            "images": self.images,
            "reference": None if self.reference is None else asdict(self.reference),
            "instruction_set": list(self.instruction_set),
            "warnings": list(self.warnings),
            "files": {file.name: file.document(strict=self.strict) for file in self.files},
        }


def shown(gate: Gate) -> str:
    """Format value, limit and detail of a gate."""
    return gate.detail if gate.verdict == "not measured" else f"{gate.measured}, limit {gate.limit:g}; {gate.detail}"
