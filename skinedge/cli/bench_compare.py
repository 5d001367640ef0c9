"""What `skinedge bench --compare A B` prints, and its options."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skinedge.cli.common import emit_json, figure, note, table

if TYPE_CHECKING:
    from skinedge_bench.latency.regression import Change, Regression

CompareOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option("--compare", metavar="A B", help="Measure nothing: what changed from A to B (runs or reports)?"),
]


def _share(text: str) -> float:
    """'5' or '5%' -> 5.0. Raises: typer.BadParameter for what is no such number."""
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise typer.BadParameter(f"{text} is not a number from 0 on")
    return value


LatencyBudget = Annotated[
    float | None,
    typer.Option(
        "--budget-latency", metavar="PER CENT", parser=_share, help="With --compare: B may take so much longer."
    ),
]
AccuracyBudget = Annotated[
    float | None,
    typer.Option(
        "--budget-accuracy", metavar="POINTS", parser=_share, help="With --compare: balanced accuracy may fall so far."
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow-different", metavar="NAME", help="With --compare: this may differ (several: repeat it)."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="With --compare: what nobody can tell fails as well.")]
OWN = ("compare", "budget_latency", "budget_accuracy", "allow_different", "strict", "json")
COLUMNS = ("file", "A p50 ms", "B p50 ms", "B / A", "95 %", "p", "verdict", "bal. acc.", "MB")


@dataclass(frozen=True)
class Limits:
    """What the options of `--compare` say."""

    latency: float | None
    accuracy: float | None
    allowed: tuple[str, ...]
    strict: bool

    def refuse_alone(self) -> None:
        """Raises: ConfigError when one was given without `--compare`."""
        from skinedge.core.errors import ConfigError

        if self != Limits(None, None, (), False):
            what = "--budget-latency, --budget-accuracy, --allow-different and --strict are for two reports"
            raise ConfigError(what, todo="Name them: --compare A B")


def refuse_measuring(given: typer.Context) -> None:
    """Raises: ConfigError where what was given beside `--compare` is for a measurement, such as a run or `--out`."""
    from skinedge.core.errors import ConfigError

    for parameter in given.command.params:
        name = parameter.name or ""
        source = given.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in OWN:
            raise ConfigError(f"--compare measures nothing: it takes two runs or reports, and no {parameter.opts[-1]}")


def compare_reports(reports: tuple[Path, Path], limits: Limits, *, json: bool) -> None:
    """Compare, print, and fail where something is beyond the budget."""
    from skinedge.core.errors import GateError
    from skinedge_bench.latency.regression import Budget, compare, read_report

    before, after = map(read_report, reports)
    budget = Budget(limits.latency, limits.accuracy)
    found = compare(before, after, budget, allowed=limits.allowed, strict=limits.strict)
    if json:
        emit_json("bench-compare", found.document(), model_id=after.model_id, model_sha256=after.model_sha256)
    else:
        show(found, reports)
    beyond = found.failures()
    if beyond:
        what = "beyond the budget, or undecided" if limits.strict else "beyond the budget"
        raise GateError(f"{what}: {'; '.join(beyond)}")


def show(found: Regression, reports: tuple[Path, Path]) -> None:
    """The table; doubts and what was left out go to standard error."""
    table(f"A: {reports[0]}; B: {reports[1]}", COLUMNS, [_cells(change) for change in found.changes])
    doubted: dict[str, list[str]] = {}
    for change in found.changes:
        for doubt in change.doubts:
            doubted.setdefault(doubt, []).append(change.before.key)
    for doubt, keys in doubted.items():
        note(f"not trustworthy: {doubt}: {'all' if len(keys) == len(found.changes) else ', '.join(keys)}")
    for change in found.changes:
        for gate in change.gates:
            if gate.verdict == "underpowered":
                note(f"{change.before.key}: {gate.name} undecided: {gate.detail}")
    for name, (old, new) in found.differences.items():
        note(f"different, as allowed: {name}: {old}, then {new}")
    for text, kept in (("in A alone", found.lost), ("in B alone", found.added)):
        if kept:
            note(f"{text}: {', '.join(kept)}")


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
        _both(figure(before.balanced_accuracy), figure(after.balanced_accuracy)),
        _both(figure(before.size_bytes / 1e6, 2), figure(after.size_bytes / 1e6, 2)),
    ]


def _both(old: str | None, new: str | None) -> str | None:
    """Once where they are the same."""
    return old if old == new else f"{old or '-'} to {new or '-'}"
