"""JSON as the project writes it: undefined numbers are null."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def finite(value: Any) -> Any:
    """`value` with every float that JSON cannot hold replaced by None, at any depth."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(
    command: str, body: Mapping[str, Any], *, model_id: str | None, model_sha256: str | None
) -> dict[str, Any]:
    """What `command` reports, under the header that every document has; undefined numbers are null."""
    header = {"schema": f"skinedge.{command}/1", "model_id": model_id, "model_sha256": model_sha256}
    return {**header, **{key: finite(value) for key, value in body.items()}}


def digest(value: Any) -> str:
    """sha256, in hex, of plain values as JSON; the order of a mapping's keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def to_text(document: Mapping[str, Any]) -> str:
    """The text of a report file."""
    return json.dumps(finite(document), indent=2, allow_nan=False) + "\n"
