"""Shared by the commands: the choice of a run, tables, notes and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skinedge.cli.tables import table
from skinedge.core import json_io
from skinedge.core.terminal import NOTICE, say
from skinedge.system.progress import note

if TYPE_CHECKING:
    from skinedge.run.run_directory import Bundle

__all__ = ["NOTICE", "note", "say", "table"]


def pick_run(run: Path | None, *, allow_synthetic: bool = True, writes: bool = False) -> Bundle:
    """Open the named run, else the newest complete one, else the bundled model; see `bundled_model.open_run`."""
    from skinedge.publish.bundled_model import open_run

    return open_run(run, allow_synthetic=allow_synthetic, writes=writes)


def pick_run_or_file(run: Path | None) -> Bundle | Path:
    """Return a named model file; else open a run for predictions, never an unnamed one trained on synthetic images."""
    return run if run is not None and run.is_file() else pick_run(run, allow_synthetic=False)


def emit_json(command: str, body: Mapping[str, Any], *, model_id: str | None, model_sha256: str | None) -> None:
    """Print a document as one line of JSON."""
    full = json_io.document(command, body, model_id=model_id, model_sha256=model_sha256)
    print(json.dumps(full, allow_nan=False), flush=True)


def figure(value: object, digits: int = 4) -> str | None:
    """Format a number for a table; None, shown as '-', if it is undefined."""
    return f"{value:.{digits}f}" if isinstance(value, float | int) and value == value else None
