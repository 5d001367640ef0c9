"""The report's sections on accuracy: figures, confusion matrix, ROC curves, reliability, subgroups."""

from __future__ import annotations

from collections.abc import Iterator

from skinedge.run.report_schemas import Bounds, Evaluation
from skinedge_bench.evaluate.tables import interval, number
from skinedge_bench.report.charts import ReliabilityDiagram, RocCurve
from skinedge_bench.report.content import Block, Charts, Heatmap, Missing, Section, Text
from skinedge_bench.report.sources import NETWORK, Sources


def accuracy(sources: Sources) -> Section:
    """Show the figures of one file, else of the merged network."""
    tables, curves = sources.evaluation, sources.curves
    if tables is None or curves is None:
        return Section("Accuracy", (Missing("Not evaluated", "skinedge merge RUN"),))
    figures = tables.figures
    blocks: list[Block] = [Text(_about(figures)), tables.overall]
    if figures.file == NETWORK:
        blocks.append(Missing("Of one file, with subgroups", "skinedge evaluate RUN --out DIR"))
    shares = [[count / max(sum(row), 1) for count in row] for row in figures.confusion]
    blocks.append(Heatmap(tables.confusion, shares))
    if curves.file != figures.file:
        blocks.append(Text(f"This evaluation has no ROC curves: those below are of the network ({NETWORK})."))
    reliability = ReliabilityDiagram(figures.reliability, figures.ece)
    blocks += [Charts((*_malignant_curve(curves), reliability)), tables.per_class]
    if small := tuple(_class_curves(curves)):
        blocks.append(Charts(small, min_width=9))
    blocks.append(tables.intervals)
    return Section("Accuracy", tuple(blocks))


def subgroups(sources: Sources) -> Section:
    """Show the figures by sex, age, body site and skin tone."""
    tables = sources.evaluation
    if tables is None or tables.figures.file == NETWORK:
        command = "skinedge evaluate RUN --data DIR --out DIR"
        return Section("Subgroups", (Missing("Not evaluated by sex, age, site and skin tone", command),))
    unknown = Text("Sex, age, site and skin tone of the evaluated images are unknown.")
    return Section("Subgroups", tables.subgroups or (unknown,))


def decisions(sources: Sources) -> Iterator[Section]:
    """Yield the section on thresholds and on what a flag means; none without an evaluation that has these figures."""
    tables = sources.evaluation
    if tables is not None and tables.decisions:
        yield Section("What a flag means", tables.decisions)


def _malignant_curve(evaluation: Evaluation) -> Iterator[RocCurve]:
    """Yield the ROC curve of the malignant score with its decision threshold, if it is defined."""
    malignant = evaluation.malignant
    corners = None if evaluation.roc is None else evaluation.roc.malignant
    if corners:
        sensitivity, specificity = malignant.sensitivity, malignant.specificity
        point = None if sensitivity is None or specificity is None else (1 - specificity, sensitivity)
        area = _area(malignant.auc, evaluation.intervals.get("malignant_auc"))
        yield RocCurve(f"Malignant against benign ({evaluation.file})", corners, area, point)


def _class_curves(evaluation: Evaluation) -> Iterator[RocCurve]:
    """Yield the ROC curve of each class for which it is defined."""
    for label, corners in (evaluation.roc.per_class if evaluation.roc else {}).items():
        if corners:
            yield RocCurve(label, corners, _area(evaluation.per_class[label].auc, None), small=True)


def defined(bounds: Bounds | None) -> tuple[float, float] | None:
    """Return an interval; None unless both its ends are defined."""
    low, high = bounds or (None, None)
    return None if low is None or high is None else (low, high)


def _area(auc: float | None, bounds: Bounds | None) -> str:
    limits = interval(defined(bounds))
    return f"AUC {number(auc, 3) or '-'}" + (f" ({limits})" if limits else "")


def _about(evaluation: Evaluation) -> str:
    """Say which file was evaluated on which images, and whether the run had them in a split."""
    if evaluation.file == NETWORK:
        what = "The merged network in PyTorch, fp32, from its stored logits"
    else:
        what = f"{evaluation.file}, judged by skinedge evaluate"
    if evaluation.seen is None:
        overlap = " Whether it was trained on them is unknown."
    else:
        counts = evaluation.seen.items()
        overlap = "".join(f" {count} of them were in the run's split '{split}'." for split, count in counts)
    return f"{what}, on {evaluation.n:,} images (split: {evaluation.split}).{overlap}"
