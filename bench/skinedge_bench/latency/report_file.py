"""Latency reports of other devices: read from JSON and written into the measured run."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from skinedge import __version__
from skinedge.core import json_io
from skinedge.core.errors import BundleError
from skinedge.run.run_directory import Bundle
from skinedge.stats.earlier_verdicts import current_report
from skinedge_bench.latency.report import LatencyReport

SCHEMA = "skinedge.bench/1"


def report_of(document: Any, where: str) -> LatencyReport:
    """Build a report from the parsed JSON of `LatencyReport.to_text`.

    Raises: BundleError for another document, or another version's.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BundleError(f"not a report of bench ({SCHEMA})", where=where)
    damaged = json_io.refusal("a damaged report of bench, or another version's")
    conditions = json_io.build(document.get("conditions"), dict[str, Any], where, error=damaged)
    flat = {**current_report(document), **conditions}
    values = {field.name: flat[field.name] for field in fields(LatencyReport) if field.name in flat}
    return json_io.build(values, LatencyReport, where, error=damaged)


def save_report(bundle: Bundle, report: LatencyReport, device: str) -> None:
    """Write the report into the run as reports/latency.DEVICE.json, one stage per device."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", device).strip(".-") or "device"
    made_from = {row.file: row.sha256 for row in report.rows if row.in_run}
    with bundle.stage(f"bench.{name}", f"skinedge {__version__}", made_from) as stage:
        stage.path(f"reports/latency.{name}.json").write_text(report.to_text(), encoding="utf-8")
