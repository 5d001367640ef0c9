"""The report's section on training: curves over the epochs, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from skinedge.run.report_schemas import Epoch
from skinedge_bench.evaluate.tables import Cell, Table, number
from skinedge_bench.report.charts import LearningCurves, Series
from skinedge_bench.report.content import Charts, Missing, Section
from skinedge_bench.report.sources import Sources

COLUMNS = ("epoch", "train loss", "validation balanced accuracy", "validation macro auc", "images per second")


def training(sources: Sources) -> Section:
    """Show the learning curves, and a row for each epoch."""
    report = sources.training
    if report is None:
        return Section("Training", (Missing("Not reported", "skinedge train --data DIR"),))
    table = Table("Every epoch", COLUMNS, [_cells(epoch) for epoch in report.history])
    charts = tuple(_curves(report.history, report.best_epoch))
    return Section("Training", ((Charts(charts),) if charts else ()) + (table,))


def _cells(epoch: Epoch) -> list[Cell]:
    figures = (epoch.train_loss, epoch.val_balanced_accuracy, epoch.val_macro_auc)
    return [number(epoch.epoch, 0), *(number(figure) for figure in figures), number(epoch.images_per_second, 1)]


def _curves(history: Sequence[Epoch], best: float | None) -> Iterator[LearningCurves]:
    loss = _series("loss", [(e.epoch, e.train_loss) for e in history])
    area = _series("macro AUC", [(e.epoch, e.val_macro_auc) for e in history])
    accuracy = _series("balanced accuracy", [(e.epoch, e.val_balanced_accuracy) for e in history])
    for title, lines in (("Training loss", (*loss,)), ("Validation", (*area, *accuracy))):
        if lines:
            yield LearningCurves(title, lines, best)


def _series(name: str, points: Sequence[tuple[float, float | None]]) -> Iterator[Series]:
    defined = tuple((x, y) for x, y in points if y is not None)
    if defined:
        yield Series(name, defined)
