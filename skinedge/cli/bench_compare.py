"""What `skinedge bench --compare A B` prints, and its options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.common import emit_json, figure, note, table

if TYPE_CHECKING:
    from skinedge_bench.regression import Change, Regression

CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="Measure nothing: what changed from A to B (runs or reports)?"),
]
LatencyBudget = Annotated[
    float | None,
    typer.Option("--budget-latency", metavar="PER CENT", min=0, help="With --compare: B may take so much longer."),
]
AccuracyBudget = Annotated[
    float | None,
    typer.Option(
        "--budget-accuracy", metavar="POINTS", min=0, help="With --compare: balanced accuracy may fall so far."
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow-different", metavar="NAME", help="With --compare: this may differ (several: repeat it)."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="With --compare: what nobody can tell fails as well.")]
COLUMNS = ("file", "A p50", "B p50", "B / A", "95 %", "p", "", "A bal. acc.", "B bal. acc.", "A MB", "B MB")


@dataclass(frozen=True)
class Limits:
    """What the options of `--compare` say."""

    latency: float | None
    accuracy: float | None
    allowed: tuple[str, ...]
    strict: bool

    def refuse_alone(self) -> None:
        """Raises: ConfigError when one was given without `--compare`."""
        from skinedge.errors import ConfigError

        if self != Limits(None, None, (), False):
            what = "--budget-latency, --budget-accuracy, --allow-different and --strict are for two reports"
            raise ConfigError(what, todo="Name them: --compare A B")


def compare_reports(reports: tuple[Path, Path], run: Path | None, limits: Limits, *, json: bool) -> None:
    """Compare, print, and fail where something is beyond the budget. run: named beside the reports by mistake."""
    from skinedge.errors import ConfigError, GateError
    from skinedge_bench.regression import Budget, compare, read_report

    if run is not None:
        raise ConfigError("--compare measures nothing: it takes two runs or reports, and no third", where=str(run))
    before, after = map(read_report, reports)
    budget = Budget(limits.latency, limits.accuracy)
    found = compare(before, after, budget, allowed=limits.allowed, strict=limits.strict)
    if json:
        emit_json("bench-compare", found.document(), model_id=after.model_id, model_sha256=after.model_sha256)
    else:
        show(found, reports)
    beyond = found.failures()
    if beyond:
        raise GateError(f"beyond the budget: {'; '.join(beyond)}")


def show(found: Regression, reports: tuple[Path, Path]) -> None:
    """The table; doubts and what was left out go to standard error."""
    table(f"A: {reports[0]}; B: {reports[1]}", COLUMNS, [_cells(change) for change in found.changes])
    for change in found.changes:
        if change.doubts:
            note(f"{change.before.key}: not trustworthy: {'; '.join(change.doubts)}")
        for gate in change.gates:
            note(f"{change.before.key}: {gate.name} {gate.verdict}: {gate.detail}")
    for name, (old, new) in found.differences.items():
        note(f"different, as allowed: {name}: {old}, then {new}")
    for text, keys in (("in A alone", found.lost), ("in B alone", found.added)):
        if keys:
            note(f"{text}: {', '.join(keys)}")


def _cells(change: Change) -> list[str | None]:
    before, after, ratio = change.before, change.after, change.slowdown
    return [
        before.key,
        figure(before.p50_ms, 2),
        figure(after.p50_ms, 2),
        figure(ratio.value, 3),
        f"{ratio.low:.3f}-{ratio.high:.3f}",
        f"{change.p:.2g}",
        change.verdict,
        *(figure(row.balanced_accuracy) for row in (before, after)),
        *(figure(row.size_bytes / 1e6, 2) for row in (before, after)),
    ]
