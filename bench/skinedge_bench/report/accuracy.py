"""The report's sections on how right the model is: figures, confusion, ROC, reliability, subgroups."""

from __future__ import annotations

from collections.abc import Iterator

from skinedge_bench.evaluate.tables import class_intervals, interval, number, tables
from skinedge_bench.report import charts
from skinedge_bench.report.content import Block, Chart, Charts, Heatmap, Missing, Section, Text
from skinedge_bench.report.sources import NETWORK, Document, Sources

SMALL = 200.0  # width of a class's ROC curve, of which many stand side by side


def accuracy(sources: Sources) -> Section:
    """Figures of one file, else of the merged network."""
    said = sources.evaluation
    if said is None:
        return Section("Accuracy", (Missing("Not judged", "skinedge merge RUN"),))
    per_class, confusion, overall, *_ = tables(said)
    blocks: list[Block] = [Text(_about(said)), overall]
    if said["file"] == NETWORK:
        blocks.append(Missing("Of one file, with subgroups", "skinedge evaluate RUN --out DIR"))
    rows = said["confusion"]
    blocks.append(Heatmap(confusion, [[count / max(sum(row), 1) for count in row] for row in rows]))
    if sources.curves is not None and sources.curves["file"] != said["file"]:
        blocks.append(Text(f"This evaluation keeps no ROC curves: those below are of the network ({NETWORK})."))
    big, small = curves(sources.curves or said)
    error = said["ece"]
    blocks.append(Charts((*big, charts.reliability(said["reliability"], error))))
    blocks.append(per_class)
    if small:
        blocks.append(Charts(small, least=9))
    blocks.append(class_intervals(said))
    return Section("Accuracy", tuple(blocks))


def subgroups(sources: Sources) -> Section:
    """By sex, age and body site."""
    said = sources.evaluation
    command = "skinedge evaluate RUN --data DIR --out DIR"
    if said is None or said["file"] == NETWORK:
        return Section("Subgroups", (Missing("Not judged by sex, age and site", command),))
    groups = tuple(tables(said)[3:])
    return Section("Subgroups", groups or (Text("Nothing tells sex, age or site of the images that were judged."),))


def curves(said: Document) -> tuple[tuple[Chart, ...], tuple[Chart, ...]]:
    """The malignant score's ROC curve, with the threshold; and each class's. Those that are undefined are left out."""
    return tuple(_malignant_curve(said)), tuple(_class_curves(said))


def _malignant_curve(said: Document) -> Iterator[Chart]:
    found, malignant = said.get("roc", {}).get("malignant"), said["malignant"]
    if found:
        sensitivity, specificity = malignant["sensitivity"], malignant["specificity"]
        mark = None if sensitivity is None or specificity is None else (1 - specificity, sensitivity)
        title = f"Malignant against benign ({said['file']})"
        yield charts.roc(title, found, _area(malignant["auc"], said["intervals"].get("malignant_auc")), mark)


def _class_curves(said: Document) -> Iterator[Chart]:
    for label, corners in said.get("roc", {}).get("per_class", {}).items():
        if corners:
            area = f"AUC {number(said['per_class'][label]['auc'], 3)}"
            yield charts.roc(label, corners, area, None, width=SMALL)


def _area(auc: float, bounds: list[float] | None) -> str:
    between = interval(bounds)
    return f"AUC {number(auc, 3)}" + (f" ({between})" if between else "")


def _about(said: Document) -> str:
    """What was judged on what, and what the model knew of it before."""
    if said["file"] == NETWORK:
        what = "The merged network in PyTorch, fp32, from its kept logits"
    else:
        what = f"{said['file']}, judged by skinedge evaluate"
    seen = said["seen"]
    if seen is None:
        met = " Whether it was trained on them is not known."
    else:
        met = "".join(f" {count} of them were in the run's split '{place}'." for place, count in seen.items())
    return f"{what}, on {said['n']:,} images (split: {said['split']}).{met}"
