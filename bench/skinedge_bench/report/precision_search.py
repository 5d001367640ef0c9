"""The report's section on the precisions that were tried for each file."""

from __future__ import annotations

from collections.abc import Iterator

from skinedge.stats import metrics
from skinedge.stats.gates import MIN_AGREEMENT
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.report import charts
from skinedge_bench.report.charts import Estimate
from skinedge_bench.report.content import Block, Chart, Charts, Missing, Section, Text
from skinedge_bench.report.sources import Document, Sources, is_valid

COLUMNS = (
    *("precision", "verdict", "choice", "agreement", "balanced accuracy", "fall", "melanoma sensitivity"),
    *("ms", "MB", "failed gates"),
)


def precision_search(sources: Sources) -> Section:
    """Every precision that was tried, with its verdict."""
    blocks: list[Block] = []
    drawn: list[Chart] = []
    for name, found in sources.ladders.items():
        with is_valid(sources.bundle.root / name):
            blocks.append(_rungs(found))
            drawn += _chart(found)
            if found["given_up"]:
                blocks.append(Text(f"What {found['chosen']} costs: {found['given_up']}."))
    if drawn:
        blocks.append(Charts(tuple(drawn)))
    if not blocks:
        blocks.append(Missing("No ladder was climbed", "skinedge export RUN --int8"))
    return Section("Ladder of precisions", tuple(blocks))


def _rungs(found: Document) -> Table:
    rows: list[list[Cell]] = []
    for rung in found["rungs"]:
        judged = rung["validation"] or {}
        verdict = "rejected" if not rung["passed"] else "passed" if rung["convincing"] else "in doubt"
        chosen = "chosen" if rung["rung"] == found["chosen"] else None
        keys = ("agreement", "balanced_accuracy", "fall", "melanoma_sensitivity")
        figures = [number(judged.get(key)) for key in keys]
        cost = [number(rung["milliseconds"], 2), f"{rung['size_bytes'] / 1e6:.2f}"]
        failed = ", ".join(gate["name"] for gate in rung["gates"] if gate["verdict"] == "fail")
        rows.append([rung["rung"], verdict, chosen, *figures, *cost, failed or None])
    return Table(f"{found['file']}: tried on {found['validation_images']} validation images", COLUMNS, rows)


def _chart(found: Document) -> Iterator[Chart]:
    """Agreement with PyTorch of every rung that was judged on images."""
    rows = []
    for rung in found["rungs"]:
        if judged := rung["validation"]:
            n, share = judged["images"], judged["agreement"]
            gate = next((g["verdict"] for g in rung["gates"] if g["name"] == "agreement"), "")
            rows.append(Estimate(rung["rung"], share, *metrics.wilson(round(share * n), n), gate))
    if rows:
        title = f"{found['file']}: same answer as PyTorch"
        yield charts.estimates(title, rows, MIN_AGREEMENT, "share of validation images, 95 %")
