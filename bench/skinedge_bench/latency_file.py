"""A latency report of another device: read from its JSON, and kept in the run that it measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from itertools import repeat
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from skinedge import __version__
from skinedge.bundle import Bundle
from skinedge.errors import BundleError
from skinedge_bench.latency_report import LatencyReport

SCHEMA = "skinedge.bench/1"


def report_of(document: Mapping[str, Any], where: str) -> LatencyReport:
    """The report that a document of `LatencyReport.to_text` holds.

    Raises: BundleError when it is none, or another version's.
    """
    if document.get("schema") != SCHEMA:
        raise BundleError(f"not a report of bench ({SCHEMA})", where=where)
    try:
        flat = {**document, **document["conditions"]}
        kinds = get_type_hints(LatencyReport)
        return LatencyReport(**{name: read_as(kind, flat[name]) for name, kind in kinds.items() if name in flat})
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"a damaged report of bench, or another version's ({error})", where=where) from None


def read_as(kind: Any, value: Any) -> Any:
    """What `dataclasses.asdict` and JSON made of a value of the type `kind`, turned back.

    Knows dataclasses, tuples, mappings and optional values of them. Raises: TypeError for other fields than the type's.
    """
    arguments = get_args(kind)
    if value is None:
        return None
    if get_origin(kind) is UnionType:
        return read_as(next(one for one in arguments if one is not NoneType), value)
    if get_origin(kind) is tuple:
        kinds = repeat(arguments[0], len(value)) if arguments[-1] is Ellipsis else arguments
        return tuple(read_as(one, item) for one, item in zip(kinds, value, strict=True))
    if get_origin(kind) is Mapping:
        return {key: read_as(arguments[1], item) for key, item in value.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        kinds_of = get_type_hints(kind)
        return kind(**{name: read_as(kinds_of.get(name), item) for name, item in value.items()})
    return value


def keep(bundle: Bundle, report: LatencyReport, device: str) -> None:
    """Write the report into the run: reports/latency.DEVICE.json, a stage of its own for each device."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", device).strip(".-") or "device"
    made_from = {row.file: row.sha256 for row in report.rows if row.in_run}
    with bundle.stage(f"bench.{name}", f"skinedge {__version__}", made_from) as stage:
        stage.path(f"reports/latency.{name}.json").write_text(report.to_text(), encoding="utf-8")
