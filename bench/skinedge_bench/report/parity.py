"""The report's section on parity: every exported file against the merged network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from skinedge.run.redaction import without_place
from skinedge.run.report_schemas import Comparison, FileVerdict, IntervalEstimate, Metrics, Parity
from skinedge.stats.gates import MAX_DROP, MIN_AGREEMENT, Gate, verdict_of
from skinedge.stats.verdicts import Verdict, counted_gates, word
from skinedge_bench.evaluate.tables import Cell, Table, interval, number
from skinedge_bench.report.accuracy import defined
from skinedge_bench.report.charts import Estimate, Estimates
from skinedge_bench.report.content import Block, Charts, Missing, Section, Text
from skinedge_bench.report.sources import NETWORK, Sources

SHOWN = 10  # changed diagnoses of a file; parity.json has all of them
COLUMNS = (
    *("file", "verdict", "largest difference", "agreement", "95 %", "balanced accuracy", "drop", "macro AUC"),
    *("melanoma sensitivity", "malignant sensitivity / specificity"),
)


def parity(sources: Sources) -> Section:
    """Compare every file with the merged network: figures, gates, and images with another diagnosis."""
    title, report = "Parity with PyTorch", sources.parity
    if report is None:
        return Section(title, (Missing("Not verified", "skinedge verify RUN"),))
    blocks: list[Block] = [Text(f"{_counted(report)}; {without_place(report.images)}."), *_outdated(sources, report)]
    blocks += [Text(f"Warning: {warning}") for warning in report.warnings]
    blocks += [_every_file(report), *_charts(report), _gates(report.files)]
    tables = (_comparisons(report), _not_passed(report), *_changes(report))
    return Section(title, (*blocks, *(table for table in tables if table.rows)))


def _counted(report: Parity) -> str:
    """'118 gates in 8 files: 112 passed, 6 inconclusive'."""
    verdicts = [gate.verdict for file in report.files.values() for gate in file.gates]
    return counted_gates(verdicts, f"in {len(report.files)} files")


def _outdated(sources: Sources, report: Parity) -> Iterator[Missing]:
    """Name the verified files that have changed since."""
    names = [name for name, file in report.files.items() if sources.is_outdated(name, file.sha256)]
    if names:
        yield Missing(f"Of earlier files than the run has now: {', '.join(names)}", "skinedge verify RUN")


def _measured(report: Parity) -> Iterator[tuple[str, FileVerdict, Metrics]]:
    """Yield the files that were judged on images."""
    for name, file in report.files.items():
        if file.metrics is not None:
            yield name, file, file.metrics


def _every_file(report: Parity) -> Table:
    rows: list[list[Cell]] = []
    if report.reference is not None:
        rows.append([NETWORK, None, *_figures(report.reference)])
    for name, file in report.files.items():
        rows.append([name, word(file.worst), *(_figures(file.metrics) if file.metrics else [None] * 8)])
    return Table("Every file beside the merged network", COLUMNS, rows)


def _figures(metrics: Metrics) -> list[Cell]:
    rates = [number(rate, 3) or "-" for rate in (metrics.malignant.sensitivity, metrics.malignant.specificity)]
    return [
        f"{metrics.max_difference:.1e}" if metrics.max_difference is not None else None,
        number(metrics.agreement, 4),
        interval(defined((metrics.agreement_low, metrics.agreement_high))),
        number(metrics.balanced_accuracy),
        number(metrics.fall),
        number(metrics.macro_auc),
        number(metrics.melanoma_sensitivity, 3),
        " / ".join(rates),
    ]


def _gates(files: Mapping[str, FileVerdict]) -> Table:
    """Tabulate gates by file: a row for each gate, a column for each file."""
    by_file = {name: {gate.name: gate for gate in file.gates} for name, file in files.items()}
    limits = {gate.name: gate.limit for file in files.values() for gate in file.gates}
    rows: list[list[Cell]] = [
        [gate.replace("_", " "), f"{limit:g}", *(_gate(gates.get(gate)) for gates in by_file.values())]
        for gate, limit in limits.items()
    ]
    return Table("Gates", ("gate", "limit", *files), rows)


def _gate(gate: Gate | None) -> str | None:
    if gate is None:
        return None
    return gate.word if gate.verdict == "not measured" else f"{gate.word} {gate.measured}"


def _not_passed(report: Parity) -> Table:
    rows: list[list[Cell]] = [
        [name, gate.name.replace("_", " "), gate.word, number(gate.value), f"{gate.limit:g}", gate.detail]
        for name, file in report.files.items()
        for gate in file.gates
        if gate.verdict != "pass"
    ]
    return Table("Gates that did not pass", ("file", "gate", "verdict", "value", "limit", "why"), rows)


def _charts(report: Parity) -> Iterator[Charts]:
    """Yield agreement, and the paired drop of balanced accuracy, beside the limits of their gates."""
    agreement: list[Estimate] = []
    drops: list[Estimate] = []
    for name, file, metrics in _measured(report):
        values = (metrics.agreement, metrics.agreement_low, metrics.agreement_high)
        agreement += _estimate(name, IntervalEstimate(*values), verdict_of(file.gates, "agreement"))
        if file.comparison is not None:
            drop = file.comparison.balanced_accuracy_fall
            drops += _estimate(name, drop, verdict_of(file.gates, "balanced_accuracy_fall"))
    charts = []
    if agreement:
        unit = "share of test images, 95 %"
        charts.append(Estimates("Same answer as PyTorch", tuple(agreement), MIN_AGREEMENT, unit))
    if drops:
        unit = "paired, 95 %; below 0: a gain"
        charts.append(Estimates("Drop of balanced accuracy", tuple(drops), MAX_DROP, unit))
    if charts:
        yield Charts(tuple(charts))


def _estimate(name: str, estimate: IntervalEstimate | None, verdict: Verdict | None) -> Iterator[Estimate]:
    values = _values(estimate)
    if values is not None:
        yield Estimate(name, *values, verdict)


def _values(estimate: IntervalEstimate | None) -> tuple[float, float, float] | None:
    """Return (value, low, high); None unless all three are defined."""
    if estimate is None or estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return estimate.value, estimate.low, estimate.high


def _comparisons(report: Parity) -> Table:
    rows = [_comparison(name, file.comparison) for name, file, _ in _measured(report) if file.comparison]
    heads = ("right in PyTorch alone", "right in the file alone", "McNemar's p")
    drops = ("balanced accuracy", "melanoma sensitivity", "malignant sensitivity")
    columns = ("file", *heads, *(f"drop of {name}" for name in drops), "change of malignant score")
    return Table("What changed, in points of 100 with 95 % intervals", columns, rows)


def _comparison(name: str, comparison: Comparison) -> list[Cell]:
    counts = comparison.mcnemar
    drops = (
        comparison.balanced_accuracy_fall,
        comparison.melanoma_sensitivity_fall,
        comparison.malignant_sensitivity_fall,
        comparison.malignant_score_change,
    )
    return [name, str(counts.only_reference), str(counts.only_file), number(counts.p, 2), *map(_points, drops)]


def _points(estimate: IntervalEstimate | None) -> str | None:
    """'+1.41 (-0.27 to +3.80)'; None where it was not measured."""
    values = _values(estimate)
    if values is None:
        return None
    value, low, high = (f"{100 * value:+.2f}" for value in values)
    return f"{value} ({low} to {high})"


def _changes(report: Parity) -> Iterator[Table]:
    """Yield, for each file, the images with another diagnosis."""
    for name, file, metrics in _measured(report):
        rows: list[list[Cell]] = [
            [
                change.image,
                change.label,
                f"{change.reference} {change.reference_probability:.3f}",
                f"{change.file} {change.file_probability:.3f}",
                f"{change.reference_malignant:.3f} to {change.file_malignant:.3f}",
                change.verdict,
            ]
            for change in file.changed[:SHOWN]
        ]
        more = f", the first {SHOWN}" if len(file.changed) > SHOWN else ""
        title = f"{name}: another diagnosis for {len(file.changed)} of {metrics.n} images{more}"
        yield Table(title, ("image", "truth", "PyTorch", "file", "malignant score", "flag"), rows)
