"""`skinedge compare A B`: changes in latency, size and accuracy from one report to another."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.errors import BundleError, ConfigError, one_of
from skinedge.core.json_io import read_json, refusal
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate, passed
from skinedge.stats.paired import Estimate
from skinedge.stats.verdicts import Verdict
from skinedge_bench.latency.bench import REPORT
from skinedge_bench.latency.regression_stats import rank_sum_p, slowdown
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.report_file import report_of
from skinedge_bench.latency.row import Row

SIGNIFICANT = 0.01  # strict, since several files are compared at once


@dataclass(frozen=True)
class Budget:
    """Allowed losses, None for no limit. latency: increase of the median latency in percent; accuracy: drop in balanced
    accuracy in percentage points.
    """

    latency: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Change:
    """One file in one runtime, in both reports.

    slowdown: new median over old, NaN if the old is 0; p: of the rank-sum test.
    """

    before: Row
    after: Row
    slowdown: Estimate
    p: float
    gates: tuple[Gate, ...]

    @property
    def verdict(self) -> str:
        """Return 'slower', 'faster', or 'alike': no significant difference."""
        if self.p >= SIGNIFICANT or math.isnan(self.slowdown.value):
            return "alike"
        return "slower" if self.slowdown.value > 1 else "faster"

    @property
    def fall(self) -> float | None:
        """Return the drop in balanced accuracy, positive for a loss; None if either accuracy is unknown."""
        old, new = self.before.balanced_accuracy, self.after.balanced_accuracy
        return None if old is None or new is None else old - new

    @property
    def doubts(self) -> tuple[str, ...]:
        """Return the reasons to distrust either timing."""
        both = (("before", self.before), ("after", self.after))
        return tuple(f"{side}: {reason}" for side, row in both for reason in row.reasons)

    def document(self) -> dict[str, object]:
        """Return the JSON form."""
        keys = ("p50_ms", "p90_ms", "balanced_accuracy", "size_bytes", "sha256", "trustworthy")
        sides = {"before": self.before, "after": self.after}
        return {
            "file": self.before.file,
            "runtime": self.before.runtime,
            "threads": self.before.threads,
            **{name: {key: getattr(row, key) for key in keys} for name, row in sides.items()},
            "slowdown": self.slowdown.value,
            "slowdown_interval": [self.slowdown.low, self.slowdown.high],
            "p": self.p,
            "verdict": self.verdict,
            "balanced_accuracy_fall": self.fall,
            "doubts": list(self.doubts),
            "gates": [asdict(gate) for gate in self.gates],
        }


@dataclass(frozen=True)
class Regression:
    """Comparison of two reports.

    changes: rows in both reports; lost: rows only in the old one, added: rows only in the new one ('runtime file');
    differences: allowed differences of the environments: name -> (old, new).
    """

    changes: tuple[Change, ...]
    lost: tuple[str, ...]
    added: tuple[str, ...]
    differences: Mapping[str, tuple[object, object]]
    budget: Budget
    strict: bool = False

    def failures(self) -> list[str]:
        """Describe each violation of the budget (strict: also inconclusive gates and lost rows)."""
        failed_gates = [
            f"{change.before.key}: {gate.name} {gate.detail}"
            for change in self.changes
            for gate in change.gates
            if not passed([gate], strict=self.strict)
        ]
        if self.budget == Budget() or not self.strict:
            return failed_gates
        return failed_gates + [f"{key}: not measured any more" for key in self.lost]

    def document(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "passed": not self.failures(),
            "strict": self.strict,
            "budget": asdict(self.budget),
            "differences": {name: list(pair) for name, pair in self.differences.items()},
            "changes": [change.document() for change in self.changes],
            "lost": list(self.lost),
            "added": list(self.added),
        }


def read_report(path: Path) -> LatencyReport:
    """Read the report of a run directory, or a report file of `bench`.

    Raises: BundleError if it is missing or damaged.
    """
    if path.is_dir():
        bundle = Bundle.open(path)
        if not bundle.has(REPORT):
            raise BundleError("this run was not benchmarked", where=str(path), todo="Benchmark it: skinedge bench RUN")
        path = bundle.file(REPORT)
    if not path.exists():
        raise BundleError("no such report or run", where=str(path))
    document = read_json(path, dict[str, Any], error=refusal("not a report of bench"))
    return report_of(document, str(path))


def compare(
    before: LatencyReport,
    after: LatencyReport,
    budget: Budget | None = None,
    *,
    allowed: Collection[str] = (),
    strict: bool = False,
) -> Regression:
    """Compare each file of both reports, per runtime and number of threads.

    allowed: names of environment properties that may differ.
    Raises: ConfigError for reports of different devices or environments, or with nothing in common.
    """
    limits = budget or Budget()
    old, new = ({row.key: row for row in report.rows if row.block_medians_ms} for report in (before, after))
    common = [key for key in old if key in new]
    if not common:
        todo = f"One has {', '.join(old) or 'nothing'}; the other {', '.join(new) or 'nothing'}."
        raise ConfigError("the two reports have no timed file in common", todo=todo)
    differences = environment_differences(before, after, {old[key].runtime for key in common})
    for name in allowed:
        one_of("environment figure", name, tuple(environment(before, {old[key].runtime for key in common})))
    refuse(differences, allowed)
    same_images = "test_images" not in differences
    return Regression(
        changes=tuple(_change(old[key], new[key], limits, same_images) for key in common),
        lost=tuple(key for key in old if key not in new),
        added=tuple(key for key in new if key not in old),
        differences=differences,
        budget=limits,
        strict=strict,
    )


def environment(report: LatencyReport, runtimes: Collection[str]) -> dict[str, object]:
    """Return the properties that must be equal for a comparison. runtimes: those whose versions count."""
    device = asdict(report.device)
    versions = device.pop("versions")
    protocol = asdict(report.protocol)
    return {
        **device,
        **{f"{name} version": versions.get(name) for name in sorted(runtimes)},
        "protocol": protocol["name"],
        **{f"protocol {name}": protocol[name] for name in ("warmup", "block")},
        "test_images": report.test_images,
    }


def environment_differences(
    before: LatencyReport, after: LatencyReport, runtimes: Collection[str]
) -> dict[str, tuple[object, object]]:
    """Return name -> (old, new) of the properties that differ."""
    old, new = environment(before, runtimes), environment(after, runtimes)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def refuse(differences: Mapping[str, tuple[object, object]], allowed: Collection[str]) -> None:
    """Raise a ConfigError for differences that are not allowed."""
    refused = {name: pair for name, pair in differences.items() if name not in allowed}
    if refused:
        listed = "; ".join(f"{name}: {_format(old)}, then {_format(new)}" for name, (old, new) in refused.items())
        options = " ".join(f"--allow-different '{name}'" for name in refused)
        raise ConfigError(
            f"the two reports are not of the same device and environment: {listed}",
            todo=f"Measure both in the same environment, or, to compare the environments, add {options}",
        )


def _change(before: Row, after: Row, budget: Budget, same_images: bool) -> Change:
    """Compare two rows. same_images: whether both accuracies are of the same images."""
    old, new = np.array(before.block_medians_ms), np.array(after.block_medians_ms)
    change = Change(before, after, slowdown(old, new), rank_sum_p(old, new), ())
    gates = []
    if budget.latency is not None:
        gates.append(_latency_gate(change, 1 + budget.latency / 100))
    if budget.accuracy is not None:
        gates.append(_accuracy_gate(change, budget.accuracy, same_images))
    return replace(change, gates=tuple(gates))


def _latency_gate(change: Change, limit: float) -> Gate:
    """Pass if the whole interval is within the budget, fail if all of it is beyond; else inconclusive."""
    ratio = change.slowdown
    verdict: Verdict = "pass" if ratio.high <= limit else "fail" if ratio.low > limit else "inconclusive"
    detail = f"{ratio.value:.3f} times the time (95 % {ratio.low:.3f} to {ratio.high:.3f}), at most {limit:.3f}"
    if change.doubts:
        return Gate("latency", ratio.value, limit, "inconclusive", f"{detail}; not trustworthy")
    return Gate("latency", ratio.value, limit, verdict, detail)


def _accuracy_gate(change: Change, points: float, same_images: bool) -> Gate:
    """Compare the drop with the budget, without an interval, since both accuracies are of the same test images.

    Fails if the golden vectors fail: the accuracy may have been measured on another machine, and does not hold then.
    """
    if change.after.golden == "fail":
        return Gate(
            "accuracy", None, points, "fail", "the golden vectors failed: its balanced accuracy does not hold here"
        )
    drop = change.fall if same_images else None
    if drop is None:
        detail = "balanced accuracy is not known for both on the same test set"
        return Gate("accuracy", None, points, "inconclusive", detail)
    lost = round(100 * drop, 9)  # 0.75 - 0.74 is more than 0.01 in floating point
    verdict: Verdict = "pass" if lost <= points else "fail"
    return Gate("accuracy", lost, points, verdict, f"fell by {lost:.2f} points of balanced accuracy, at most {points}")


def _format(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
