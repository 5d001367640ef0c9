"""The report's section on parity: every exported file beside the merged network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from skinedge.run.redaction import without_place
from skinedge.stats.gates import MAX_DROP, MIN_AGREEMENT
from skinedge_bench.evaluate.tables import Cell, Table, interval, number
from skinedge_bench.report import charts
from skinedge_bench.report.charts import Estimate
from skinedge_bench.report.content import Block, Charts, Missing, Section, Text
from skinedge_bench.report.sources import Document, Sources

SHOWN = 10  # changed diagnoses of a file; parity.json has all of them
COLUMNS = (
    *("file", "verdict", "largest difference", "agreement", "95 %", "balanced accuracy", "fall", "macro AUC"),
    *("melanoma sensitivity", "malignant sensitivity / specificity"),
)
FALLS = ("balanced_accuracy_fall", "melanoma_sensitivity_fall", "malignant_sensitivity_fall", "malignant_score_change")


def parity(sources: Sources) -> Section:
    """Every file against the merged network: figures, gates, and whose diagnosis changed."""
    said = sources.parity
    if said is None:
        return Section("Parity with PyTorch", (Missing("Not verified", "skinedge verify RUN"),))
    blocks: list[Block] = [
        Text(f"{_counted(said)}; {without_place(said['images'])}."),
        *_earlier(sources, said["files"]),
    ]
    blocks += [Text(f"Warning: {warning}") for warning in said["warnings"]]
    blocks += [_every_file(said), *_charts(said), _gates(said)]
    blocks += [table for table in (_comparisons(said), _not_passed(said), *_changes(said)) if table.rows]
    return Section("Parity with PyTorch", tuple(blocks))


def _counted(said: Document) -> str:
    """'Gates: 112 pass, 6 underpowered, 0 fail'."""
    verdicts = [gate["verdict"] for file in said["files"].values() for gate in file["gates"]]
    counts = (f"{verdicts.count(verdict)} {verdict}" for verdict in ("pass", "underpowered", "fail"))
    return f"Gates: {', '.join(counts)}"


def _earlier(sources: Sources, files: Mapping[str, Document]) -> Iterator[Missing]:
    """Which of the files that were judged the run has made again since."""
    gone = [name for name, file in files.items() if sources.made_again(name, file["sha256"])]
    if gone:
        yield Missing(f"Of earlier files than the run has now: {', '.join(gone)}", "skinedge verify RUN")


def verdict_of(file: Document) -> str:
    """The worst of a file's gates."""
    verdicts = [gate["verdict"] for gate in file["gates"]]
    return next((verdict for verdict in ("fail", "underpowered") if verdict in verdicts), "pass")


def _judged(said: Document) -> dict[str, Document]:
    """The files that have figures."""
    return {name: file for name, file in said["files"].items() if file["metrics"]}


def _every_file(said: Document) -> Table:
    rows: list[list[Cell]] = []
    if said["reference"]:
        rows.append(["PyTorch, merged", None, *_figures(said["reference"])])
    for name, file in said["files"].items():
        rows.append([name, verdict_of(file), *(_figures(file["metrics"]) if file["metrics"] else [None] * 8)])
    return Table("Every file beside the merged network", COLUMNS, rows)


def _figures(found: Document) -> list[Cell]:
    flags = [number(found["malignant"][name], 3) or "-" for name in ("sensitivity", "specificity")]
    return [
        f"{found['max_difference']:.1e}" if found["max_difference"] is not None else None,
        number(found["agreement"], 4),
        interval((found["agreement_low"], found["agreement_high"])),
        number(found["balanced_accuracy"]),
        number(found["fall"]),
        number(found["macro_auc"]),
        number(found["melanoma_sensitivity"], 3),
        " / ".join(flags),
    ]


