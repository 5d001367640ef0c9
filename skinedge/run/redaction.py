"""Remove the places on a person's machine from what is published: reports and settings of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def without_places(training: Mapping[str, Any]) -> dict[str, Any]:
    """A reused split and a teacher are known by their names alone."""
    config = {**training["config"]}
    names = {key: Path(config.get(key, "")).name for key in ("split", "teacher")}
    return {**training, "config": {**config, **names}}


def without_place(images: str) -> str:
    """A parity report's sentence on its test images, as `verify` writes it, without the folder that it names."""
    rest = r"(?=(?:: only the golden vectors were replayed)?(?:; kept from an earlier report: [^;]*)?$)"
    return re.sub(rf" under .*?{rest}", "", images.replace(" is under ", " is there under "), flags=re.DOTALL)


def strings(value: Any, change: Callable[[str], str]) -> Any:
    """`value` with every string changed, at any depth."""
    if isinstance(value, dict):
        return {key: strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [strings(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
