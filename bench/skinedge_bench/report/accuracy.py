"""The report's sections on accuracy: figures, confusion matrix, ROC curves, reliability, subgroups."""

from __future__ import annotations

from collections.abc import Iterator

from skinedge.run.manifest import Manifest
from skinedge.run.report_schemas import Bounds, Evaluation
from skinedge.stats import metrics
from skinedge_bench.evaluate.tables import Cell, Table, interval, number
from skinedge_bench.report.charts import ReliabilityDiagram, RocCurve
from skinedge_bench.report.content import Block, Charts, Heatmap, Missing, Section, Text
from skinedge_bench.report.mistakes import named
from skinedge_bench.report.sources import NETWORK, Sources


def accuracy(sources: Sources) -> Section:
    """Show the figures of one file, else of the merged network: counts of each class, overall, and what is confused."""
    tables, curves = sources.evaluation, sources.curves
    if tables is None or curves is None:
        return Section("Accuracy", (Missing("Not evaluated", "skinedge merge RUN"),))
    figures = tables.figures
    blocks: list[Block] = [Text(_about(figures)), class_counts(sources.bundle.manifest, figures), tables.overall]
    if figures.file == NETWORK:
        blocks.append(Missing("Of one file, with subgroups", "skinedge evaluate RUN --out DIR"))
    shares = [[count / max(sum(row), 1) for count in row] for row in figures.confusion]
    blocks += [Heatmap(tables.confusion, shares), *_replaced(sources)]
    reliability = ReliabilityDiagram(figures.reliability, figures.ece)
    blocks.append(Charts((*_malignant_curve(curves.figures), reliability)))
    return Section("Accuracy", tuple(blocks))


def class_counts(manifest: Manifest, figures: Evaluation) -> Table:
    """Count, for each class, the images with the right answer and those that are flagged, with Wilson's intervals."""
    rows: list[list[Cell]] = []
    for index, counts in enumerate(figures.confusion):
        label, images = manifest.labels[index], sum(counts)
        right = _counted(counts[index], images)
        flagged = figures.per_class[label].flagged if label in figures.per_class else None
        shown = _counted(*flagged) if flagged else (None, None)
        rows.append([named(label), manifest.taxonomy[label], images, *right, *shown])
    columns: tuple[str, ...] = ("class", "kind", "images", "right answer", "95 %", "flagged", "95 %")
    if all(row[-1] is None for row in rows):  # an older evaluation, or no threshold
        columns, rows = columns[:5], [row[:5] for row in rows]
    return Table("Each class in counts (right answer: most probable class; 95 % by Wilson)", columns, rows)


def _counted(hits: int, images: int) -> tuple[str | None, str | None]:
    """('12 of 20', '0.387-0.781'); None without images."""
    return (f"{hits} of {images}", interval(metrics.wilson(hits, images))) if images else (None, None)


def class_metrics(sources: Sources) -> Iterator[Section]:
    """Yield the section on the metrics of each class against the rest, with ROC curves; none without an evaluation."""
    tables, curves = sources.evaluation, sources.curves
    if tables is None or curves is None:
        return
    blocks: list[Block] = [tables.per_class, *_replaced(sources)]
    if small := tuple(_class_curves(curves.figures)):
        blocks.append(Charts(small, min_width=9))
    yield Section("Metrics of each class", (*blocks, tables.intervals))


def _replaced(sources: Sources) -> Iterator[Text]:
    """Say where the curves are the network's because the evaluation has none."""
    own, curves = sources.evaluation, sources.curves
    if own is not None and curves is not None and curves.figures.file != own.figures.file:
        yield Text(f"This evaluation has no ROC curves: those below are of the network ({NETWORK}).")


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
    tables = [tables for tables in (sources.evaluation, sources.curves) if tables is not None and tables.decisions]
    if not tables:
        return
    note = (Text(f"This evaluation has no such tables: those below are of the network ({NETWORK})."),)
    yield Section("What a flag means", (*(note if tables[0] is not sources.evaluation else ()), *tables[0].decisions))


def sentences(figures: Evaluation) -> tuple[str, ...]:
    """Return the evaluation in sentences: its own, else, for older ones, made from its counts."""
    if figures.summary:
        return figures.summary
    lines = [f"On {figures.n:,} images (split: {figures.split}): balanced accuracy {_percent(figures)}."]
    malignant = figures.malignant
    flagged, not_flagged, threshold = malignant.sensitivity_counts, malignant.specificity_counts, malignant.threshold
    if flagged and not_flagged and threshold is not None:
        lines.append(
            f"Flagged as malignant (score {threshold:.3f} or more): {flagged[0]} of {flagged[1]} malignant images, and "
            f"{not_flagged[1] - not_flagged[0]} of {not_flagged[1]} benign ones (false alarms)."
        )
    return tuple(lines)


def _percent(figures: Evaluation) -> str:
    value = figures.balanced_accuracy
    return "undefined" if value is None else f"{100 * value:.1f} %"


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
