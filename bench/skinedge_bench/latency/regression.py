"""`skinedge compare A B`: what became slower, faster, larger or less accurate from one report to another."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinedge.core.errors import BundleError, ConfigError, one_of
from skinedge.core.json_io import read_json, refusal
from skinedge.run.run_directory import Bundle
from skinedge.stats.gates import Gate, Verdict, passed
from skinedge.stats.paired import Estimate
from skinedge_bench.latency.bench import REPORT
from skinedge_bench.latency.regression_stats import rank_sum_p, slowdown
from skinedge_bench.latency.report import LatencyReport
from skinedge_bench.latency.report_file import report_of
from skinedge_bench.latency.row import Row

SIGNIFICANT = 0.01  # several files are compared at once


@dataclass(frozen=True)
class Budget:
    """What may be lost, None for no limit. latency: per cent by which the median time may grow; accuracy: points by
    which balanced accuracy may fall.
    """

    latency: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Change:
    """One file in one runtime, in both reports.

    slowdown: new median over old, NaN where the old is 0; p: that they do not differ.
    """

    before: Row
    after: Row
    slowdown: Estimate
    p: float
    gates: tuple[Gate, ...]

    @property
    def verdict(self) -> str:
        """'slower', 'faster', or 'alike': no difference was shown."""
        if self.p >= SIGNIFICANT or math.isnan(self.slowdown.value):
            return "alike"
        return "slower" if self.slowdown.value > 1 else "faster"

    @property
    def fall(self) -> float | None:
        """Of balanced accuracy, positive for a loss; None where one of them is not known."""
        old, new = self.before.balanced_accuracy, self.after.balanced_accuracy
        return None if old is None or new is None else old - new

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why either timing is not trustworthy."""
        both = (("before", self.before), ("after", self.after))
        return tuple(f"{side}: {reason}" for side, row in both for reason in row.reasons)

    def document(self) -> dict[str, object]:
        shown = ("p50_ms", "p90_ms", "balanced_accuracy", "size_bytes", "sha256", "trustworthy")
        sides = {"before": self.before, "after": self.after}
        return {
            "file": self.before.file,
            "runtime": self.before.runtime,
            "threads": self.before.threads,
            **{name: {key: getattr(row, key) for key in shown} for name, row in sides.items()},
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
    """changes: of what both reports measured; lost: what the old one measured and the new one did not, added: the
    other way round ('runtime file'); differences: of the environments, such as were allowed: name -> (old, new).
    """

    changes: tuple[Change, ...]
    lost: tuple[str, ...]
    added: tuple[str, ...]
    differences: Mapping[str, tuple[object, object]]
    budget: Budget
    strict: bool = False

    def failures(self) -> list[str]:
        """What is beyond the budget (strict: and what could not be decided), in words; nothing without a budget."""
        found = [
            f"{change.before.key}: {gate.name} {gate.detail}"
            for change in self.changes
            for gate in change.gates
            if not passed([gate], strict=self.strict)
        ]
        held = self.budget != Budget()
        return found + [f"{key}: not measured any more" for key in self.lost if held and self.strict]

    def document(self) -> dict[str, object]:
        """The JSON form."""
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
    """The report of a run directory, or in a file that `bench` wrote.

    Raises: BundleError where there is none, or it is damaged.
    """
    if path.is_dir():
        bundle = Bundle.open(path)
        if not bundle.has(REPORT):
            raise BundleError("this run was not benchmarked", where=str(path), todo="Measure it: skinedge bench RUN")
        path = bundle.file(REPORT)
    if not path.exists():
        raise BundleError("no such report, nor run", where=str(path))
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
    """Each file of both reports, in each runtime and with each number of threads.

    allowed: names of environment figures that may differ.
    Raises: ConfigError for reports of different devices or environments, or with nothing in common.
    """
    limits = budget or Budget()
    old, new = ({row.key: row for row in report.rows if row.block_medians_ms} for report in (before, after))
    both = [key for key in old if key in new]
    if not both:
        todo = f"One has {', '.join(old) or 'nothing'}; the other {', '.join(new) or 'nothing'}."
        raise ConfigError("the two reports have no timed file in common", todo=todo)
    differences = environment_differences(before, after, {old[key].runtime for key in both})
    for name in allowed:
        one_of("environment figure", name, tuple(environment(before, {old[key].runtime for key in both})))
    refuse(differences, allowed)
    judged = "test_images" not in differences
    return Regression(
        changes=tuple(_change(old[key], new[key], limits, judged) for key in both),
        lost=tuple(key for key in old if key not in new),
        added=tuple(key for key in new if key not in old),
        differences=differences,
        budget=limits,
        strict=strict,
    )


def environment(report: LatencyReport, runtimes: Collection[str]) -> dict[str, object]:
    """Everything that must be equal where timings are compared. runtimes: whose versions count."""
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
    """Name -> (old, new) of what differs."""
    old, new = environment(before, runtimes), environment(after, runtimes)
    return {name: (old[name], new[name]) for name in old if old[name] != new[name]}


def refuse(differences: Mapping[str, tuple[object, object]], allowed: Collection[str]) -> None:
    """Raises: ConfigError when more differs than was allowed."""
    beyond = {name: pair for name, pair in differences.items() if name not in allowed}
    if beyond:
        told = "; ".join(f"{name}: {_shown(old)}, then {_shown(new)}" for name, (old, new) in beyond.items())
        options = " ".join(f"--allow-different '{name}'" for name in beyond)
        raise ConfigError(
            f"the two reports are not of the same device and environment: {told}",
            todo=f"Measure both alike, or, where the difference is what you want to see, add {options}",
        )


def _change(before: Row, after: Row, budget: Budget, judged: bool) -> Change:
    """judged: whether both accuracies are of the same images."""
    old, new = np.array(before.block_medians_ms), np.array(after.block_medians_ms)
    found = Change(before, after, slowdown(old, new), rank_sum_p(old, new), ())
    gates = []
    if budget.latency is not None:
        gates.append(_latency_gate(found, 1 + budget.latency / 100))
    if budget.accuracy is not None:
        gates.append(_accuracy_gate(found, budget.accuracy, judged))
    return Change(found.before, found.after, found.slowdown, found.p, tuple(gates))


def _latency_gate(change: Change, limit: float) -> Gate:
    """Passes when the whole interval lies within the budget, fails when all of it lies beyond; nothing is decided by
    timings that are not trustworthy.
    """
    found = change.slowdown
    verdict: Verdict = "pass" if found.high <= limit else "fail" if found.low > limit else "underpowered"
    detail = f"{found.value:.3f} times the time (95 % {found.low:.3f} to {found.high:.3f}), at most {limit:.3f}"
    if change.doubts:
        return Gate("latency", found.value, limit, "underpowered", f"{detail}; not trustworthy")
    return Gate("latency", found.value, limit, verdict, detail)


def _accuracy_gate(change: Change, points: float, judged: bool) -> Gate:
    """Both sides judged the same test images, so the fall is what it is: no interval. A report may quote an accuracy
    that was measured elsewhere, which does not hold where the golden vectors fail.
    """
    if change.after.golden == "fail":
        return Gate(
            "accuracy", None, points, "fail", "the golden vectors fail: its balanced accuracy does not hold here"
        )
    fall = change.fall if judged else None
    if fall is None:
        return Gate("accuracy", None, points, "underpowered", "balanced accuracy is not known of both, on one test set")
    lost = round(100 * fall, 9)  # 0.75 - 0.74 is more than 0.01 in floating point
    verdict: Verdict = "pass" if lost <= points else "fail"
    return Gate("accuracy", lost, points, verdict, f"fell by {lost:.2f} points of balanced accuracy, at most {points}")


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
