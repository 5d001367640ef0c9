"""Documents of earlier versions in the names of today's verdicts; translated once, where a document is read.

Until `skinedge.verify/1` the verdict 'inconclusive' was called 'underpowered', in every kind of document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERIFY, EARLIER_VERIFY = "skinedge.verify/2", "skinedge.verify/1"
LADDER, BENCH = "skinedge.ladder/1", "skinedge.bench/1"  # their schemas stayed as they were
RENAMED = {"underpowered": "inconclusive"}
KEYS = ("verdict", "golden")
DEEPEST = 8  # levels; a gate of a manifest is at the 7th
UNCOUNTED = "; the golden vectors "  # began a clause that called every parity report without a failed gate passed


def current_report(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with today's verdicts and schema; a report without earlier verdicts is unchanged."""
    schema = document.get("schema")
    if schema == EARLIER_VERIFY:
        return {**renamed(document), "schema": VERIFY}
    if schema == LADDER:
        return dict(renamed(document))
    if schema == BENCH:
        return {**document, **{key: _current_bench(key, document[key]) for key in document}}
    return dict(document)


def renamed(value: Any, deepest: int = DEEPEST) -> Any:
    """Return plain values with today's verdicts. Values of an unexpected type stay, for the schema to refuse."""
    if deepest == 0:
        return value
    if isinstance(value, Mapping):
        return {
            key: RENAMED.get(item, item) if key in KEYS and isinstance(item, str) else renamed(item, deepest - 1)
            for key, item in value.items()
        }
    return [renamed(item, deepest - 1) for item in value] if isinstance(value, list) else value


def _current_bench(key: str, value: Any) -> Any:
    """Return one value of a benchmark report: its rows renamed, its recommendation without the earlier clause."""
    if key == "rows":
        return renamed(value)
    if key == "recommendation" and isinstance(value, Mapping) and isinstance(value.get("reasons"), list):
        reasons = [text.partition(UNCOUNTED)[0] if isinstance(text, str) else text for text in value["reasons"]]
        return {**value, "reasons": reasons}
    return value
