"""A latency report of another device: read from its JSON, and kept in the run that it measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from skinedge import __version__
from skinedge.bundle import Bundle
from skinedge.errors import BundleError
from skinedge_bench.conditions import Conditions
from skinedge_bench.device import Device
from skinedge_bench.end_to_end import EndToEnd, PhotoSource
from skinedge_bench.floor import Floor
from skinedge_bench.latency_report import LatencyReport, Row
from skinedge_bench.peaks import Peaks
from skinedge_bench.protocol import Protocol
from skinedge_bench.workload import Workload

SCHEMA = "skinedge.bench/1"


def report_of(document: Mapping[str, Any], where: str) -> LatencyReport:
    """The report that a document of `LatencyReport.to_text` holds.

    Raises: BundleError when it is none, or another version's.
    """
    if document.get("schema") != SCHEMA:
        raise BundleError(f"not a report of bench ({SCHEMA})", where=where)
    try:
        conditions = document["conditions"]
        plain = {field.name for field in fields(LatencyReport)} & set(document)
        return LatencyReport(
            **{
                **{name: document[name] for name in plain},
                "device": Device(**_tuples(document["device"])),
                "protocol": Protocol(**_tuples(document["protocol"])),
                "rows": tuple(_row(row) for row in document["rows"]),
                "peaks": Peaks.from_document(document["peaks"]) if document.get("peaks") else None,
                "photos": PhotoSource(**document["photos"]) if document.get("photos") else None,
                "before": Conditions(**conditions["before"]) if conditions["before"] else None,
                "after": Conditions(**conditions["after"]) if conditions["after"] else None,
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"a damaged report of bench, or another version's ({error})", where=where) from None


def _row(raw: Mapping[str, Any]) -> Row:
    floor, chain = raw.get("floor"), raw.get("end_to_end")
    nested = {
        "floor": Floor(**{**floor, "workload": Workload(**floor["workload"])}) if floor else None,
        "end_to_end": EndToEnd(**_tuples(chain)) if chain else None,
    }
    return Row(**{**_tuples(raw), **nested})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def keep(bundle: Bundle, report: LatencyReport, device: str) -> None:
    """Write the report into the run: reports/latency.DEVICE.json, a stage of its own for each device."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", device).strip(".-") or "device"
    made_from = {row.file: row.sha256 for row in report.rows if row.in_run}
    with bundle.stage(f"bench.{name}", f"skinedge {__version__}", made_from) as stage:
        stage.path(f"reports/latency.{name}.json").write_text(report.to_text(), encoding="utf-8")
