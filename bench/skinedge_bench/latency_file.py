"""A latency report of another device: read from its JSON, and kept in the run that it measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from itertools import repeat
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from skinedge import __version__
from skinedge.errors import BundleError
from skinedge.run_directory import Bundle
from skinedge_bench.latency_report import LatencyReport

SCHEMA = "skinedge.bench/1"
PLAIN = {str: (str,), bool: (bool,), int: (int,), float: (float, int)}  # what JSON may hold for each


def report_of(document: Any, where: str) -> LatencyReport:
    """The report that a document of `LatencyReport.to_text` holds, as JSON gave it.

    Raises: BundleError when it is none, or another version's.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise BundleError(f"not a report of bench ({SCHEMA})", where=where)
    try:
        flat = {**document, **document["conditions"]}
        kinds = get_type_hints(LatencyReport)
        return LatencyReport(**{name: read_as(kind, flat[name]) for name, kind in kinds.items() if name in flat})
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"a damaged report of bench, or another version's ({error})", where=where) from None


def read_as(kind: Any, value: Any) -> Any:
    """What `dataclasses.asdict` and JSON made of a value of the type `kind`, turned back.

    Knows dataclasses, tuples, sequences, mappings, plain values and optional ones of them. Raises: TypeError,
    ValueError for a value, or the fields, of another type.
    """
    arguments, origin = get_args(kind), get_origin(kind)
    if origin is UnionType:
        return None if value is None else read_as(next(one for one in arguments if one is not NoneType), value)
    if origin is tuple:
        items = _expected(value, list)
        kinds = repeat(arguments[0], len(items)) if arguments[-1] is Ellipsis else arguments
        return tuple(read_as(one, item) for one, item in zip(kinds, items, strict=True))
    if origin is Sequence:
        return [read_as(arguments[0], item) for item in _expected(value, list)]
    if origin is Mapping:
        return {key: read_as(arguments[1], item) for key, item in _expected(value, dict).items()}
    if isinstance(kind, type) and is_dataclass(kind):
        kinds_of = get_type_hints(kind)
        return kind(**{name: read_as(kinds_of.get(name), item) for name, item in _expected(value, dict).items()})
    return value if kind is None else _expected(value, *PLAIN[kind])


def _expected(value: Any, *types: type) -> Any:
    """The value; raises TypeError where it is of none of these types."""
    if type(value) not in types:
        raise TypeError(f"{value!r:.40} where {types[0].__name__} should be")
    return value


def keep(bundle: Bundle, report: LatencyReport, device: str) -> None:
    """Write the report into the run: reports/latency.DEVICE.json, a stage of its own for each device."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", device).strip(".-") or "device"
    made_from = {row.file: row.sha256 for row in report.rows if row.in_run}
    with bundle.stage(f"bench.{name}", f"skinedge {__version__}", made_from) as stage:
        stage.path(f"reports/latency.{name}.json").write_text(report.to_text(), encoding="utf-8")