def _gates(said: Document) -> Table:
    """One row a gate, one column a file."""
    files = said["files"]
    names = list(dict.fromkeys(gate["name"] for file in files.values() for gate in file["gates"]))
    found = {(name, gate["name"]): gate for name, file in files.items() for gate in file["gates"]}
    limits = {gate["name"]: f"{gate['limit']:g}" for file in files.values() for gate in file["gates"]}
    rows: list[list[Cell]] = []
    for name in names:
        cells = [found.get((file, name)) for file in files]
        rows.append([name.replace("_", " "), limits[name], *(_gate(gate) if gate else None for gate in cells)])
    return Table("Gates", ("gate", "limit", *files), rows)


def _gate(gate: Mapping[str, Any]) -> str:
    value = "not measured" if gate["value"] is None else f"{gate['value']:.4g}"
    return f"{gate['verdict']} {value}"


def _not_passed(said: Document) -> Table:
    rows: list[list[Cell]] = [
        [
            name,
            gate["name"].replace("_", " "),
            gate["verdict"],
            number(gate["value"]),
            f"{gate['limit']:g}",
            gate["detail"],
        ]
        for name, file in said["files"].items()
        for gate in file["gates"]
        if gate["verdict"] != "pass"
    ]
    return Table("Gates that did not pass", ("file", "gate", "verdict", "value", "limit", "why"), rows)


def _charts(said: Document) -> Iterator[Charts]:
    """Agreement, and the paired fall of balanced accuracy, beside their gates."""
    agreement, falls = [], []
    for name, file in _judged(said).items():
        found, paired = file["metrics"], file["comparison"]
        bounds = (found["agreement_low"], found["agreement_high"])
        agreement.append(Estimate(name, found["agreement"], *bounds, _verdict(file, "agreement")))
        if paired and (fall := paired["balanced_accuracy_fall"])["value"] is not None:
            verdict = _verdict(file, "balanced_accuracy_fall")
            falls.append(Estimate(name, fall["value"], fall["low"], fall["high"], verdict))
    drawn = []
    if agreement:
        drawn.append(charts.estimates("Same answer as PyTorch", agreement, MIN_AGREEMENT, "share of test images, 95 %"))
    if falls:
        drawn.append(charts.estimates("Fall of balanced accuracy", falls, MAX_DROP, "paired, 95 %; below 0: a gain"))
    if drawn:
        yield Charts(tuple(drawn))


def _verdict(file: Document, name: str) -> str:
    return next((gate["verdict"] for gate in file["gates"] if gate["name"] == name), "")


def _comparisons(said: Document) -> Table:
    rows: list[list[Cell]] = []
    for name, file in _judged(said).items():
        if found := file["comparison"]:
            table = found["mcnemar"]
            changed = [str(table["only_reference"]), str(table["only_file"]), number(table["p"], 2)]
            rows.append([name, *changed, *(_points(found[key]) for key in FALLS)])
    heads = ("right in PyTorch alone", "right in the file alone", "McNemar's p")
    columns = ("file", *heads, *(key.replace("_", " ") for key in FALLS))
    return Table("What changed, in points of 100 with 95 % intervals", columns, rows)


def _points(found: Mapping[str, float | None] | None) -> str | None:
    """'+1.41 (-0.27 to +3.80)'; None where there was nothing to measure it on."""
    values = [found[key] for key in ("value", "low", "high")] if found else [None]
    shown = [f"{100 * value:+.2f}" for value in values if value is not None]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if len(shown) == 3 else None


def _changes(said: Document) -> Iterator[Table]:
    for name, file in _judged(said).items():
        changed = file["changed"]
        rows: list[list[Cell]] = [
            [
                change["image"],
                change["label"],
                f"{change['reference']} {change['reference_probability']:.3f}",
                f"{change['file']} {change['file_probability']:.3f}",
                f"{change['reference_malignant']:.3f} to {change['file_malignant']:.3f}",
                change["verdict"],
            ]
            for change in changed[:SHOWN]
        ]
        more = f", the first {SHOWN}" if len(changed) > SHOWN else ""
        title = f"{name}: another diagnosis for {len(changed)} of {file['metrics']['n']} images{more}"
        yield Table(title, ("image", "truth", "PyTorch", "file", "malignant score", "flag"), rows)
