"""The report's section on the precisions that were tried for each file."""

from __future__ import annotations

from collections.abc import Iterator

from skinedge.run.report_schemas import Candidate, PrecisionSearch
from skinedge.stats import metrics
from skinedge.stats.gates import MIN_AGREEMENT, verdict_of
from skinedge.stats.verdicts import word
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.report.charts import Estimate, Estimates
from skinedge_bench.report.content import Block, Charts, Missing, Section, Text
from skinedge_bench.report.sources import Sources

COLUMNS = (
    *("precision", "verdict", "choice", "agreement", "balanced accuracy", "drop", "melanoma sensitivity"),
    *("ms", "MB", "failed gates"),
)


def precision_search(sources: Sources) -> Section:
    """Show every precision that was tried, with its verdict."""
    blocks: list[Block] = []
    charts: list[Estimates] = []
    for search in sources.searches.values():
        blocks.append(_candidates(search))
        charts += _agreement(search)
        if search.given_up:
            blocks.append(Text(f"Cost of {search.chosen}: {search.given_up}."))
    if charts:
        blocks.append(Charts(tuple(charts)))
    if not blocks:
        blocks.append(Missing("No precision search", "skinedge export RUN --int8"))
    return Section("Precision search", tuple(blocks))


def _candidates(search: PrecisionSearch) -> Table:
    rows = [_row(candidate, candidate.rung == search.chosen) for candidate in search.rungs]
    return Table(f"{search.file}: tried on {search.validation_images} validation images", COLUMNS, rows)


def _row(candidate: Candidate, chosen: bool) -> list[Cell]:
    failed = ", ".join(gate.name for gate in candidate.gates if gate.verdict == "fail")
    figures: list[Cell] = [None] * 4
    if (v := candidate.validation) is not None:
        figures = [number(x) for x in (v.agreement, v.balanced_accuracy, v.fall, v.melanoma_sensitivity)]
    cost = [number(candidate.milliseconds, 2), f"{candidate.size_bytes / 1e6:.2f}"]
    return [candidate.rung, word(candidate.worst), "chosen" if chosen else None, *figures, *cost, failed or None]


def _agreement(search: PrecisionSearch) -> Iterator[Estimates]:
    """Yield the chart of the agreement with PyTorch, of the candidates that were judged on images."""
    rows = []
    for candidate in search.rungs:
        if (v := candidate.validation) is not None:
            low, high = metrics.wilson(round(v.agreement * v.images), v.images)
            rows.append(Estimate(candidate.rung, v.agreement, low, high, verdict_of(candidate.gates, "agreement")))
    if rows:
        title = f"{search.file}: same answer as PyTorch"
        yield Estimates(title, tuple(rows), MIN_AGREEMENT, "share of validation images, 95 %")
