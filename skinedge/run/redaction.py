"""Remove local paths from published reports and settings of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def without_places(training: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce the paths of a reused split, a teacher and a table outside the image folder to their file names."""
    config, data = {**training["config"]}, {**training["data"]}
    names = {key: map_strings(config.get(key, ""), lambda path: Path(path).name) for key in ("split", "teacher")}
    table = data.get("reading", {}).get("table", "")
    if Path(table).is_absolute():
        data["reading"] = {**data["reading"], "table": Path(table).name}
    return {**training, "config": {**config, **names}, "data": data}


def without_place(images: str) -> str:
    """Remove the folder from a parity report's sentence on its test images, as `verify` writes it."""
    rest = r"(?=(?:: only the golden vectors were replayed)?(?:; kept from an earlier report: [^;]*)?$)"
    return re.sub(rf" under .*?{rest}", "", images.replace(" is under ", " is there under "), flags=re.DOTALL)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Apply `change` to every string in a JSON value, at any depth."""
    if isinstance(value, dict):
        return {key: map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
