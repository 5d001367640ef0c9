"""`skinedge report`: the kept reports of a run as one Markdown page, e.g. for a pull request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from skinedge.bundle import Bundle
from skinedge_bench.evaluation_tables import sections, tables

REPORTS = {
    "training": "reports/training.json",
    "parity": "reports/parity.json",
    "latency": "reports/latency.json",
    "evaluation": "reports/evaluation.json",  # in a packed model alone: `evaluate` writes where it is told to
}


def read_reports(bundle: Bundle) -> dict[str, dict[str, Any] | None]:
    """What each stage reported, None where it has not run (raw latency samples are left out).

    Raises: BundleError when a report was changed after it was made.
    """
    found: dict[str, dict[str, Any] | None] = {}
    for name, path in REPORTS.items():
        found[name] = json.loads(bundle.file(path).read_text(encoding="utf-8")) if bundle.has(path) else None
    if (latency := found["latency"]) is not None:
        latency.pop("samples_ms", None)
    return found


def markdown(bundle: Bundle, notice: str) -> str:
    """The page; a stage that has not run is named as such."""
    reports, manifest = read_reports(bundle), bundle.manifest
    training = manifest.training
    counts = {split: sum(labels.values()) for split, labels in training["data"]["counts"].items()}
    lines = [
        f"# {manifest.name}" + (" (SYNTHETIC images)" if manifest.synthetic else ""),
        notice,
        f"{training['backbone']} at {manifest.preprocess.size} px, {training['data']['kind']}: "
        + ", ".join(f"{split} {count}" for split, count in counts.items()),
        "## Training",
        _training(reports["training"]),
        "## Parity",
        _parity(reports["parity"]),
        "## Latency",
        _latency(reports["latency"]),
        *_evaluation(reports["evaluation"]),
    ]
    return "\n\n".join(lines) + "\n"


def _training(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "Not reported."
    columns = ("epoch", "train_loss", "val_balanced_accuracy", "val_macro_auc", "images_per_second")
    return _table(columns, [[_number(row[column], 3) for column in columns] for row in report["history"]])


def _parity(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "Not verified: skinedge verify"
    keys = ("agreement", "balanced_accuracy", "fall", "macro_auc", "melanoma_sensitivity")
    rows = [["PyTorch, merged", *_figures(report["reference"], keys), ""]] if report["reference"] else []
    for name, file in report["files"].items():
        verdicts = [f"{gate['name']} {gate['verdict']}" for gate in file["gates"] if gate["verdict"] != "pass"]
        rows.append([name, *_figures(file["metrics"], keys), ", ".join(verdicts) or "pass"])
    return f"{report['images']}\n\n" + _table(("file", *keys, "gates"), rows)


def _latency(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "Not measured: skinedge bench"
    device = report["device"]
    libraries = ", ".join(f"{name} {version}" for name, version in device["versions"].items())
    columns = ("p50_ms", "p90_ms", "p99_ms", "load_ms", "first_inference_ms", "peak_rss_mib", "balanced_accuracy")
    rows = [
        [f"{row['file']} ({row['runtime']})", *_figures(row, columns), f"{row['size_bytes'] / 1e6:.2f}", str(row["n"])]
        for row in report["rows"]
    ]
    threads = report["rows"][0]["threads"]
    return f"{device['cpu']}, {threads} thread(s); {libraries}\n\n" + _table(("file", *columns, "size_mb", "n"), rows)


def _evaluation(report: Mapping[str, Any] | None) -> list[str]:
    return [] if report is None else [f"## Evaluation: {report['file']}", *sections(tables(report), 3)]


def _figures(source: Mapping[str, Any] | None, keys: Sequence[str]) -> list[str]:
    return [_number((source or {}).get(key), 3) for key in keys]


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return str(int(value)) if value == int(value) and abs(value) > 1 else f"{value:.{digits}f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
