"""skinedge compare"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.app import app
from skinedge.cli.common import emit_json, figure, note, table
from skinedge.cli.options import JsonOption

if TYPE_CHECKING:
    from skinedge_bench.latency.regression import Change, Regression

COLUMNS = ("file", "A p50 ms", "B p50 ms", "B / A", "95 %", "p", "verdict", "bal. acc.", "MB")


def _non_negative(text: str) -> float:
    """'5' or '5%' -> 5.0. Raises: typer.BadParameter for anything but a finite number of at least 0."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"{text} is not a number of at least 0")
    return value


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="Baseline: a run or a latency report.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Candidate: a run or a latency report.")],
    budget_latency: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT", parser=_non_negative, help="Allowed latency increase of B over A. [default: no limit]"
        ),
    ] = None,
    budget_accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", parser=_non_negative, help="Allowed drop in balanced accuracy. [default: no limit]"
        ),
    ] = None,
    allow_different: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Allow this property of device or environment to differ. Repeatable."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on inconclusive comparisons too.")] = False,
    json: JsonOption = False,
) -> None:
    """Compare two latency reports and check budgets.

    Exits with 1 if a file of B exceeds a budget.
    """
    from skinedge.core.errors import GateError
    from skinedge_bench.latency.regression import Budget, read_report
    from skinedge_bench.latency.regression import compare as compare_reports

    reports = read_report(before), read_report(after)
    budget = Budget(budget_latency, budget_accuracy)
    regression = compare_reports(*reports, budget, allowed=tuple(allow_different or ()), strict=strict)
    if json:
        sha256 = reports[1].model_sha256
        emit_json("bench-compare", regression.document(), model_id=reports[1].model_id, model_sha256=sha256)
    else:
        show(regression, before, after)
    failures = regression.failures()
    if failures:
        what = "beyond the budget, or inconclusive" if strict else "beyond the budget"
        raise GateError(f"{what}: {'; '.join(failures)}")


def show(regression: Regression, before: Path, after: Path) -> None:
    """Print the table on standard output; print doubts, allowed differences and unmatched files on standard error."""
    changes = regression.changes
    table(f"A: {before}; B: {after}", COLUMNS, [_cells(change) for change in changes])
    doubted: dict[str, list[str]] = {}
    for change in changes:
        for doubt in change.doubts:
            doubted.setdefault(doubt, []).append(change.before.key)
    for doubt, keys in doubted.items():
        note(f"not trustworthy: {doubt}: {'all' if len(keys) == len(changes) else ', '.join(keys)}")
    for change in changes:
        for gate in change.gates:
            if gate.verdict == "inconclusive":
                note(f"{change.before.key}: {gate.name} {gate.word}: {gate.detail}")
    for name, (old, new) in regression.differences.items():
        note(f"differs, as allowed: {name}: {old} in A, {new} in B")
    for label, files in (("only in A", regression.lost), ("only in B", regression.added)):
        if files:
            note(f"{label}: {', '.join(files)}")


def _cells(change: Change) -> list[str | None]:
    before, after, ratio = change.before, change.after, change.slowdown
    return [
        f"{before.file} ({before.runtime}{f', {before.threads} threads' if before.threads > 1 else ''})",
        figure(before.p50_ms, 2),
        figure(after.p50_ms, 2),
        figure(ratio.value, 3),
        None if math.isnan(ratio.low) else f"{ratio.low:.3f}-{ratio.high:.3f}",
        f"{change.p:.2g}",
        change.verdict,
        _old_to_new(figure(before.balanced_accuracy), figure(after.balanced_accuracy)),
        _old_to_new(figure(before.size_bytes / 1e6, 2), figure(after.size_bytes / 1e6, 2)),
    ]


def _old_to_new(old: str | None, new: str | None) -> str | None:
    return old if old == new else f"{old or '-'} to {new or '-'}"
